"""edgeq: run block-quantized language models on CPUs, from Python, with nothing to build.

    with edgeq.load("model.edgeq") as model:
        for piece in model.generate("Once upon a time"):
            print(piece, end="", flush=True)

Importing edgeq is cheap: the engine, and with it numba, is imported when `load` or `Model` is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]

if TYPE_CHECKING:
    from edgeq.engine import Model, load


def __getattr__(name: str) -> Any:
    if name not in ("Model", "load"):
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    from edgeq import engine

    return getattr(engine, name)


def __dir__() -> list[str]:
    return sorted(__all__)
