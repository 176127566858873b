"""The .edgeq file: its schemes, layouts, reader, writer and checker; README.md is the specification."""

from .layout import Geometry, geometry
from .reader import ModelFile, Tensor, open_model
from .schemes import (
    SCHEMES,
    Scheme,
    decode,
    dequantize,
    encode,
    encode_blocks,
    encode_codes,
    from_q4_0,
    from_q8_0,
    nbytes,
    pack,
    quantize,
    unpack,
)
from .verifier import verify
from .writer import TensorPlan, Writer

__all__ = [
    "SCHEMES",
    "Geometry",
    "ModelFile",
    "Scheme",
    "Tensor",
    "TensorPlan",
    "Writer",
    "decode",
    "dequantize",
    "encode",
    "encode_blocks",
    "encode_codes",
    "from_q4_0",
    "from_q8_0",
    "geometry",
    "nbytes",
    "open_model",
    "pack",
    "quantize",
    "unpack",
    "verify",
]
