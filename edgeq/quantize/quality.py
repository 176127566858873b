"""Presets: what is done to each matrix, and with how much text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeq.arguments import whole
from edgeq.errors import UsageError, near

from .methods import METHODS

LADDER = ("search", "importance", "gptq", "descent")


@dataclass(frozen=True)
class Quality:
    """A preset: steps for each matrix, tokens to learn from, and whether each layer is fitted to what the
    quantized layers before it give.
    """

    name: str
    steps: tuple[str, ...]
    tokens: int
    follow: bool
    about: str


QUALITIES: Mapping[str, Quality] = {
    quality.name: quality
    for quality in (
        Quality("fast", ("finer",), 0, False, "a finer search for scales, without data"),
        Quality("good", LADDER, 32768, False, "with calibration: importance, GPTQ, descent"),
        Quality("best", LADDER, 65536, True, "layers fitted to the quantized ones before them, too"),
    )
}


def preset(quality: str, steps: Sequence[str] | None = None, tokens: int | None = None) -> Quality:
    """A row of QUALITIES, with other steps or tokens where they are given. UsageError for what is none."""
    if quality not in QUALITIES:
        raise UsageError(f"quality is {quality!r:.80}, but must be one of {', '.join(QUALITIES)}")
    found = QUALITIES[quality]
    for name in steps or ():
        if name not in METHODS:
            raise UsageError(
                f"method {name!r:.80} is unknown; known are {', '.join(METHODS)}{near(name, METHODS)}"
            )
    if steps and not METHODS[steps[0]].begins:
        begin = " or ".join(name for name, row in METHODS.items() if row.begins)
        raise UsageError(f"method {steps[0]} goes on from another: begin with {begin}")
    tokens = None if tokens is None else whole("tokens", tokens)
    needs = any(METHODS[name].data for name in steps or ())
    return Quality(
        found.name,
        tuple(steps or found.steps),
        tokens or found.tokens or QUALITIES["good"].tokens if needs or found.tokens else 0,
        found.follow,
        found.about,
    )
