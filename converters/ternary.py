"""Checkpoints whose matrices are -1, 0 and 1 times a number (BitNet b1.58): packed four to a byte, or as the
floats that were trained and that the reference rounds so at every pass.

Their numbers become the codes of t2, none of them rounded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from edgeq.converters.source import Array, SourceTensor, number_of
from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats import SCHEMES, Parts, Scheme, row_blocks
from edgeq.models.words import refuse, same

KIND = "ternary"
SCHEME = SCHEMES["t2"]
LEAST = 1e-5  # of the mean magnitude that masters are divided by, in the reference
# Words of such a quantization_config: what is known of each, of which the first is what an absent one means.
WORDS: Mapping[str, tuple[Any, ...]] = {
    "linear_class": ("bitlinear", "autobitlinear"),
    "quantization_mode": ("offline", "online"),
    "use_rms_norm": (False,),
}


@dataclass(frozen=True)
class Form:
    """How matrices are stored: packed beside a scale that divides or multiplies, or as floats."""

    packed: bool
    divides: bool


def form_of(raw: Mapping[str, Any]) -> Form | None:
    """What a config says; None for one of another kind. UnsupportedError for what is not known of this."""
    words = raw.get("quantization_config")
    if not isinstance(words, Mapping) or words.get("quant_method") != "bitnet":
        return None
    found = {}
    for key, known in WORDS.items():
        value = found[key] = words.get(key, known[0])
        if not any(same(value, one) for one in known):
            refuse(f"quantization_config.{key}", value, f"only {' or '.join(map(repr, known))} is supported")
    packed, divides = found["quantization_mode"] == "offline", found["linear_class"] == "bitlinear"
    if divides and not packed:
        refuse("quantization_config.quantization_mode", "online", "bitlinear has packed matrices alone")
    left = words.get("modules_to_not_convert")
    if not packed and left not in (None, [], ["lm_head"]):
        refuse("quantization_config.modules_to_not_convert", left, "null is needed beside 'online'")
    return Form(packed, divides)


@dataclass(frozen=True)
class Ternary(SourceTensor):
    """A matrix of -1, 0 and 1 times one float32."""

    @property
    def held(self) -> bool:
        return True

    @property
    def scheme(self) -> Scheme:
        return SCHEME

    @property
    def scale(self) -> float:
        raise NotImplementedError

    def values(self, rows: slice) -> Array:
        """uint8 [n, columns] of some rows: 0, 1, 2 for -1, 0, 1."""
        raise NotImplementedError

    def parts(self, rows: slice = slice(None)) -> Parts:
        found = self.values(rows)
        count, columns = found.shape
        codes = np.full((count, -(-columns // SCHEME.step) * SCHEME.step), SCHEME.padding, np.uint8)
        codes[:, :columns] = found
        return {"codes": codes, "row": np.full((count, 1), self.scale, "<f4")}

    def floats(self, rows: slice = slice(None)) -> Array:
        return (self.values(rows).astype(np.float32) - np.float32(1)) * np.float32(self.scale)


@dataclass(frozen=True)
class Packed(Ternary):
    """Row k * R + r of 4 R rows is bits 2k and 2k + 1 of byte row r."""

    @property
    def scale(self) -> float:
        return self.factor

    def values(self, rows: slice) -> Array:
        quarter = (self.stored or self.shape[0]) // 4
        places = np.arange(self.shape[0])[rows] if self.order is None else self.order[rows]
        table = self.data.reshape(quarter, -1)
        found: Array = table[places % quarter] >> (2 * (places // quarter)).astype(np.uint8)[:, None] & 3
        if (bad := found == 3).any():
            row = int(np.argwhere(bad)[0][0])
            raise FormatError(f"tensor {self.name!r}, row {(rows.start or 0) + row}: a code is 3, of 0 to 2")
        return found


@dataclass(frozen=True)
class Masters(Ternary):
    """The nearest of -1, 0 and 1 to floats divided by their mean magnitude."""

    floating: SourceTensor = field(kw_only=True)

    @property
    def scale(self) -> float:
        return float(np.float32(1) / self.inverse)

    @cached_property
    def inverse(self) -> np.float32:
        """1 / mean magnitude of all that the tensor holds."""
        whole = replace(self.floating, order=None, stored=0)
        if self.floating.order is not None:
            whole = replace(whole, shape=(self.floating.stored, *self.floating.shape[1:]))
        total = 0.0
        for start, stop in row_blocks(*whole.shape):
            total += float(np.abs(whole.floats(slice(start, stop))).sum(dtype=np.float64))
        mean = np.float32(max(total / (whole.shape[0] * whole.shape[1]), LEAST))
        if not np.isfinite(mean):
            raise FormatError(f"tensor {self.name!r} has a value that is not finite")
        return np.float32(1) / mean

    def values(self, rows: slice) -> Array:
        near = np.rint(self.floating.floats(rows) * self.inverse)
        return (np.clip(near, -1, 1) + 1).astype(np.uint8)


def unpacked(found: Mapping[str, SourceTensor], form: Form) -> dict[str, SourceTensor]:
    """The tensors without those of scales: "X.weight_scale" is one float, and "X.weight" uint8 beside it."""
    tensors = dict(found)
    for name in [name for name in tensors if name.endswith(".weight_scale")]:
        scale, of = tensors.pop(name), name.removesuffix("_scale")
        weight = tensors.get(of)
        if weight is None or weight.kind != "U8" or len(weight.shape) != 2:
            what = "missing" if weight is None else f"{weight.kind} {list(weight.shape)}"
            raise FormatError(f"tensor {of!r} is {what}, but {name!r} needs a matrix of uint8 beside it")
        factor = number_of(scale)
        if not 0 < factor < np.inf:
            raise FormatError(f"tensor {name!r} is {factor}, but a number above 0 is needed")
        shape = (4 * weight.shape[0], weight.shape[1])
        factor = float(np.float32(1) / np.float32(factor)) if form.divides else factor
        tensors[of] = Packed(of, KIND, shape, weight.data, factor=factor)
    bare = next((t for t in tensors.values() if t.kind == "U8"), None)
    if bare is not None:
        raise UnsupportedError(f"tensor {bare.name!r} is packed, but has no '{bare.name}_scale' beside it")
    return tensors


def rounded(tensor: SourceTensor) -> Ternary:
    """A matrix of masters as what it means."""
    return Masters(tensor.name, KIND, tensor.shape, tensor.data, stored=tensor.stored, floating=tensor)
