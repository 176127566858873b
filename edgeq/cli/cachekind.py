"""The kind of KV cache that a file is to run with: what was asked for, or what its keys need."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgeq.cli import terminal
from edgeq.cli.engine import load_file


def settle(target: Path, kind: str | None, quiet: bool) -> str:
    """The kind that a file just written is run with. One that was asked for, and what a model whose keys may
    be of any size turns out to need, is written into its header.
    """
    from edgeq.cache import DEFAULT
    from edgeq.formats import annotate, open_model

    if kind is not None:
        annotate(target, {"cache": {"kind": kind}})
        return kind
    from edgeq.evaluate import cachekind

    with open_model(target) as file:
        asked = cachekind.asks(file)
    found = cachekind.choose(target, text(), partial(load_file, quiet=quiet)) if asked else None
    if found is None:
        return DEFAULT
    annotate(target, {"cache": found.words()})
    if found.kind != DEFAULT and not quiet:
        cost = ", ".join(
            f"{name} {'no finite logits' if kld is None else f'{kld:.4f} nats'}"
            for name, kld in found.divergence.items()
        )
        terminal.note(
            f"its keys do not fit in 8 bits: the KV cache is {found.kind} unless --kv is given, {cost} from "
            f"float32 on {found.tokens} tokens of edgeq's own text (at most {cachekind.BOUND})"
        )
    return found.kind


def text() -> str:
    """Of all domains of the text that comes with edgeq, some."""
    from edgeq.calibrate.texts import default_texts, mix

    return "\n\n".join(document.plain for document in mix(default_texts(), bytes=8000))
