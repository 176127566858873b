"""A row that is added to the table at run time is packed, written, verified and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq import formats
from edgeq.errors import UnsupportedError
from edgeq.formats import SCHEMES, Scheme
from edgeq.formats.schemes import rounds_to
from tests.formats.parts import TOYS, random_parts, value_at, write_parts


@pytest.mark.parametrize("row", TOYS.values(), ids=TOYS)
def test_a_new_row_is_stored_and_read(row: Scheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.edgeq"
    shape = (37, 200)
    parts = random_parts(row, *shape)
    monkeypatch.setitem(SCHEMES, row.name, row)
    write_parts(path, row, shape, parts)
    assert formats.verify(path) == []
    with formats.open_model(path) as file:
        tensor = file.tensors["a"]
        assert tensor.scheme is row and list(tensor.parts) == [part.name for part in row.parts]
        assert tensor.nbytes == sum(part.nbytes for part in tensor.parts.values())
        values = tensor.array()
    assert values.shape == shape
    assert all(values[at] == value_at(row, parts, *at) for at in ((0, 0), (36, 199), (16, 32), (5, 131)))
    monkeypatch.undo()
    with pytest.raises(UnsupportedError, match=f"tensor a: scheme '{row.name}' is not one of f32, f16"):
        formats.open_model(path)


@pytest.mark.parametrize("row", [row for row in TOYS.values() if rounds_to(row)], ids=lambda row: row.name)
def test_a_new_row_of_symmetric_codes_is_rounded_to(row: Scheme) -> None:
    x = np.random.default_rng(0).standard_normal((32, 256)).astype(np.float32)
    error = np.sqrt(np.mean((formats.dequantize(formats.quantize(x, row), row) - x) ** 2))
    bound = formats.dequantize(formats.quantize(x, "q4"), "q4") - x
    assert error < np.sqrt(np.mean(bound**2)) / 2 ** (row.bits - 5)
