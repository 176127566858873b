"""What a row of the tables is, and the four kinds of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SAME, OTHER, IGNORED, REFUSED = "same", "other name", "ignored", "refused"


@dataclass(frozen=True)
class Row:
    """One option, under all its names.

    value: "" for an option without one, "[on|off]" where one of these words may follow, else a value that can
    be given, as an example.
    words: why it is ignored, or what to do where it is refused; a remark on what it becomes.
    becomes: edgeq's words for it, {} being the value. "" where edgeq does so anyhow, None where the command
    takes the option as it is spelled.
    values: values with another fate, and what these become, as numbers where they are numbers: a sampler's 0
    that turns it off.
    """

    names: tuple[str, ...]
    value: str
    what: str
    words: str = ""
    becomes: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that may follow an option whose value may be left out."""
        return tuple(self.value[1:-1].split("|")) if self.value.startswith("[") else ()

    def fate(self, value: str) -> str | None:
        """edgeq's words for the option with this value; None where it is ignored or refused."""
        for given, words in self.values.items():
            if equal(given, value):
                return words
        return self.becomes


@dataclass(frozen=True)
class Table:
    """Rows of one program, and the commands of edgeq in which they hold."""

    program: str
    commands: tuple[str, ...]
    rows: tuple[Row, ...]


def equal(one: str, other: str) -> bool:
    """Whether two values are the same word or number."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


def same(names: str, value: str = "", words: str = "", *, becomes: str | None = None) -> Row:
    """An option that means here what it means there: edgeq's own, or what edgeq does without being told."""
    return Row(tuple(names.split()), value, SAME, words, becomes)


def other(
    names: str, value: str, becomes: str | None, words: str = "", *, values: Mapping[str, str] | None = None
) -> Row:
    """An option that edgeq calls otherwise."""
    return Row(tuple(names.split()), value, OTHER, words, becomes, values or {})


def ignored(names: str, value: str, words: str) -> Row:
    """An option without which the answer is the same."""
    return Row(tuple(names.split()), value, IGNORED, words)


def refused(names: str, value: str, words: str, *, off: str | None = None) -> Row:
    """An option without which the answer would be another; with the value `off` it asks for nothing."""
    return Row(tuple(names.split()), value, REFUSED, words, None, {} if off is None else {off: ""})
