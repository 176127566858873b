"""Formats of numbers against ml_dtypes, which follows their specifications: every code, and rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.formats import NUMBERS

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is the reference for formats of numbers")
Array = np.ndarray[Any, Any]
KINDS = {
    "bf16": ml_dtypes.bfloat16,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}


def every(name: str) -> Array:
    """All codes."""
    nbytes = NUMBERS[name].nbytes
    return np.arange(1 << 8 * nbytes, dtype=f"u{nbytes}")


def same(got: Array, want: Array) -> bool:
    """Bit by bit, but for what a NaN holds."""
    nan = np.isnan(want)
    return np.array_equal(np.isnan(got), nan) and got[~nan].tobytes() == want[~nan].tobytes()


@pytest.mark.parametrize("name", KINDS)
def test_every_code_has_its_value(name: str) -> None:
    number, codes, kind = NUMBERS[name], every(name), KINDS[name]
    with np.errstate(invalid="raise"):
        values = number.floats(codes)
    want = codes.view(kind).astype(np.float32)
    assert values.dtype == np.float32 and same(values, want)
    assert np.array_equal(number.finite(codes), np.isfinite(want))
    info = ml_dtypes.finfo(kind)
    assert (number.largest, number.smallest_normal) == (float(info.max), float(info.smallest_normal))


@pytest.mark.parametrize("name", [name for name in KINDS if NUMBERS[name].stored])
def test_the_nearest_is_stored(name: str) -> None:
    """Of random bits, of magnitudes around 1, of all numbers, what lies half-way and its neighbours; what is
    too large becomes what is not finite.
    """
    number, random = NUMBERS[name], np.random.default_rng(2)
    values = np.sort(number.floats(every(name)[number.finite(every(name))]))
    half = ((values[:-1].astype(float) + values[1:]) / 2).astype(np.float32)
    around_1 = random.standard_normal(20000) * np.exp2(random.integers(-20, 20, 20000))
    some = [
        random.integers(0, 1 << 32, 20000, np.uint32).view(np.float32),
        around_1.astype(np.float32),
        *(values, half, np.nextafter(half, np.float32(np.inf)), np.nextafter(half, -np.float32(np.inf))),
        np.minimum(number.largest * np.linspace(1, 1.2, 500), np.finfo(np.float32).max).astype(np.float32),
        np.array([np.nan, np.inf, 3e38], np.float32),
    ]
    x = np.concatenate([*some, *(-part for part in some)])
    assert number.stored is not None
    stored = number.stored(x)
    assert stored.dtype == number.dtype
    with np.errstate(invalid="ignore"):  # of some NaNs
        want = x.astype(KINDS[name]).astype(np.float32)
    assert same(number.floats(stored), want)


def test_a_ue4m3_is_an_e4m3_above_0() -> None:
    codes, number = every("ue4m3"), NUMBERS["ue4m3"]
    assert number.finite(codes).tolist() == [code < 127 for code in range(256)]
    values = number.floats(codes)
    assert np.isnan(values[127:]).all()
    assert values[:127].tobytes() == NUMBERS["e4m3"].floats(codes[:127]).tobytes()
