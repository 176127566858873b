"""edgeq: run block-quantized language models on CPUs, from Python, with nothing to build.

    with edgeq.load("model.edgeq") as model:
        for piece in model.generate("Once upon a time"):
            print(piece, end="", flush=True)

Importing edgeq is cheap: the engine, and with it numba, is imported when `load` or `Model` is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgeq import errors
    from edgeq.chat.conversation import Conversation
    from edgeq.converters import convert
    from edgeq.engine import Model, load

# what users need -> the module that has it, imported when it is first used; None: it is a module itself
HOMES = {
    "Conversation": "edgeq.chat.conversation",
    "Model": "edgeq.engine",
    "convert": "edgeq.converters",
    "errors": None,
    "load": "edgeq.engine",
}
__all__ = ["Conversation", "Model", "__version__", "convert", "errors", "load"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    from importlib import import_module

    home = HOMES[name]
    return import_module(f"edgeq.{name}") if home is None else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
