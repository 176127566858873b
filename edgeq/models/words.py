"""What words of a config may be: each kind reads a value, or refuses it by key, value and what would be
right.

A family's own words are fields of its Config made with `word`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from edgeq.errors import EdgeqError, UnsupportedError


def refuse(key: str, value: object, right: str, error: type[EdgeqError] = UnsupportedError) -> NoReturn:
    """Raise the one sentence that names a config's key, its value and what would be right."""
    shown = repr(value)
    raise error(f"config: {key} is {shown if len(shown) <= 80 else shown[:77] + '...'}, but {right}")


def same(value: object, accepted: object) -> bool:
    """Whether two values of a config are equal; unlike Python, 1 is not true and 0 is not false."""
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)


@dataclass(frozen=True)
class Word:
    """A kind of word. `null`: null, too, is a value."""

    null: bool = field(default=False, kw_only=True)

    @property
    def right(self) -> str:
        """What is needed, for a sentence."""
        raise NotImplementedError

    def fits(self, value: Any) -> bool:
        raise NotImplementedError

    def read(self, raw: Mapping[str, Any], key: str, error: type[EdgeqError], layers: int = 0) -> Any:
        """raw[key], as it is kept; absent, null where it is none, or another kind of value is refused.
        `layers`: how many blocks the model has.
        """
        value = raw.get(key)
        if value is None and self.null and key in raw:
            return None
        if value is None:
            right = f"{'null or ' if self.null else ''}{self.right}"
            raise error(f"config: {key} is {'null' if key in raw else 'missing'}; {right} is needed")
        if not self.fits(value):
            refuse(key, value, f"{'null or ' if self.null else ''}{self.right} is needed", error)
        return value


@dataclass(frozen=True)
class Whole(Word):
    low: int
    high: int

    @property
    def right(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def fits(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high


@dataclass(frozen=True)
class Real(Word):
    """A number above `above` and at most `most`."""

    above: float
    most: float

    @property
    def right(self) -> str:
        return f"a number above {self.above:g} and at most {self.most:g}"

    def fits(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.above < value <= self.most

    def read(self, raw: Mapping[str, Any], key: str, error: type[EdgeqError], layers: int = 0) -> Any:
        value = super().read(raw, key, error, layers)
        return value if value is None else float(value)


@dataclass(frozen=True)
class Truth(Word):
    @property
    def right(self) -> str:
        return "true or false"

    def fits(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Choice(Word):
    options: tuple[str, ...]

    @property
    def right(self) -> str:
        return " or ".join(repr(option) for option in self.options)

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.options


@dataclass(frozen=True)
class Each(Word):
    """A list with such a word for each block; kept as a tuple."""

    of: Word

    @property
    def right(self) -> str:
        return f"a list with {self.of.right} for each layer"

    def fits(self, value: Any) -> bool:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(map(self.of.fits, value))

    def read(self, raw: Mapping[str, Any], key: str, error: type[EdgeqError], layers: int = 0) -> Any:
        value = super().read(raw, key, error, layers)
        if value is not None and len(value) != layers:
            refuse(key, value, f"{self.right} is needed, of which there are {layers}", error)
        return value if value is None else tuple(value)


@dataclass(frozen=True)
class Factors(Word):
    """Numbers above 0 by name; an absent word is none."""

    @property
    def right(self) -> str:
        return "an object of numbers above 0"

    def fits(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(Real(0, 1e6).fits(number) for number in value.values())

    def read(self, raw: Mapping[str, Any], key: str, error: type[EdgeqError], layers: int = 0) -> Any:
        found = super().read({key: raw.get(key) or {}}, key, error, layers)
        return {name: float(number) for name, number in found.items()}


def word(kind: Word) -> Any:
    """A dataclass's field that is a config's word of this kind."""
    return field(metadata={"word": kind})


FULL, SLIDING = "full_attention", "sliding_attention"
LAYER_TYPES = Each(Choice((FULL, SLIDING)))
