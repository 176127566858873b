"""What stored numbers mean: formats of numbers, schemes made of them, and rounding to schemes, in NumPy.

Everything that stores, computes with or lists schemes walks `SCHEMES`; these functions are the definition
that kernels are tested against. Knows nothing of files, nor of where in them a part lies (`formats.layout`).
"""

from .lines import pack, turn, turn_back, unpack
from .numbers import NUMBERS, Array, Number
from .rounding import Rounding, round_block, rounds_to
from .scheme import ACT_GROUP, LINE_BYTES, SUBS, TILE_ROWS, Floats, Integers, Part, Parts, Scheme, SubKind
from .table import SCHEMES, scheme_of
from .values import dequantize

__all__ = [
    "ACT_GROUP",
    "LINE_BYTES",
    "NUMBERS",
    "SCHEMES",
    "SUBS",
    "TILE_ROWS",
    "Array",
    "Floats",
    "Integers",
    "Number",
    "Part",
    "Parts",
    "Rounding",
    "Scheme",
    "SubKind",
    "dequantize",
    "pack",
    "round_block",
    "rounds_to",
    "scheme_of",
    "turn",
    "turn_back",
    "unpack",
]
