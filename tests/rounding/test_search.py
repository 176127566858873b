"""Bringing numbers into schemes by a search: its errors, its codes, and the same bits however it is run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq import formats
from edgeq.converters.recipe import choose
from edgeq.errors import FormatError
from edgeq.formats import SCHEMES, Rounding
from edgeq.rounding import rounding_of, search
from tests.formats.parts import write_parts

Array = np.ndarray[Any, Any]
# of normally distributed numbers: the error that the search leaves, relative to their size
ERRORS = {"e8": 0.0052, "e6": 0.0198, "e5": 0.0357, "e4": 0.0691, "e3": 0.1469, "e2": 0.3009, "t2": 0.4364}
SEARCHED = [name for name in ERRORS if SCHEMES[name].sub]


def normal(rows: int, cols: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


def rounding(name: str) -> Rounding:
    found = rounding_of(SCHEMES[name])
    assert found is not None
    return found


def quantized(x: Array, name: str) -> tuple[dict[str, Array], Array]:
    """The parts, and float32 of them."""
    parts = formats.quantize(x, name, rounding(name))
    return parts, formats.dequantize(parts, name)[:, : x.shape[1]]


def error(x: Array, name: str) -> float:
    return float(np.linalg.norm(quantized(x, name)[1] - x) / np.linalg.norm(x))


@pytest.mark.parametrize("name", ERRORS)
def test_the_error_is_the_one_that_was_measured(name: str) -> None:
    assert error(normal(64, 1024), name) == pytest.approx(ERRORS[name], rel=0.01)


def test_a_search_is_better_than_rounding_at_more_bits() -> None:
    x = normal(64, 1024)
    assert error(x, "e8") < error(x, "q8") and error(x, "e4") < 0.81 * error(x, "q4")


@pytest.mark.parametrize("name", SEARCHED)
def test_each_weight_has_the_nearest_code(name: str) -> None:
    row, x = SCHEMES[name], normal(16, 96)
    parts, found = quantized(x, name)
    each = [
        formats.dequantize({**parts, "codes": np.full_like(parts["codes"], code)}, row)
        for code in range(1 << row.bits)
    ]
    least = np.abs(np.stack(each) - x).min(axis=0)
    assert (np.abs(found - x) <= least + 1e-5).all()


@pytest.mark.parametrize("name", SEARCHED)
def test_compiled_and_interpreted_it_has_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, each operation is rounded by itself and none changes place."""
    x = normal(2, 64) * np.array([[1], [1e-3]], np.float32)
    compiled = quantized(x, name)[0]
    for function in ("fit", "added"):
        monkeypatch.setattr(search, function, getattr(search, function).py_func)
    assert_same(quantized(x, name)[0], compiled)


@pytest.mark.parametrize("name", ERRORS)
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    x = normal(40, 172)
    whole, row = quantized(x, name)[0], quantized(x[33:34], name)[0]
    assert_same({part: array[33:34] for part, array in whole.items()}, row)


def assert_same(one: dict[str, Array], other: dict[str, Array]) -> None:
    assert {name: part.tobytes() for name, part in one.items()} == {
        name: part.tobytes() for name, part in other.items()
    }


@pytest.mark.parametrize("size", [3e38, 1e-36, 1e-44, 0])
@pytest.mark.parametrize("name", ERRORS)
def test_numbers_of_any_size(name: str, size: float) -> None:
    """Squares would be infinite, or 0."""
    x = np.clip(normal(3, 64) * np.float32(0.2), -1, 1).astype(np.float32)
    x[1] = 0
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        _, found = quantized((x * np.float32(size)).astype(np.float32), name)
    assert not found[1].any()
    if size > 1e-40:
        change = found.astype(float) / size - x
        assert np.linalg.norm(change) / np.linalg.norm(x) < 1.2 * ERRORS[name]


@pytest.mark.parametrize("name", SEARCHED)
def test_one_large_number_leaves_the_other_blocks(name: str) -> None:
    """They get small integers, or 0, but not more of an error than they are large. No code of e2 means 0, so
    its block of a large number is all the better the smaller that one becomes.
    """
    x = normal(1, 256)
    x[0, 3] = 1000
    _, found = quantized(x, name)
    assert found[0, 3] == pytest.approx(1000, rel=0.25 if name == "e2" else 0.1)
    assert np.linalg.norm((found - x)[0, 32:]) <= np.linalg.norm(x[0, 32:]) * 1.0001


@pytest.mark.parametrize("bits", [0x7F800000, 0xFF800000, 0x7F800001, 0x7FC00000])
@pytest.mark.parametrize("name", ERRORS)
def test_what_is_not_finite_is_named(name: str, bits: int) -> None:
    x = normal(40, 70)
    x.view(np.uint32)[33, 65] = bits
    with (
        np.errstate(over="raise", divide="raise", invalid="raise"),
        pytest.raises(FormatError, match="row 33, columns from 0: a value is not finite"),
    ):
        formats.quantize(x, name, rounding(name))


@pytest.mark.parametrize("name", ERRORS)
def test_files_keep_the_rules_of_padding(name: str, tmp_path: Any) -> None:
    x = normal(17, 45)
    parts, values = quantized(x, name)
    path = write_parts(tmp_path / "a.edgeq", SCHEMES[name], x.shape, parts)
    assert formats.verify(path) == []
    with formats.open_model(path) as file:
        assert np.array_equal(file.tensors["a"].array(), values)


def test_padding_is_no_zeros() -> None:
    """A block that is all there but for 24 columns has the error of one that is."""
    x = normal(400, 8) + 4
    assert error(x, "e4") <= error(np.tile(x, 4), "e4") * 1.00001


def test_weights_trained_to_be_ternary_stay_what_they_are() -> None:
    scales = np.array([[0.0123], [3.0], [1e-5]], np.float32)
    x = (np.random.default_rng(1).integers(-1, 2, (3, 100)) * scales).astype(np.float32)
    assert np.array_equal(quantized(x, "t2")[1], x)


def test_a_ternary_scale_is_the_best() -> None:
    x = normal(1, 64)
    scales = np.linspace(0.2, 3, 2000)[:, None]
    tried = np.square(x - np.where(np.abs(x) > scales / 2, np.sign(x) * scales, 0)).sum(axis=1)
    assert np.square(quantized(x, "t2")[1] - x).sum() <= tried.min() * 1.00001


@pytest.mark.parametrize(("scheme", "head"), [("e4", "e8"), ("t2", "e8"), ("q4", "q8"), ("f16", "f16")])
def test_schemes_with_a_float_for_each_row_go_with_e8(scheme: str, head: str) -> None:
    rules = choose(scheme=scheme).rules
    assert [rule.scheme for rule in rules] == [head, head, scheme]


def test_what_nothing_rounds_to() -> None:
    assert [name for name, row in SCHEMES.items() if row.planes and not rounding_of(row)] == [
        *("k6", "k5", "k4", "k3", "k2", "t4x", "mx4", "nv4"),
        *("iq3xxs", "iq3s", "iq2xxs", "iq2s", "iq1s", "iq1m", "tq2", "q2g64"),
    ]
