"""Kernels of rows of logits, bit for bit: likelihoods, selection, repetitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeq.kernels.logits import meaning
from edgeq.kernels.logits.meaning import BLOCK, LANES, STEPS, WAYS
from tests.kernels.calling import Array, Memory, call, float32_bits, same_bits, tag_of
from tests.simd.rows import EVERYWHERE

COUNTS = [1, 128, 301]
PLACES = [(name, count) for name in EVERYWHERE for count in COUNTS]
on_all = pytest.mark.parametrize(("name", "count"), PLACES)


def rows(count: int) -> Iterator[Array]:
    """Rows as models give them, with equal logits, with one that stands out, with zeros of both signs, all
    alike, and with what weighs nothing."""
    rng = np.random.default_rng(count)
    normal = rng.normal(size=count)
    for row in (normal * 4, np.rint(normal * 2), np.where(np.arange(count) == count // 2, 40.0, normal)):
        yield row.astype(np.float32)
    yield np.where(rng.random(count) < 0.5, np.float32(0.0), np.float32(-0.0))
    yield (rng.choice([0.0, -50.0, -90.0, -3e38], count) + normal).astype(np.float32)


class Called:
    """A kernel's call: operands are numbers, floats (as float32), arrays that it reads, and, by name, arrays
    that it writes. `found` is what it found, the others what it wrote."""

    def __init__(self, name: str, isa: str) -> None:
        self.name, self.tag, self.memory = name, tag_of(isa), Memory()

    def room(self, count: int, dtype: Any = np.float32, fill: Any = None) -> Any:
        return self.memory.flat(count, dtype, fill)

    def __call__(self, *operands: Any) -> None:
        call(self.memory, self.name, self.tag, *map(self._word, operands))

    def _word(self, operand: Any) -> int:
        if isinstance(operand, np.ndarray):
            return self.memory.put(operand).address
        if isinstance(operand, float | np.floating):
            bits = float32_bits(float(operand))
            return bits - (bits >> 31 << 32)
        return operand.address if hasattr(operand, "address") else int(operand)


def whole(count: int) -> int:
    return -(-count // LANES) * LANES


def blocks(count: int) -> int:
    return -(-count // BLOCK)


@on_all
def test_block_tops(name: str, count: int) -> None:
    for row in rows(count):
        k = Called("block_tops", name)
        tops, found = k.room(blocks(count)), k.room(3, np.float64)
        k(row, count, tops, k.room(LANES), found)
        want = meaning.block_tops(row)
        np.testing.assert_array_equal(tops.values, want[0])  # of zeros of both signs either
        np.testing.assert_array_equal(found.values, want[1])
    for bad in (np.nan, np.inf, -np.inf):
        for place in {0, count // 2, count - 1}:
            k = Called("block_tops", name)
            row = np.ones(count, np.float32)
            row[place] = bad
            found = k.room(3, np.float64)
            k(row, count, k.room(blocks(count)), k.room(LANES), found)
            assert found.values[2] == 1


@on_all
def test_exponential_sum(name: str, count: int) -> None:
    for row in rows(count):
        k = Called("exponential_sum", name)
        found = k.room(1, np.float64)
        k(row, count, row.max(), k.room(LANES), found)
        assert found.values[0] == meaning.exponential_sum(row, row.max())
        wide = row.astype(np.float64)
        assert found.values[0] == pytest.approx(np.exp(wide - wide.max()).sum(), rel=1e-13)


@on_all
@pytest.mark.parametrize("factor", [1.0, 0.4, 1e38])
def test_weigh(name: str, count: int, factor: float) -> None:
    for row in rows(count):
        some = float(np.sort(row)[count // 3])
        above = float(np.nextafter(np.float32(some), np.float32(np.inf)))
        for bound, last, high in ((-3.4e38, 0, -3.4e38), (some, count // 2, above), (some, 2**31 - 1, above)):
            k = Called("weigh", name)
            weights, sums = k.room(whole(count)), k.room(blocks(count), np.float64)
            found = k.room(1, np.float64)
            operands = row.max(), factor, bound, last, high
            k(row, count, *operands, weights, sums, k.room(LANES), found)
            want = meaning.weigh(row, *operands)
            same_bits(weights.values, np.pad(want[0], (0, whole(count) - count)))
            np.testing.assert_array_equal(sums.values, want[1])
            assert found.values[0] == want[2]


@on_all
def test_typicality(name: str, count: int) -> None:
    for row in rows(count):
        bound, absent = row[count // 2], np.float32(-3.4028235e38)
        above = np.nextafter(bound, np.float32(np.inf))
        for floor in ((bound, count // 2, above), (bound, 2**31 - 1, bound), (absent, 2**31 - 1, absent)):
            k = Called("typicality", name)
            typical, tops = k.room(whole(count)), k.room(blocks(count))
            k(row, count, row.max(), 0.7, -2.5, *floor, typical, tops, k.room(LANES))
            want = meaning.typicality(row, row.max(), 0.7, -2.5, *floor)
            same_bits(typical.values[:count], want[0])
            same_bits(tops.values, want[1])


@on_all
def test_blank(name: str, count: int) -> None:
    for row in rows(count):
        rng = np.random.default_rng(count)
        logits, each = rng.normal(size=count).astype(np.float32), rng.random(count, np.float32)
        bound = row[count // 2]
        above = np.nextafter(bound, np.float32(np.inf))
        for last in (count // 2, 2**31 - 1):
            k = Called("blank", name)
            weights, blanked = k.room(whole(count)), k.room(whole(count))
            tops, sums = k.room(blocks(count)), k.room(blocks(count), np.float64)
            found = k.room(2, np.float64)
            weights.values[:] = np.pad(each, (0, whole(count) - count))
            k(row, logits, count, bound, last, above, weights, blanked, tops, sums, k.room(LANES), found)
            want = meaning.blank(row, logits, bound, last, above, each)
            same_bits(blanked.values[:count], want[0])
            same_bits(weights.values[:count], want[1])
            same_bits(tops.values, want[2])
            np.testing.assert_array_equal(sums.values, want[3])
            np.testing.assert_array_equal(found.values, want[4])


@on_all
def test_spread(name: str, count: int) -> None:
    for row in rows(count):
        k = Called("spread", name)
        found = k.room(2, np.float64)
        with np.errstate(over="ignore"):
            k(row, count, 0.3, k.room(LANES), found)
            np.testing.assert_array_equal(found.values, meaning.spread(row, 0.3))


@on_all
def test_adapt(name: str, count: int) -> None:
    weights = np.random.default_rng(count).random(whole(count)).astype(np.float32)
    k = Called("adapt", name)
    row = k.room(whole(count))
    k(weights, count, 0.9, 0.25, row)
    same_bits(row.values, meaning.adapt(weights, 0.9, 0.25))


@on_all
def test_descend_and_at_step(name: str, count: int) -> None:
    for row in rows(count):
        weights = np.random.default_rng(count).random(count).astype(np.float32)
        for given in (weights, None):
            top, scale = float(row.max()), float(np.float32(STEPS / 30))
            k = Called("descend", name)
            steps = k.room(whole(count), np.int32)
            histogram, tail = k.room(WAYS * STEPS, np.float64), k.room(LANES)
            k(row, 0 if given is None else given, count, top, scale, steps, histogram, tail)
            want = meaning.descend(row, given, top, scale)
            np.testing.assert_array_equal(steps.values[:count], want[0])
            np.testing.assert_array_equal(histogram.values.reshape(WAYS, STEPS), want[1])
        for step in {0, int(want[0][0]), int(want[0][-1]), STEPS - 1}:
            k = Called("at_step", name)
            places, found = k.room(count, np.int32), k.room(1, np.float64)
            k(row, count, top, scale, step, np.pad(want[0], (0, LANES)), places, k.room(LANES), found)
            inside = meaning.at_step(want[0], step)
            np.testing.assert_array_equal(places.values[: int(found.values[0])], inside)


@on_all
def test_collect(name: str, count: int) -> None:
    rng = np.random.default_rng(count)
    for row in rows(count):
        ids = np.sort(rng.choice(10 * count, count, replace=False)).astype(np.int32)
        logits = rng.normal(size=count).astype(np.float32)
        tops = meaning.block_tops(row)[0]
        for place in {0, count // 2, count - 1}:
            bound = row[place]
            above = np.nextafter(bound, np.float32(np.inf))
            for last in (place, 2**31 - 1):
                for given in (tops, 0):
                    k = Called("collect", name)
                    kept, kept_ids = k.room(count + 1), k.room(count + 1, np.int32)
                    found = k.room(1, np.float64)
                    k(row, logits, ids, count, bound, last, above, given, kept, kept_ids, found)
                    want = meaning.collect(row, logits, ids, bound, last, above)
                    left = int(found.values[0])
                    same_bits(kept.values[:left], want[0])
                    np.testing.assert_array_equal(kept_ids.values[:left], want[1])


@on_all
def test_allowed(name: str, count: int) -> None:
    rng = np.random.default_rng(count)
    logits = rng.normal(size=count).astype(np.float32)
    words = -(-count // 32)
    some = rng.integers(0, 2**32, words, np.uint32)
    for mask in (some, np.where(rng.random(words) < 0.7, 0, some).astype(np.uint32), ~(some & 0)):
        k = Called("allowed", name)
        kept, ids, found = k.room(count + 1), k.room(count + 1, np.int32), k.room(1, np.float64)
        k(mask, logits, count, kept, ids, found)
        want = meaning.allowed(mask, logits)
        left = int(found.values[0])
        same_bits(kept.values[:left], want[0])
        np.testing.assert_array_equal(ids.values[:left], want[1])


@on_all
def test_tally_and_repeats(name: str, count: int) -> None:
    rng = np.random.default_rng(count)
    for kinds in (1, 2, 5, 1000):
        text = rng.integers(0, kinds, count).astype(np.int32)
        if count > 20:
            text[-7:] = text[3:10]
        k = Called("tally", name)
        counts = k.room(kinds, np.int32, 0)
        ids, times, found = k.room(count, np.int32), k.room(count, np.int32), k.room(1, np.float64)
        k(text, count, counts, ids, times, found)
        want = meaning.tally(text)
        distinct = int(found.values[0])
        np.testing.assert_array_equal(ids.values[:distinct], want[0])
        np.testing.assert_array_equal(times.values[:distinct], want[1])
        assert not counts.values.any()
        logits, penalties = rng.normal(size=kinds).astype(np.float32), (1.3, 0.2, -0.1)
        logits[0] = -3e38
        k = Called("penalize", name)
        penalized = k.memory.put(logits)
        k(penalized, want[0], want[1].astype(np.int32), distinct, np.array(penalties))
        expected = logits.copy()
        expected[want[0]] = meaning.penalize(logits[want[0]], want[1], *penalties)
        same_bits(penalized.values, expected)
        k = Called("repeats", name)
        lengths = k.room(count, np.int32)
        k(text, count, lengths)
        np.testing.assert_array_equal(lengths.values, meaning.repeats(text))
