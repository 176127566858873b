"""--kv: the kind of KV cache, in edgeq's words or llama.cpp's."""

from __future__ import annotations

from typing import Any

import click


class Kind(click.ParamType):
    """A kind of KV cache: edgeq's name, or llama.cpp's for the same."""

    name = "KIND"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = str(value).lower()
        if word not in KINDS:
            wrong = f"{value!r} is not one of q8 (or q8_0), f16, f32"
            self.fail(f"{wrong}: {INSTEAD[word]}" if word in INSTEAD else wrong, param, ctx)
        return KINDS[word]


KINDS = {"q8": "q8", "q8_0": "q8", "f16": "f16", "f32": "f32"}
INSTEAD = {
    "bf16": "f32 holds every bf16 number, f16 takes as little room",
    **dict.fromkeys(("q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"), "q8 is the smallest"),
}


def one_kind(_: click.Context, __: click.Parameter, kinds: tuple[str, ...]) -> str:
    """The kind that was given; keys and values cannot differ."""
    if len(set(kinds)) > 1:
        given = " and ".join(dict.fromkeys(kinds))
        raise click.UsageError(f"keys and values in the KV cache are of one kind, but {given} are given")
    return kinds[0]
