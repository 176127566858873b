"""Checkpoints whose experts' matrices are MXFP4 (gpt-oss): "X_blocks" with the codes of 32 columns in 16
bytes, beside "X_scales" with the exponent of each 32.

Their numbers become the codes of mx4, none of them rounded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeq.converters.source import Array, SourceTensor
from edgeq.errors import FormatError

KIND = "MXFP4"  # as GGUF has it, but for the places of the codes in their bytes
CODES, SCALES = "_blocks", "_scales"
COLUMNS, BYTES = 32, 16


def is_form(raw: Mapping[str, Any]) -> bool:
    """Whether a config says so."""
    words = raw.get("quantization_config")
    return isinstance(words, Mapping) and words.get("quant_method") == "mxfp4"


@dataclass(frozen=True)
class Packed(SourceTensor):
    """Byte j of 16 has the codes of columns 2j, in its low half, and 2j + 1."""

    scales: Array = field(kw_only=True)  # uint8, one for each 32 columns

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.data, self.scales

    @property
    def nbytes(self) -> int:
        return super().nbytes * (BYTES + 1) // BYTES

    def raw(self, rows: slice | Array) -> Array:
        """uint8 [n, bytes of a row] as GGUF has them: of each 32 columns the exponent, and byte j with the
        codes of columns j and j + 16.
        """
        count = self.stored or self.shape[0]
        places = rows if self.order is None else self.order[rows]
        found = self.data.reshape(count, -1, BYTES)[places]
        codes = np.empty((*found.shape[:2], COLUMNS), np.uint8)
        codes[..., 0::2], codes[..., 1::2] = found & 15, found >> 4
        halves = codes[..., :BYTES] | codes[..., BYTES:] << 4
        scales = self.scales.reshape(count, -1)[places]
        return np.concatenate([scales[..., None], halves], 2).reshape(len(found), -1)


def unpacked(found: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """The tensors without those of exponents; FormatError where they and the codes do not go together."""
    tensors = dict(found)
    for name in [name for name in tensors if name.endswith(CODES)]:
        codes, of = tensors[name], name.removesuffix(CODES) + SCALES
        scales = tensors.pop(of, None)
        if scales is None:
            raise FormatError(f"tensor {of!r:.120} is missing, whose exponents {name!r:.120} needs")
        if codes.kind != "U8" or len(codes.shape) < 2 or codes.shape[-1] != BYTES:
            had = f"{codes.kind} {list(codes.shape)}"
            raise FormatError(f"tensor {name!r:.120} is {had}, but U8 in rows of {BYTES} is needed")
        if (scales.kind, scales.shape) != ("U8", codes.shape[:-1]):
            had, wanted = f"{scales.kind} {list(scales.shape)}", list(codes.shape[:-1])
            raise FormatError(f"tensor {of!r:.120} is {had}, but {name!r:.120} needs U8 {wanted} beside it")
        *rows, groups = codes.shape[:-1]
        tensors[name] = Packed(name, KIND, (*rows, groups * COLUMNS), codes.data, scales=scales.data)
    return tensors
