"""The options of guessed text: what guesses, and how much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine
from edgeq.cli.options import combine, take
from edgeq.cli.sources import resolve
from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.speculate import Drafting

PROMPT = "prompt"

# Ranges are checked where the values are used (edgeq.speculate), so that the library and the command say the
# same.
draft_options = combine(
    click.option(
        "--draft",
        multiple=True,
        metavar="prompt|FILE",
        help="Guess several tokens for a pass: from what the text said, or with a small model. Same text.",
    ),
    click.option(
        "--draft-max", type=int, default=16, metavar="N", help="Guesses of a pass at the most.  [default: 16]"
    ),
    click.option(
        "--draft-min", type=int, default=0, metavar="N", help="Fewer guesses are left out.  [default: 0]"
    ),
    click.option(
        "--draft-p-min",
        type=float,
        default=0.4,
        metavar="P",
        help="A model's guesses end before one that is less likely.  [default: 0.4]",
    ),
)


@contextmanager
def drafting(asked: dict[str, Any], **engine_options: Any) -> Iterator[Drafting | None]:
    """What `take_draft` took, ready to guess with; a model is loaded, and closed at the end.

    engine_options: of `engine.load_file`, the model's own."""
    from edgeq.speculate import Drafting

    limits = {"most": asked["most"], "least": asked["least"], "p_min": asked["p_min"]}
    made = Drafting(PROMPT, **limits)
    if asked["name"] is None:
        yield None
    elif asked["name"] == PROMPT:
        yield made
    else:
        quiet = engine_options["quiet"]
        with engine.load_file(resolve(asked["name"], quiet=quiet), **engine_options) as model:
            yield Drafting(model, **limits)


def take_draft(options: dict[str, Any]) -> dict[str, Any]:
    """What a command's options say of guesses, for `drafting`. UsageError for two things to guess with.

    A number as --draft is llama.cpp's --draft-max."""
    taken = take(options, "draft", "draft_max", "draft_min", "draft_p_min")
    numbers = [int(word) for word in taken["draft"] if word.isdecimal()]
    names = sorted({word for word in taken["draft"] if not word.isdecimal()})
    if len(names) > 1:
        raise UsageError(f"two drafts are given, {names[0]} and {names[1]}: give one of them")
    return {
        "name": names[0] if names else None,
        "most": numbers[-1] if numbers else taken["draft_max"],
        "least": taken["draft_min"],
        "p_min": taken["draft_p_min"],
    }
