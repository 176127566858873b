"""ggml's tensor types, a row each: what a block is made of, and the scheme that holds its numbers.

The numbers are ggml's, and never mean another type: those that it withdrew, and those that forks of it use,
are known by name, so that they are refused by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeq.errors import FormatError

from ..schemes import SCHEMES, Scheme
from ..schemes.numbers import Array
from . import blocks
from .blocks import Parts


@dataclass(frozen=True)
class TensorType:
    """A row. Without a scheme it is known and holds no weights.

    `split` turns blocks [n] of the layout into the scheme's parts, arrays [n, entries of a block]; None where
    a block is a number as the scheme stores it.
    """

    name: str
    number: int  # in a GGUF file
    columns: int  # of a block
    layout: np.dtype
    scheme_name: str = ""
    split: Callable[[Array], Parts] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of a block."""
        return self.layout.itemsize

    @property
    def scheme(self) -> Scheme:
        """The scheme that holds the numbers as they are."""
        return SCHEMES[self.scheme_name]

    def parts(self, raw: Array, factor: float = 1.0) -> Parts:
        """The scheme's parts of rows of whole blocks, uint8 [rows, bytes]: arrays [rows, entries].

        The factor, which a file has for a whole tensor, is each row's float where the scheme has such.
        FormatError for rows that are cut off, and for an F64 that no float32 equals.
        """
        rows, nbytes = raw.shape
        if nbytes % self.nbytes:
            raise FormatError(f"rows of {nbytes} bytes are not whole {self.name} blocks of {self.nbytes}")
        stored = np.ascontiguousarray(raw).reshape(-1).view(self.layout)
        if self.split is None:
            return {"value": stored.reshape(rows, -1)}
        parts = {name: part.reshape(rows, -1) for name, part in self.split(stored).items()}
        return parts | {"row": np.full((rows, 1), factor, "<f4")} if self.scheme.row else parts


F16 = np.dtype("<f2")
_ROWS = (
    TensorType("F32", 0, 1, np.dtype("<f4"), "f32"),
    TensorType("F16", 1, 1, F16, "f16"),
    TensorType("BF16", 30, 1, np.dtype("<u2"), "bf16"),
    TensorType("F64", 28, 1, np.dtype("<f8"), "f32", blocks.f64),
    TensorType("Q4_0", 2, 32, blocks.Q4_0, "q4", blocks.four_bits),
    TensorType("Q4_1", 3, 32, blocks.Q4_1, "q4m", blocks.q4_1),
    TensorType("Q5_0", 6, 32, blocks.Q5_0, "q5", blocks.q5_0),
    TensorType("Q5_1", 7, 32, blocks.Q5_1, "q5m", blocks.q5_1),
    TensorType("Q8_0", 8, 32, blocks.Q8_0, "q8", blocks.q8_0),
    TensorType("Q2_K", 10, 256, blocks.Q2_K, "k2", blocks.q2_k),
    TensorType("Q3_K", 11, 256, blocks.Q3_K, "k3", blocks.q3_k),
    TensorType("Q4_K", 12, 256, blocks.Q4_K, "k4", blocks.q4_k),
    TensorType("Q5_K", 13, 256, blocks.Q5_K, "k5", blocks.q5_k),
    TensorType("Q6_K", 14, 256, blocks.Q6_K, "k6", blocks.q6_k),
    TensorType("IQ4_NL", 20, 32, blocks.Q4_0, "t4", blocks.four_bits),
    TensorType("IQ4_XS", 23, 256, blocks.IQ4_XS, "t4x", blocks.iq4_xs),
    TensorType("MXFP4", 39, 32, blocks.MXFP4, "mx4", blocks.mxfp4),
    TensorType("NVFP4", 40, 64, blocks.NVFP4, "nv4", blocks.nvfp4),
    TensorType("TQ1_0", 34, 256, blocks.TQ1_0, "tq2", blocks.tq1_0),
    TensorType("TQ2_0", 35, 256, blocks.TQ2_0, "tq2", blocks.tq2_0),
    TensorType("Q1_0", 41, 128, blocks.Q1_0, "q1g128", blocks.q1_0),
    TensorType("Q2_0", 42, 64, blocks.Q2_0, "q2g64", blocks.q2_0),
    TensorType("IQ1_S", 19, 256, blocks.IQ1_S, "iq1s", blocks.iq1_s),
    TensorType("IQ1_M", 29, 256, blocks.IQ1_M, "iq1m", blocks.iq1_m),
    TensorType("IQ2_XXS", 16, 256, blocks.IQ2_XXS, "iq2xxs", blocks.iq2_xxs),
    TensorType("IQ2_XS", 17, 256, blocks.IQ2_XS, "iq2s", blocks.iq2_xs),
    TensorType("IQ2_S", 22, 256, blocks.IQ2_S, "iq2s", blocks.iq2_s),
    TensorType("IQ3_XXS", 18, 256, blocks.IQ3_XXS, "iq3xxs", blocks.iq3_xxs),
    TensorType("IQ3_S", 21, 256, blocks.IQ3_S, "iq3s", blocks.iq3_s),
    # no weights, or none that a scheme holds
    TensorType("I8", 24, 1, np.dtype("i1")),
    TensorType("I16", 25, 1, np.dtype("<i2")),
    TensorType("I32", 26, 1, np.dtype("<i4")),
    TensorType("I64", 27, 1, np.dtype("<i8")),
)
TYPES: dict[str, TensorType] = {row.name: row for row in _ROWS}
NUMBERED: dict[int, TensorType] = {row.number: row for row in _ROWS}

WITHDRAWN = "a type that ggml withdrew"
ACTIVATIONS = "a type of activations"
FORK = "a type of ik_llama.cpp"
STRANGERS: dict[int, tuple[str, str]] = {  # number: name, what it is
    9: ("Q8_1", ACTIVATIONS),
    15: ("Q8_K", ACTIVATIONS),
    **{number: (name, WITHDRAWN) for number, name in (
        (4, "Q4_2"), (5, "Q4_3"), (31, "Q4_0_4_4"), (32, "Q4_0_4_8"), (33, "Q4_0_8_8"),
        (36, "IQ4_NL_4_4 or I2_S"), (37, "IQ4_NL_4_8"), (38, "IQ4_NL_8_8"),
    )},
    **{number: (name, FORK) for number, name in (
        (133, "Q6_0"), (134, "IQ1_BN"), (135, "IQ2_BN"), (137, "IQ2_K"), (138, "IQ3_K"), (139, "IQ4_K"),
        (140, "IQ5_K"), (141, "IQ6_K"), (144, "IQ4_KS"), (145, "IQ2_KS"), (146, "IQ4_KSS"), (152, "IQ5_KS"),
        (153, "IQ2_KT"), (154, "IQ3_KT"), (155, "IQ4_KT"), (156, "IQ3_KS"), (157, "IQ2_KL"), (158, "IQ1_KT"),
    )},
}  # fmt: skip
FORK_NUMBERS = range(97, 400)  # which ik_llama.cpp took for all of its types


def name_of(number: int) -> str:
    """What a type is called: a word of ggml's or a fork's, else "type 199"."""
    if number in NUMBERED:
        return NUMBERED[number].name
    return STRANGERS[number][0] if number in STRANGERS else f"type {number}"


def described(number: int) -> str:
    """A number that is none of TYPES, for an error: its name where it has one, and whose it is."""
    if number in STRANGERS:
        return ", ".join(STRANGERS[number])
    return f"type {number}, {FORK}" if number in FORK_NUMBERS else f"the unknown type {number}"
