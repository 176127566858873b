"""What every source gives the pipeline: tensors that are read a few rows at a time, and the words of the header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats.schemes import SCHEMES, Scheme, from_q4_0, from_q8_0
from edgeq.models import BaseConfig, Expected, expected

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Kind:
    """How a source stores numbers: blocks of `values` in `nbytes` bytes; `scheme` holds them without loss, if any."""

    values: int
    nbytes: int
    floats: Callable[[Array], Array] | None = None  # uint8 [rows, bytes] -> float32 [rows, cols]
    codes: Callable[[Array], tuple[Array, Array]] | None = None  # uint8 [rows, bytes] -> (codes, scales)
    scheme: Scheme | None = None


def _bf16(raw: Array) -> Array:
    return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


KINDS = {
    "F32": Kind(1, 4, floats=lambda raw: raw.view("<f4").astype(np.float32, copy=False)),
    "F16": Kind(1, 2, floats=lambda raw: raw.view("<f2").astype(np.float32)),
    "BF16": Kind(1, 2, floats=_bf16),
    "Q8_0": Kind(32, 34, codes=from_q8_0, scheme=SCHEMES["q8"]),
    "Q4_0": Kind(32, 18, codes=from_q4_0, scheme=SCHEMES["q4"]),
}


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of 1 or 2 dimensions in a mapped file; nothing of it is copied until rows are asked for.

    `order` lists, for each row, the row of `data` that holds it; None: as stored.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    data: Array  # uint8 [nbytes]
    order: Array | None = None

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            known = ", ".join(KINDS)
            raise UnsupportedError(
                f"tensor {self.name!r} is stored as {self.kind}, but only {known} can be read"
            )
        if self.shape[-1] % kind.values:
            raise FormatError(
                f"tensor {self.name!r} has rows of {self.shape[-1]}, no multiple of {kind.values}"
            )

    @property
    def scheme(self) -> Scheme | None:
        """The scheme whose codes and scales are this tensor's own; None for floats."""
        return KINDS[self.kind].scheme

    def raw(self, rows: slice) -> Array:
        """uint8 [n, bytes of a row] of some rows; a vector is a column of rows."""
        table = self.data.reshape(self.shape[0], -1)
        return table[rows] if self.order is None else table[self.order[rows]]

    def floats(self, rows: slice = slice(None)) -> Array:
        """float32 [n, cols] of some rows."""
        kind = KINDS[self.kind]
        if kind.floats is not None:
            return kind.floats(self.raw(rows))
        codes, scales = self.codes(rows)
        values = codes.astype(np.float32) - np.float32(self._zero)
        return (values.reshape(len(codes), -1, kind.values) * scales.astype(np.float32)[:, :, None]).reshape(
            codes.shape
        )

    def codes(self, rows: slice = slice(None)) -> tuple[Array, Array]:
        """(codes uint8 [n, cols], scales float16 [n, groups]) of some rows; only where `scheme` is not None."""
        decode = KINDS[self.kind].codes
        if decode is None:
            raise ValueError(f"{self.kind} has no codes")
        return decode(self.raw(rows))

    @property
    def _zero(self) -> int:
        return self.scheme.zero if self.scheme else 0


class Tokenizer(Protocol):
    def __call__(self) -> tuple[dict[str, Any], bytes] | None: ...


@dataclass
class Source:
    """An opened checkpoint: everything that a file's header and tensors are made from."""

    kind: str  # "huggingface", "hub" or "gguf"
    name: str  # for people; never an absolute path
    family: str
    config: BaseConfig
    tensors: Mapping[str, SourceTensor]  # by their names in the .edgeq file
    frequencies: Array  # float32 [head_dim/2]
    tokenizer: Tokenizer
    revision: str | None = None
    chat_template: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    license: str | None = None


CHAT_TEMPLATE_BYTES_MAX = 256 << 10


def checked_template(template: str | None) -> str | None:
    """A chat template, or FormatError when it is larger than any real one."""
    if template is not None and len(template.encode("utf-8", "surrogatepass")) > CHAT_TEMPLATE_BYTES_MAX:
        raise FormatError(
            f"the chat template has more than {CHAT_TEMPLATE_BYTES_MAX} bytes, the most that is allowed"
        )
    return template or None


def match(
    family: str,
    config: BaseConfig,
    found: Mapping[str, SourceTensor],
    name_of: Callable[[Expected], str | None],
    ignored: Callable[[str], bool],
) -> dict[str, SourceTensor]:
    """The found tensors by the names of the family's table; one missing, left over or of a wrong shape is refused."""
    rest = dict(found)
    result = {}
    for want in expected(family, config):
        name = name_of(want)
        if name is None:
            continue
        tensor = rest.pop(name, None)
        if tensor is None:
            raise FormatError(f"tensor {name!r} is missing; shape {list(want.shape)} is needed")
        if tensor.shape != want.shape:
            shape = list(tensor.shape)
            raise FormatError(f"tensor {name!r} has shape {shape}, but the config needs {list(want.shape)}")
        result[want.name] = tensor
    left = sorted(name for name in rest if not ignored(name))
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise UnsupportedError(
            f"tensor {left[0]!r:.120}{more} is not one of family {family}'s, so it cannot be honoured"
        )
    return result
