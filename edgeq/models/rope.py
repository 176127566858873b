"""Rotary positions: from a config's words to the frequencies that are stored in the file.

Knows nothing of tensors or files. Angles at run time are float32(position) * frequency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError

TYPES = ("default", "linear", "llama3", "yarn", "longrope", "proportional")


@dataclass(frozen=True)
class Rope:
    """How a checkpoint turns positions into angles."""

    theta: float = 10000.0  # the reference's, for every family here
    kind: str = "default"  # one of TYPES
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: float = 8192.0
    beta_fast: float = 32.0  # turns within the original context: pairs that make more are kept,
    beta_slow: float = 1.0  # those that make fewer are slowed
    truncate: bool = True
    part: float = 1.0  # of a head's dimensions, that turns; of a "proportional" one's, whose others have 0
    divisors: tuple[float, ...] = ()  # of frequencies, one for each pair
    attention_factor: float = 1.0  # that cosines and sines are multiplied by

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any], *, theta: float = 10000.0, part: float | None = None) -> Self:
        """Read `rope_parameters` (transformers 5) or `rope_scaling`, and `rope_theta`, which is theta where
        it is absent. part: of each head, that turns where nothing says so; None for a family of which all
        does.

        UnsupportedError for a kind that is not known, and where two places say two things.
        """
        objects = {key: raw[key] for key in ("rope_parameters", "rope_scaling") if raw.get(key)}
        for key, value in objects.items():
            if not isinstance(value, Mapping) or any(isinstance(v, Mapping) for v in value.values()):
                raise UnsupportedError(f"config: {key} is {value!r:.80}, but one object of numbers is needed")
        found = [cls._read(key, words, raw, theta, part) for key, words in objects.items()]
        for field in fields(cls) if len(found) == 2 else ():
            one, other = (getattr(rope, field.name) for rope in found)
            if one != other:
                raise UnsupportedError(
                    f"config: rope_parameters means {field.name} {one!r}, but rope_scaling {other!r}; "
                    "the two must agree"
                )
        return found[0] if found else cls._read("rope_scaling", {}, raw, theta, part)

    @classmethod
    def _read(
        cls, key: str, words: Mapping[str, Any], raw: Mapping[str, Any], theta: float, usual: float | None
    ) -> Self:
        """What the object `key` of the config `raw` says; the reference reads some words beside it too."""

        def word(name: str, where: Mapping[str, Any], path: str) -> Any:
            inside, other = words.get(name), where.get(path)
            if inside is not None and other is not None and inside != other:
                path = path if where is raw else f"{key}.{path}"
                raise UnsupportedError(
                    f"config: {key}.{name} is {inside!r:.60}, but {path} is {other!r:.60}; the two must agree"
                )
            return other if inside is None else inside

        kind = word("rope_type", words, "type")
        kind = "default" if kind is None else "longrope" if kind == "su" else kind
        if kind not in TYPES:
            known = ", ".join(TYPES)
            raise UnsupportedError(f"config: {key}.rope_type is {kind!r:.80}, but only {known} are supported")
        part = word("partial_rotary_factor", raw, "partial_rotary_factor")
        if kind == "proportional":
            if usual is not None:
                raise UnsupportedError(
                    f"config: {key}.rope_type is {kind!r}, but here are frequencies for a part of a head"
                )
            usual = 1.0
        if usual is None and part not in (None, 1):
            raise UnsupportedError(
                f"config: {key}.partial_rotary_factor is {part!r:.80}, but only 1 is supported"
            )
        values: dict[str, Any] = {"theta": theta}
        if usual is not None:
            values["part"] = usual if part is None else _number(part, "partial_rotary_factor", 0, above=True)
            if values["part"] > 1:
                raise UnsupportedError(f"config: partial_rotary_factor is {part!r}, but at most 1 is needed")
        found = word("rope_theta", raw, "rope_theta")
        if found is not None:
            values["theta"] = _number(found, "rope_theta", 1.0, above=True)
        if kind in ("linear", "llama3", "yarn") or (kind == "proportional" and "factor" in words):
            values["factor"] = _number(words.get("factor"), f"{key}.factor", 1.0)
        if kind == "llama3":
            for name in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings"):
                value = word(name, raw if name.startswith("original") else words, name)
                values[name] = _number(value, f"{key}.{name}", 0.0, above=True)
            if values["high_freq_factor"] <= values["low_freq_factor"]:
                low, high = values["low_freq_factor"], values["high_freq_factor"]
                raise UnsupportedError(
                    f"config: {key}.high_freq_factor is {high}, but more than {low} is needed"
                )
        if kind == "yarn":
            values |= _yarn(key, words, raw, values["factor"])
        if kind == "longrope":
            values |= _longrope(key, words, raw)
        return cls(kind=kind, **values)

    @np.errstate(all="ignore")  # at the edges of float32; what is not finite is refused when written
    def inverse_frequencies(self, head_dim: int) -> npt.NDArray[np.float32]:
        """float32 [pairs that turn] in radians a position, by the formulas and in the precision of
        transformers.

        The power is taken in float64 and rounded once, so that no bit depends on the machine's float32 pow.
        """
        whole = self.kind == "proportional"
        turned = head_dim if whole else int(head_dim * self.part)
        exponents = np.arange(0, turned, 2, dtype=np.float32) / np.float32(turned)
        theta = float(np.float32(self.theta))
        powers = np.array([math.pow(theta, float(e)) for e in exponents], dtype=np.float32)
        frequencies = np.float32(1) / powers
        if self.kind in ("linear", "proportional"):
            frequencies = frequencies / np.float32(self.factor)
        if whole:  # pairs are apart as a head's halves are, of which the first ones turn
            frequencies[int(self.part * head_dim // 2) :] = 0
        if self.kind == "llama3":
            frequencies = self._llama3(frequencies)
        if self.kind == "yarn":
            frequencies = self._yarn(frequencies, turned)
        if self.divisors:
            if len(self.divisors) != len(frequencies):
                raise UnsupportedError(
                    f"config: the rotation has {len(self.divisors)} factors for {len(frequencies)} pairs"
                )
            frequencies = np.float32(1) / (np.array(self.divisors, np.float32) * powers)
        return frequencies.astype(np.float32)

    def _yarn(self, frequencies: npt.NDArray[np.float32], turned: int) -> npt.NDArray[np.float32]:
        """Keep pairs that turn often within the original context, slow those that do not, and blend between
        along the pairs' numbers.
        """

        def pair(turns: float) -> float:
            ratio = self.original_max_position_embeddings / (turns * 2 * math.pi)
            return turned * math.log(ratio) / (2 * math.log(self.theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, turned - 1)
        high += 0.001 if low == high else 0
        ramp = (np.arange(turned // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
        slowed = np.clip(ramp, 0, 1)
        return frequencies / np.float32(self.factor) * slowed + frequencies * (np.float32(1) - slowed)

    def _llama3(self, frequencies: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Divide the slow frequencies by the factor, keep the fast ones, and blend between."""
        low, high = np.float32(self.low_freq_factor), np.float32(self.high_freq_factor)
        factor, context = np.float32(self.factor), np.float32(self.original_max_position_embeddings)
        wavelengths = np.float32(2 * math.pi) / frequencies
        smooth = (context / wavelengths - low) / (high - low)
        blended = (1 - smooth) * frequencies / factor + smooth * frequencies
        slow, fast = wavelengths > context / low, wavelengths < context / high
        return np.where(slow, frequencies / factor, np.where(fast, frequencies, blended))


def _yarn(key: str, words: Mapping[str, Any], raw: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The words of YaRN (Peng et al. 2023) that have defaults, as transformers reads them."""
    found: dict[str, Any] = {}
    for name, usual in (("beta_fast", 32.0), ("beta_slow", 1.0)):
        found[name] = _number(words.get(name) or usual, f"{key}.{name}", 0.0, above=True)
    original = words.get("original_max_position_embeddings") or raw.get("max_position_embeddings")
    found["original_max_position_embeddings"] = _number(
        original, f"{key}.original_max_position_embeddings", 0.0, above=True
    )
    truncate = words.get("truncate", True)
    if not isinstance(truncate, bool):
        raise UnsupportedError(f"config: {key}.truncate is {truncate!r:.80}, but true or false is needed")
    found["truncate"] = truncate
    given = words.get("attention_factor")
    scales = [words.get(name) for name in ("mscale", "mscale_all_dim")]
    if given is not None:
        found["attention_factor"] = _number(given, f"{key}.attention_factor", 0.0, above=True)
    elif all(scales):
        one, other = (_number(scale, f"{key}.mscale", 0.0, above=True) for scale in scales)
        found["attention_factor"] = yarn_factor(factor, one) / yarn_factor(factor, other)
    else:
        found["attention_factor"] = yarn_factor(factor)
    return found


def yarn_factor(factor: float, scale: float = 1.0) -> float:
    """What YaRN multiplies cosines and sines by, where nothing else is said."""
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _longrope(key: str, words: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """LongRoPE (Ding et al. 2024) for sequences up to the original context: its short factors."""
    original = raw.get("original_max_position_embeddings") or words.get("original_max_position_embeddings")
    most = raw.get("max_position_embeddings")
    name = "original_max_position_embeddings"
    first = _number(original if original is not None else most, name, 1.0, above=True)
    found: dict[str, Any] = {name: first, "divisors": divisors(key, words, "short_factor")}
    given = words.get("attention_factor")
    if given is not None:
        found["attention_factor"] = _number(given, f"{key}.attention_factor", 0.0, above=True)
        return found
    factor = words.get("factor")
    if factor is None or original is not None:
        factor = _number(most, "max_position_embeddings", 1.0) / first
    factor = _number(factor, f"{key}.factor", 0.0, above=True)
    found["attention_factor"] = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(first))
    return found


def divisors(key: str, words: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """A list of positive numbers."""
    value = words.get(name)
    if not isinstance(value, list) or not value:
        raise UnsupportedError(f"config: {key}.{name} is {value!r:.80}, but a list of numbers is needed")
    return tuple(_number(number, f"{key}.{name}", 0.0, above=True) for number in value)


def _number(value: Any, name: str, low: float, *, above: bool = False) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= 1e12 or (above and value == low):
        right = f"{'above' if above else 'at least'} {low:g} and at most 1e12"
        found = "missing" if value is None else repr(value)[:80]
        raise UnsupportedError(f"config: {name} is {found}, but a number {right} is needed")
    return float(value)
