"""The .edgeq file: its schemes, layouts, reader, writer and checker; README.md is the specification."""

from .annotate import annotated
from .encoding import (
    decode,
    encode,
    encode_blocks,
    encode_parts,
    encode_rows,
    nbytes,
    quantize,
    row_blocks,
    split,
    views,
)
from .layout import Geometry, Span, geometry
from .reader import ModelFile, Tensor, open_model
from .schemes import (
    NUMBERS,
    SCHEMES,
    Number,
    Part,
    Parts,
    Rounding,
    Scheme,
    dequantize,
    pack,
    round_block,
    unpack,
)
from .verifier import verify
from .writer import TensorPlan, Writer

__all__ = [
    "NUMBERS",
    "SCHEMES",
    "Geometry",
    "ModelFile",
    "Number",
    "Part",
    "Parts",
    "Rounding",
    "Scheme",
    "Span",
    "Tensor",
    "TensorPlan",
    "Writer",
    "annotated",
    "decode",
    "dequantize",
    "encode",
    "encode_blocks",
    "encode_parts",
    "encode_rows",
    "geometry",
    "nbytes",
    "open_model",
    "pack",
    "quantize",
    "round_block",
    "row_blocks",
    "split",
    "unpack",
    "verify",
    "views",
]
