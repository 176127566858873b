"""A reader of safetensors files: the header is checked in full before any number is looked at.

A file is an 8-byte little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, and
the data, which the tensors must tile without holes or overlap. The data stays mapped; nothing is copied here.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from edgeq.converters import jsonfile
from edgeq.converters.source import Array
from edgeq.errors import FormatError
from edgeq.formats import foreign
from edgeq.formats.reader import FileMap, open_regular

HEADER_BYTES_MAX = 16 << 20  # a hundred times what these families have
TENSORS_MAX = 1 << 17
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


def read(path: Path) -> dict[str, tuple[str, tuple[int, ...], Array]]:
    """{name: (dtype, shape, mapped uint8 data)} of a file; FormatError names the file and what is wrong."""
    file, size = open_regular(path)
    with file:
        if size < 8:
            raise FormatError(f"{path.name}: {size} bytes are too few for a safetensors file")
        head = file.read(foreign.HEAD_BYTES)
        kind = foreign.kind_of(head)
        if kind is not None and kind is not foreign.SAFETENSORS:
            raise FormatError(f"{path.name}: not a safetensors file but {kind.what}: {kind.instead}")
        file.seek(8)
        header_bytes = int.from_bytes(head[:8], "little")
        if not 2 <= header_bytes <= min(HEADER_BYTES_MAX, size - 8):
            limit = min(HEADER_BYTES_MAX, size - 8)
            raise FormatError(
                f"{path.name}: the header's length is {header_bytes}, but 2 to {limit} is possible"
            )
        header = jsonfile.parse(file.read(header_bytes), path.name)
        start = 8 + header_bytes
        places = _places(header, size - start, path.name)
        mapped = FileMap.of(file, size, path)
    return {
        name: (dtype, shape, mapped.view(start + begin, end - begin))
        for name, (dtype, shape, begin, end) in places.items()
    }


def _places(
    header: dict[str, Any], data_bytes: int, where: str
) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """{name: (dtype, shape, begin, end)} after checking every entry and that together they tile the data."""
    header.pop("__metadata__", None)
    if len(header) > TENSORS_MAX:
        raise FormatError(f"{where}: {len(header)} tensors are too many; at most {TENSORS_MAX} are allowed")
    places = {name: _place(entry, f"{where}: tensor {name!r:.80}") for name, entry in header.items()}
    position = 0
    for name, (_, _, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise FormatError(
                f"{where}: tensor {name!r:.80} begins at byte {begin}, but {position} is its place"
            )
        position = end
    if position != data_bytes:
        why = f": cut off; {foreign.AGAIN}" if position > data_bytes else ""
        raise FormatError(f"{where}: the tensors need {position} bytes, but the file holds {data_bytes}{why}")
    return places


def _place(entry: Any, where: str) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(
            f"{where} is described by {entry!r:.80}, but dtype, shape and data_offsets are needed"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise FormatError(f"{where} has dtype {dtype!r:.40}, which is no dtype of safetensors")
    if not isinstance(shape, list) or len(shape) > 8 or not all(_count(n) for n in shape):
        raise FormatError(f"{where} has shape {shape!r:.80}, but up to 8 whole numbers are needed")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_count(n) for n in offsets):
        raise FormatError(f"{where} has data_offsets {offsets!r:.80}, but two whole numbers are needed")
    begin, end = offsets
    nbytes = prod(shape) * ITEM_BYTES[dtype]
    if end - begin != nbytes:
        raise FormatError(f"{where} has {end - begin} bytes, but {dtype} {shape} needs {nbytes}")
    return dtype, tuple(shape), begin, end


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62
