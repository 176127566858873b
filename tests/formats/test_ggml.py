"""ggml's tensor types: what their parts mean is what gguf-py's own dequantizers give, bit for bit.

`EDGEQ_TEST_BLOCKS` sets how many random blocks of each type are compared.
"""

from __future__ import annotations

import os
import re
from typing import Any

import gguf
import numpy as np
import pytest

from edgeq.errors import FormatError
from edgeq.formats import NUMBERS, SCHEMES, dequantize
from edgeq.formats.ggml import NUMBERED, TYPES, TensorType, described, name_of
from edgeq.formats.ggml.grids import GRIDS
from edgeq.formats.ggml.types import STRANGERS
from tests.formats.ggml_samples import blocks, reference

BLOCKS = int(os.environ.get("EDGEQ_TEST_BLOCKS", 4000))
WEIGHTS = [row for row in TYPES.values() if row.scheme_name]
IN_BLOCKS = [row for row in WEIGHTS if row.columns > 1]


def names(rows: list[TensorType]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


@names(IN_BLOCKS)
def test_parts_mean_what_ggml_means(row: TensorType) -> None:
    raw = blocks(row, BLOCKS)
    found = dequantize(row.parts(raw), row.scheme)
    expected = reference(row, raw)
    assert found.dtype == np.float32 and expected.dtype == np.float32
    # +0 and -0 are alike; everything else is compared by its bits
    np.testing.assert_array_equal(
        found.view(np.uint32) * (found != 0), expected.view(np.uint32) * (expected != 0)
    )


@names(IN_BLOCKS)
def test_parts_are_what_the_scheme_stores(row: TensorType) -> None:
    """Their names, element types and shapes; and several blocks of a row stand in their order."""
    raw = blocks(row, 3 * 4).reshape(3, -1)
    parts = row.parts(raw)
    columns = 4 * row.columns
    assert columns % row.scheme.step == 0
    assert {name: (part.dtype, part.shape) for name, part in parts.items()} == {
        array.name: (np.dtype(array.dtype), (3, array.entries(columns))) for array in row.scheme.arrays
    }
    single = dequantize(row.parts(raw.reshape(12, -1)), row.scheme)
    np.testing.assert_array_equal(dequantize(parts, row.scheme).reshape(12, -1), single)


def test_every_type_of_weights_is_held() -> None:
    assert {row.name for row in TYPES.values()} - {row.name for row in WEIGHTS} == {"I8", "I16", "I32", "I64"}
    assert len(NUMBERED) == len(TYPES)
    assert sorted({row.scheme_name for row in WEIGHTS} - set(SCHEMES)) == []


def random_floats(kind: str) -> Any:
    """Stored numbers of any finite bits."""
    number = SCHEMES[kind].number
    random = np.random.default_rng(3)
    stored = np.frombuffer(random.bytes(4 * 512), SCHEMES[kind].parts[0].dtype)
    return stored[NUMBERS[number].finite(stored)]


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_plain_numbers_stay(name: str) -> None:
    row = TYPES[name]
    stored = random_floats(row.scheme_name)
    raw = stored.view(np.uint8).reshape(1, -1)
    (value,) = row.parts(raw).values()
    assert value.dtype == row.scheme.parts[0].dtype and value.tobytes() == raw.tobytes()
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name])
    assert dequantize(row.parts(raw), row.scheme).tobytes() == expected.astype(np.float32).tobytes()


def test_f64_is_taken_where_nothing_is_lost() -> None:
    row = TYPES["F64"]
    value = np.array([[0.0, -0.0, 1.5, -(2.0**127), 2.0**-149, np.inf, np.nan]])
    assert row.parts(value.view(np.uint8))["value"].tobytes() == value.astype(np.float32).tobytes()
    for lossy in (0.1, 1e300, 2.0**-150, -16777217.0):
        with pytest.raises(FormatError, match="^" + re.escape(f"{lossy!r} is an F64 that no float32 equals")):
            row.parts(np.array([[1.0, lossy]]).view(np.uint8))


@names(IN_BLOCKS)
def test_rows_that_are_cut_off(row: TensorType) -> None:
    for nbytes in (row.nbytes - 1, row.nbytes + 1):
        with pytest.raises(
            FormatError, match=f"^rows of {nbytes} bytes are not whole {row.name} blocks of {row.nbytes}$"
        ):
            row.parts(np.zeros((2, nbytes), np.uint8))


@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_gguf_pys(name: str) -> None:
    theirs = getattr(gguf.quants, name)
    theirs.init_grid()
    values = np.array(sorted(theirs.grid_map), np.float32)
    np.testing.assert_array_equal(values[GRIDS[name]], theirs.grid.reshape(theirs.grid_shape))


def test_strangers_have_numbers_of_their_own() -> None:
    known = {number for number in range(500) if name_of(number) != f"type {number}"}
    assert known >= set(NUMBERED) and not set(NUMBERED) & set(STRANGERS)
    assert described(1 << 31) == "the unknown type 2147483648"
