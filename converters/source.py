"""What a source gives the pipeline: tensors that are read a few rows at a time, and the header's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats import SCHEMES, Scheme, dequantize, from_q4_0, from_q8_0
from edgeq.models import BaseConfig, Expected, expected

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Kind:
    """How a source stores numbers; `scheme` names the one of ours that holds its codes without loss."""

    floats: Callable[[Array], Array] | None = None  # uint8 [rows, bytes] -> float32 [rows, cols]
    codes: Callable[[Array], tuple[Array, Array]] | None = None  # uint8 [rows, bytes] -> (codes, scales)
    scheme: str = ""


def _bf16(raw: Array) -> Array:
    return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


KINDS = {
    "F32": Kind(floats=lambda raw: raw.view("<f4").astype(np.float32, copy=False)),
    "F16": Kind(floats=lambda raw: raw.view("<f2").astype(np.float32)),
    "BF16": Kind(floats=_bf16),
    "Q8_0": Kind(codes=from_q8_0, scheme="q8"),
    "Q4_0": Kind(codes=from_q4_0, scheme="q4"),
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

    @property
    def scheme(self) -> Scheme | None:
        """The scheme whose codes and scales are this tensor's own; None for floats."""
        return SCHEMES.get(KINDS[self.kind].scheme)

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
        with np.errstate(invalid="ignore"):  # a scale that is not finite is found where the values are used
            return dequantize(codes, scales, SCHEMES[kind.scheme])

    def codes(self, rows: slice = slice(None)) -> tuple[Array, Array]:
        """(codes uint8 [n, cols], scales float16 [n, groups]) of some rows of a tensor with a `scheme`."""
        decode = KINDS[self.kind].codes
        if decode is None:
            raise ValueError(f"{self.kind} has no codes")
        return decode(self.raw(rows))


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
    """A chat template, None for an empty one; FormatError when it is too large or no text."""
    if template is not None:
        size = len(template.encode("utf-8", "surrogatepass"))
        if size > CHAT_TEMPLATE_BYTES_MAX:
            raise FormatError(
                f"the chat template has {size} bytes; at most {CHAT_TEMPLATE_BYTES_MAX} are allowed"
            )
        if any("\ud800" <= character <= "\udfff" for character in template):
            raise FormatError("the chat template has half a surrogate pair, which is no character")
    return template or None


def checked_tensors(
    family: str,
    config: BaseConfig,
    found: Mapping[str, SourceTensor],
    name_of: Callable[[Expected], str | None],
    ignored: Callable[[str], bool],
) -> dict[str, SourceTensor]:
    """The found tensors by their names in the table; refuses a missing, unknown or misshapen one."""
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
        readable = [kind for kind, row in KINDS.items() if want.role != "vector" or row.floats]
        if tensor.kind not in readable:
            raise UnsupportedError(
                f"tensor {name!r} is {tensor.kind}, but only {', '.join(readable)} can be read"
            )
        result[want.name] = tensor
    left = sorted(name for name in rest if not ignored(name))
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise UnsupportedError(f"tensor {left[0]!r:.120}{more} is not one of family {family}'s")
    return result
