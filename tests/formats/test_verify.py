"""`verify` finds what opening does not read, and names the tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_128

from edgeq import formats
from edgeq.errors import UsageError
from edgeq.formats import verifier
from tests.formats.samples import HEADER, split_file, write_sample


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample.edgeq")


def rows(path: Path) -> list[dict[str, Any]]:
    tensors: list[dict[str, Any]] = split_file(path.read_bytes())[0]["tensors"]
    return tensors


def rewrite(path: Path, name: str, at: int, value: bytes) -> None:
    """Write the same model again with `value` at byte `at` of one tensor, checksums right."""
    plans, data = [], []
    with formats.open_model(path) as file:
        for tensor in file.tensors.values():
            plans.append(formats.TensorPlan(tensor.name, tensor.scheme, tensor.layout, tensor.shape))
            data.append(bytearray(tensor.data))
            if tensor.name == name:
                at %= tensor.nbytes
                data[-1][at : at + len(value)] = value
    with formats.Writer(path, HEADER, plans) as writer:
        for plan, raw in zip(plans, data, strict=True):
            writer.write(plan.name, raw)
        writer.commit()


def test_a_sound_file_has_no_problems_and_progress_ends_at_the_end(sample: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    assert formats.verify(sample, lambda *step: steps.append(step)) == []
    size = sample.stat().st_size
    assert [name for _, _, name in steps] == [row["name"] for row in rows(sample)]
    assert steps[-1][:2] == (size, size) and steps == sorted(steps)


def test_every_damaged_byte_is_found_and_its_tensor_named(sample: Path) -> None:
    """One random bit of every 3rd byte after the header."""
    raw = sample.read_bytes()
    header, rest = split_file(raw)
    start = len(raw) - len(rest)
    random = np.random.default_rng(3)
    for at in range(start, len(raw), 3):
        broken = bytearray(raw)
        broken[at] ^= 1 << int(random.integers(0, 8))
        sample.write_bytes(broken)
        problems = formats.verify(sample)
        assert problems
        inside = [row for row in header["tensors"] if row["offset"] <= at < row["offset"] + row["nbytes"]]
        if inside:
            assert f"tensor {inside[0]['name']}: data is damaged: its XXH3-128 is" in problems[0]
        else:
            following = next(row for row in header["tensors"] if row["offset"] > at)
            assert problems == [f"padding before tensor {following['name']} is not zero"]


@pytest.mark.parametrize(("name", "value"), [("embed", np.nan), ("blocks.0.q", np.inf)])
def test_scales_that_are_not_finite_are_named_with_their_place(sample: Path, name: str, value: float) -> None:
    with formats.open_model(sample) as file:
        tensor = file.tensors[name]
        tile, group, row = 1, 1, 0
        span = tensor.geometry.spans["scale"]
        at = span.offset + ((tile * span.shape[1] + group) * 16 + row) * 2
    rewrite(sample, name, at, np.float16(value).tobytes())
    [problem] = formats.verify(sample)
    assert problem == f"tensor {name}: 1 scales are not finite, the first in row 16, group 1"


@pytest.mark.parametrize(
    ("name", "value", "at", "place"),
    [
        ("blocks.0.k", np.float16(np.nan).tobytes(), 2 * (16 + 3), "row 3, column 1"),
        ("blocks.0.v", b"\x80\x7f", 0, "row 0, column 0"),
        ("blocks.0.o", np.float32(-np.inf).tobytes(), 0, "row 0, column 0"),
        ("norm", np.float32(np.nan).tobytes(), 8, "row 0, column 2"),
    ],
)
def test_values_that_are_not_finite_are_named(
    sample: Path, name: str, value: bytes, at: int, place: str
) -> None:
    rewrite(sample, name, at, value)
    assert formats.verify(sample) == [f"tensor {name}: 1 values are not finite, the first in {place}"]


@pytest.mark.parametrize(
    ("name", "at", "message"),
    [
        ("embed", -1, "padding rows from 17 do not hold scale 0"),
        ("embed", 2 * 8 * 16 * 4 + 63, "padding rows from 17 do not hold code 128"),
        ("embed", 8 * 64 + 5, "padding columns from 33 do not hold code 128"),
        ("blocks.0.q", -1, "padding rows from 33 do not hold scale 0"),
        ("blocks.0.q", 7 * 64, "padding columns from 40 do not hold code 8"),
        ("blocks.0.k", -2, "padding rows from 5 do not hold value 0"),
        ("blocks.0.o", 3 * 4, "padding rows from 3 do not hold value 0"),
    ],
)
def test_padding_inside_tensors_is_checked(sample: Path, name: str, at: int, message: str) -> None:
    rewrite(sample, name, at, b"\x01")
    assert formats.verify(sample) == [f"tensor {name}: {message}"]


def test_checksum_is_xxh3_128_of_the_data(sample: Path) -> None:
    raw = sample.read_bytes()
    for row in rows(sample):
        data = raw[row["offset"] : row["offset"] + row["nbytes"]]
        assert row["xxh3"] == xxh3_128(data).hexdigest()


def test_large_tensors_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.edgeq"
    with formats.Writer(path, HEADER, [formats.TensorPlan("a", "f16", "plain", (5000,))]) as writer:
        writer.write("a", np.ones(5000, "<f2"))
        writer.commit()
    monkeypatch.setattr(verifier, "CHUNK_BYTES", 999)
    seen: list[int] = []
    assert formats.verify(path, lambda done, total, name: seen.append(done)) == []
    assert len(seen) == 11 and seen[-1] == path.stat().st_size
    rewrite(path, "a", 9998, b"\x00\x7c")
    assert formats.verify(path) == ["tensor a: 1 values are not finite, the first in row 0, column 4999"]


def test_a_file_that_cannot_be_opened_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be opened"):
        formats.verify(tmp_path / "none.edgeq")
