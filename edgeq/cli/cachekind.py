"""The kind of KV cache that a file just made is to run with: what its keys turn out to need."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from edgeq.cli import terminal
from edgeq.cli.engine import load_file


def examine(path: Path, quiet: bool) -> dict[str, Any]:
    """The word for the header that says it, for a model that predicts tokens and whose keys may be of any
    size; none for others.
    """
    from edgeq.cache import DEFAULT
    from edgeq.evaluate import cachekind
    from edgeq.formats import open_model
    from edgeq.models import family

    with open_model(path) as file:
        asked = cachekind.asks(file) and not family(file.family).Config.WHOLE
    terminal.Status(quiet).clear()  # of a bar that the conversion has filled
    found = cachekind.choose(path, text(), partial(load_file, quiet=quiet)) if asked else None
    if found is None:
        return {}
    if found.kind != DEFAULT and not quiet:
        cost = ", ".join(
            f"{name} {'no finite logits' if kld is None else f'{kld:.4f} nats'}"
            for name, kld in found.divergence.items()
        )
        terminal.note(
            f"its keys do not fit in 8 bits: the KV cache is {found.kind} unless --kv is given, {cost} from "
            f"float32 on {found.tokens} tokens of edgeq's own text (at most {cachekind.BOUND})"
        )
    return {"cache": found.words()}


def text() -> str:
    """Of all domains of the text that comes with edgeq, some."""
    from edgeq.calibrate.texts import default_texts, mix

    return "\n\n".join(document.plain for document in mix(default_texts(), bytes=8000))
