"""`verify` finds what opening does not read, and names the tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_128

from edgeq import formats
from edgeq.errors import UsageError
from edgeq.formats import NUMBERS, SCHEMES, Scheme, verifier
from tests.formats.parts import ROWS, random_parts, write_parts
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


@pytest.fixture(params=ROWS.values(), ids=list(ROWS))
def scheme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scheme:
    """Each scheme of numbers, known to the reader."""
    row: Scheme = request.param
    monkeypatch.setitem(SCHEMES, row.name, row)
    return row


def test_floats_that_are_not_finite_are_named_with_their_place(tmp_path: Path, scheme: Scheme) -> None:
    """A NaN, an infinity or an e8m0 of 255 in any part."""
    shape = (40, 300)
    path = write_parts(tmp_path / "a.edgeq", scheme, shape, random_parts(scheme, *shape))
    assert formats.verify(path) == []
    spans = formats.geometry(scheme, "lines16", shape).spans
    for span in (span for span in spans.values() if span.part.number):
        entry = min(1, span.shape[1] - 1)
        at = span.offset + ((2 * span.shape[1] + entry) * 16 + 7) * span.part.itemsize
        rewrite(path, "a", at, b"\xff" * span.part.itemsize)
        where = {0: "row 39", 1: f"row 39, column {entry}"}.get(span.part.columns, f"row 39, group {entry}")
        [problem] = formats.verify(path)
        what = span.part.name if span.part.columns else "row float"
        assert problem == f"tensor a: 1 {what}s are not finite, the first in {where}"
        rewrite(path, "a", at, b"\x01" * span.part.itemsize)


def test_padding_of_every_part_is_checked(tmp_path: Path, scheme: Scheme) -> None:
    """A bit of the last padding row, and one of the first entry that only padding columns share."""
    rows, cols = shape = (17, 33)
    for array in scheme.arrays:
        wide = -(-cols // scheme.step) * scheme.step
        first = -(-cols // array.columns) if array.columns else 1
        parts = random_parts(scheme, *shape)
        padding = scheme.padding if array.bits else 0
        what = f"do not hold {array.noun} {padding}"
        if first < array.entries(wide):
            parts[array.name].view(f"<u{array.itemsize}")[5, first] ^= 1
            path = write_parts(tmp_path / "a.edgeq", scheme, shape, parts)
            assert formats.verify(path) == [f"tensor a: padding columns from {cols} {what}"]
        padded = random_parts(scheme, 32, cols)
        for name, part in padded.items():
            part[rows:] = scheme.padding if name == "codes" else 0
        last = padded[array.name].view(np.uint8)[31]
        unsigned = array.bits or array.number and not NUMBERS[array.number].sign
        last[array.itemsize - 1] ^= 1 if unsigned else 128  # the sign: minus zero is not 0
        path = write_parts(tmp_path / "b.edgeq", scheme, (32, cols), padded)
        assert formats.verify(relabelled(path, tmp_path / "a.edgeq", rows)) == [
            f"tensor a: padding rows from {rows} {what}"
        ]


def relabelled(path: Path, target: Path, rows: int) -> Path:
    """The same data as a tensor of fewer rows in as many tiles."""
    with formats.open_model(path) as file:
        tensor = file.tensors["a"]
        plan = formats.TensorPlan("a", tensor.scheme, "lines16", (rows, tensor.shape[1]))
        with formats.Writer(target, HEADER, [plan]) as writer:
            writer.write("a", tensor.data)
            writer.commit()
    return target


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
