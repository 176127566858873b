"""--kv: the kind of KV cache, in edgeq's words or in llama.cpp's, which names keys' and values' apart."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

HALVES = {"k=": "keys", "v=": "values"}
KINDS = ("q8", "k8v4", "q4", "q2", "f16", "f32")  # a test compares them with `edgeq.cache`
WORDS = {**{kind: kind for kind in KINDS}, "q8_0": "q8", "q4_0": "q4", "q4_1": "q4"}
PAIRS = {("q8", "q4"): "k8v4"}  # kinds of keys and of values that are not the same
CHOICES = "q8 (or q8_0), k8v4, q4 (or q4_0, q4_1), q2, f16, f32"
INSTEAD = {
    "bf16": "f32 holds every bf16 number, f16 takes as little room",
    "iq4_nl": "q4 takes as little room",
    **dict.fromkeys(("q5_0", "q5_1"), "q8 is better and q4 smaller"),
}


class Given(NamedTuple):
    """A kind, of keys or of values or, as "", of both."""

    half: str
    kind: str


class Kind(click.ParamType):
    """A kind of KV cache: edgeq's name, or llama.cpp's for the same; k=KIND is that of the keys alone."""

    name = "KIND"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Given:
        if isinstance(value, Given):
            return value
        word = str(value).lower()
        half = word[:2] if word[:2] in HALVES else ""
        word = word[len(half) :]
        if word not in WORDS:
            wrong = f"{str(value)[len(half) :]!r} is not one of {CHOICES}"
            self.fail(f"{wrong}: {INSTEAD[word]}" if word in INSTEAD else wrong, param, ctx)
        return Given(half, WORDS[word])


def one_kind(_: click.Context, __: click.Parameter, given: tuple[Given, ...]) -> str | None:
    """The kind of cache that was given; where it is keys' or values' alone, of both. Of one named twice the
    last counts. None where nothing is given.
    """
    if not given:
        return None
    of = dict(given)
    if "" in of and len(set(of.values())) > 1:
        names = " and ".join(dict.fromkeys(of.values()))
        raise click.UsageError(f"one kind of KV cache is needed, but {names} are given")
    keys = of.get("k=") or of.get("v=") or of[""]
    values = of.get("v=") or keys
    if keys == values:
        return keys
    if (keys, values) not in PAIRS:
        there = ", ".join(f"{k} and {v}" for k, v in PAIRS)
        raise click.UsageError(
            f"no KV cache has {keys} keys and {values} values: both are of one kind, or {there}"
        )
    return PAIRS[keys, values]
