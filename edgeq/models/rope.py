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

TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Rope:
    """How a checkpoint turns positions into angles."""

    theta: float = 10000.0  # the reference's, for every family here
    kind: str = "default"  # one of TYPES
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: float = 8192.0

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """Read `rope_parameters` (transformers 5) or `rope_scaling`, and `rope_theta`.

        UnsupportedError for a kind that is not known, and where two places say two things.
        """
        objects = {key: raw[key] for key in ("rope_parameters", "rope_scaling") if raw.get(key)}
        for key, value in objects.items():
            if not isinstance(value, Mapping) or any(isinstance(v, Mapping) for v in value.values()):
                raise UnsupportedError(f"config: {key} is {value!r:.80}, but one object of numbers is needed")
        found = [cls._read(key, words, raw) for key, words in objects.items()]
        for field in fields(cls) if len(found) == 2 else ():
            one, other = (getattr(rope, field.name) for rope in found)
            if one != other:
                raise UnsupportedError(
                    f"config: rope_parameters means {field.name} {one!r}, but rope_scaling {other!r}; "
                    "the two must agree"
                )
        return found[0] if found else cls._read("rope_scaling", {}, raw)

    @classmethod
    def _read(cls, key: str, words: Mapping[str, Any], raw: Mapping[str, Any]) -> Self:
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
        kind = "default" if kind is None else kind
        if kind not in TYPES:
            known = ", ".join(TYPES)
            raise UnsupportedError(f"config: {key}.rope_type is {kind!r:.80}, but only {known} are supported")
        part = word("partial_rotary_factor", raw, "partial_rotary_factor")
        if part not in (None, 1):
            raise UnsupportedError(
                f"config: {key}.partial_rotary_factor is {part!r:.80}, but only 1 is supported"
            )
        theta = word("rope_theta", raw, "rope_theta")
        values: dict[str, float] = {}
        if theta is not None:
            values["theta"] = _number(theta, "rope_theta", 1.0, above=True)
        if kind != "default":
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
        return cls(kind=kind, **values)

    @np.errstate(all="ignore")  # at the edges of float32; what is not finite is refused when written
    def inverse_frequencies(self, head_dim: int) -> npt.NDArray[np.float32]:
        """float32 [head_dim/2] in radians a position, by the formulas and in the precision of transformers.

        The power is taken in float64 and rounded once, so that no bit depends on the machine's float32 pow.
        """
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        theta = float(np.float32(self.theta))
        powers = np.array([math.pow(theta, float(e)) for e in exponents], dtype=np.float32)
        frequencies = np.float32(1) / powers
        if self.kind == "linear":
            frequencies = frequencies / np.float32(self.factor)
        if self.kind == "llama3":
            frequencies = self._llama3(frequencies)
        return frequencies.astype(np.float32)

    def _llama3(self, frequencies: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Divide the slow frequencies by the factor, keep the fast ones, and blend between."""
        low, high = np.float32(self.low_freq_factor), np.float32(self.high_freq_factor)
        factor, context = np.float32(self.factor), np.float32(self.original_max_position_embeddings)
        wavelengths = np.float32(2 * math.pi) / frequencies
        smooth = (context / wavelengths - low) / (high - low)
        blended = (1 - smooth) * frequencies / factor + smooth * frequencies
        slow, fast = wavelengths > context / low, wavelengths < context / high
        return np.where(slow, frequencies / factor, np.where(fast, frequencies, blended))


def _number(value: Any, name: str, low: float, *, above: bool = False) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= 1e12 or (above and value == low):
        right = f"{'above' if above else 'at least'} {low:g} and at most 1e12"
        found = "missing" if value is None else repr(value)[:80]
        raise UnsupportedError(f"config: {name} is {found}, but a number {right} is needed")
    return float(value)
