"""The cache and attention over it, bit for bit: odd heads, grouped queries, windows, chunk borders."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgeq.cache import Kind, LayerShape, Plan, kind_of
from edgeq.formats import schemes
from edgeq.kernels import meaning_attention
from edgeq.kernels.catalog import TASKS, Scratch
from edgeq.kernels.meaning_attention import turn
from edgeq.kernels.table import KERNELS
from edgeq.simd.verbs.wide import wide_of
from tests.kernels.calling import (
    Array,
    Memory,
    batch_of,
    call_with,
    float32_bits,
    run,
    same_bits,
    tag_of,
)
from tests.simd.rows import EVERYWHERE, HERE


@dataclass(frozen=True)
class Case:
    """`before` positions are in the cache, then `count` queries come."""

    head_dim: int
    kv_heads: int
    share: int
    before: int
    count: int
    window: int = 0
    cap: float = 0.0
    sinks: bool = False
    whole: bool = False

    @property
    def heads(self) -> int:
        return self.kv_heads * self.share

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.before + self.count, self.kv_heads, self.head_dim


CASES = [
    Case(8, 1, 1, 0, 1),
    Case(8, 2, 3, 250, 9),
    Case(8, 1, 8, 600, 4, 300),
    Case(64, 2, 1, 0, 130),
    Case(64, 1, 8, 255, 3),
    Case(64, 2, 3, 300, 9, 100),
    Case(64, 1, 1, 511, 2, 1),
    Case(80, 2, 3, 510, 5),
    Case(80, 1, 1, 3, 7, 4),
    Case(20, 3, 1, 31, 2, 32),
    Case(16, 1, 2, 40, 3),
    Case(2, 2, 1, 5, 2),
    Case(40, 1, 1, 20, 3),
    Case(64, 1, 1, 256, 1),
    Case(64, 1, 2, 767, 6, 256),
    Case(64, 1, 1, 500, 30, 4),
]
SOME = [CASES[n] for n in (1, 2, 5, 7, 8)]
CAPPED = [
    Case(64, 2, 3, 250, 9, cap=2.0, sinks=True),
    Case(80, 1, 2, 300, 4, 40, cap=50.0),
    Case(8, 2, 3, 520, 1, sinks=True),
]
WHOLE = [
    Case(32, 2, 1, 0, 130, whole=True),
    Case(64, 1, 3, 0, 300, whole=True),
    Case(20, 2, 2, 0, 1, whole=True),
    Case(8, 1, 1, 250, 9, whole=True),
]
TOKENS_MAX = 8


def inputs(case: Case) -> tuple[Array, Array, Array]:
    """Queries of the pass, all keys, all values: some large, some rows of zeros."""
    rng = np.random.default_rng(case.before + case.count)
    q = rng.normal(size=(case.count, case.heads, case.head_dim)).astype(np.float32)
    k, v = (rng.normal(size=case.shape).astype(np.float32) for _ in "kv")
    k[::7] *= 20.0
    v[::11] *= 100.0
    v[5::13] = 0.0
    return q, k, v


def softmax_of(case: Case) -> meaning_attention.Softmax:
    """With sinks, if any, some of which outweigh all scores and some that weigh next to nothing."""
    sinks = np.random.default_rng(case.heads).normal(size=case.heads) * 3
    sinks[1::3], sinks[2::3] = 200.0, -200.0
    found = sinks.astype(np.float32) if case.sinks else None
    return meaning_attention.Softmax(case.window, case.cap, found, case.whole)


def centre_of(case: Case) -> Array:
    """What is taken from keys: nothing where the softmax is of more than differences of scores."""
    if case.cap or case.sinks:
        return np.zeros((case.kv_heads, case.head_dim), np.float32)
    return np.random.default_rng(case.head_dim).normal(size=(case.kv_heads, case.head_dim)).astype(np.float32)


class Attention:
    """A sequence's pages and the operands of the kernels of a layer, as programs fill them in."""

    def __init__(self, case: Case, kind: str | Kind, isa: str, units: int = 99):
        self.case, self.kind = case, kind_of(kind) if isinstance(kind, str) else kind
        self.tag = tag_of(isa, self.kind.scheme)
        self.m = Memory()
        context = case.before + case.count
        self.plan = plan = Plan(self.kind, context)
        self.layer = plan.layer(LayerShape(case.kv_heads, case.head_dim, case.window))
        self.rows = max(case.before, case.count) * case.share + self.tag.tokens
        queries = self.rows * case.kv_heads
        dims = self.dims = -(-case.head_dim // 32) * 32
        m = self.m
        self.pages = [m.flat(plan.page_bytes, np.uint8, 0) for _ in range(plan.pages)]
        self.listed = m.put(np.array([0, *(page.address for page in self.pages)]))
        self.query = m.flat(queries * dims, np.float32, 77)
        centre = np.zeros((case.kv_heads, dims), np.float32)
        centre[:, : case.head_dim] = centre_of(case)
        self.centre = m.put(centre)
        room = Scratch(self.tag.tokens, case.head_dim)
        self.scratch = m.flat(2 * room.bytes // 4, np.float32, np.nan)
        self.names = list(self.kind.near_parts(case.kv_heads, case.head_dim))
        self.operands = {"q": self.query.address} | dict(
            zip(self.names, self.layer.words, strict=True),
            heads=case.heads,
            kv_heads=case.kv_heads,
            head_dim=case.head_dim,
            pages_at=8,  # behind those of another group
            rows=self.rows,
        )
        self.own = dict(scratch=self.scratch.address, scratch_stride=room.bytes)
        sinks = softmax_of(case).sinks
        self.softmax = dict(
            window=case.window,
            cap=float32_bits(case.cap),
            sinks=0 if sinks is None else self.m.put(sinks).address,
            whole=int(case.whole),
        )
        self.finished = m.flat(TASKS * 2, np.int64, 0)
        self.units = dict(
            units=m.flat(units * room.block // 4, np.float32, np.nan).address,
            block=room.block,
            units_max=units,
            finished=self.finished.address,
        )

    def part(self, name: str, dtype: Any = np.uint8) -> Array:
        """[pages, numbers]: what the pages hold of a part."""
        at = self.names.index(name)
        first, last = self.layer.words[at], self.layer.ends[at]
        return np.stack([page.values[first:last].view(dtype) for page in self.pages])

    @property
    def number(self) -> str:
        return "int8" if self.kind.scaled else "float"

    def store(self, position: int, q: Array, k: Array, v: Array, workers: int = 1) -> None:
        """Keys and values, and the queries laid out."""
        self.lay(q, workers)
        count = len(k)
        keys, values = (self.m.rows(part.reshape(count, -1)) for part in (k, v))
        words = (*self.names, "kv_heads", "head_dim", "pages_at")
        own = self.own if self.kind.scaled else {}
        run(
            self.m,
            f"store_{self.number}",
            self.tag,
            count=count,
            position=position,
            pages=self.listed.address,
            workers=workers,
            k=keys.address,
            v=values.address,
            kv_stride=keys.stride,
            centre=self.centre.address,
            **{word: self.operands[word] for word in words},
            **own,
        )

    def lay(self, q: Array, workers: int = 1) -> None:
        a = self.m.rows(q.reshape(len(q), -1))
        words = ("q", "heads", "kv_heads", "head_dim", "rows")
        own = self.own if self.kind.scaled else {}
        run(
            self.m, f"lay_{self.number}", self.tag, count=len(q), workers=workers, a=a.address,
            a_stride=a.stride, scaling=float32_bits(scaling(self.case)),
            **{word: self.operands[word] for word in words}, **own,
        )  # fmt: skip

    def attend(self, workers: int = 1) -> Array:
        case = self.case
        y = self.m.rows(np.full((case.count, case.heads * case.head_dim), np.nan, np.float32))
        run(
            self.m,
            f"attend_{self.number}",
            self.tag,
            count=case.count,
            position=case.before,
            pages=self.listed.address,
            workers=workers,
            y=y.address,
            y_stride=y.stride,
            **self.softmax,
            **self.operands,
            **self.own,
            **self.units,
        )
        assert not self.finished.values.any()
        return y.values.reshape(case.count, case.heads, case.head_dim)

    def queries(self) -> Array:
        """float32 [count, heads, dims], what the queries' buffer holds."""
        case = self.case
        by_head = self.query.values.reshape(case.kv_heads, self.rows, -1)[:, : case.count * case.share]
        return (
            by_head.reshape(case.kv_heads, case.count, case.share, -1)
            .swapaxes(0, 1)
            .reshape(case.count, case.heads, -1)
        )

    def numbers(self) -> meaning_attention.Query:
        """The same of an INT8 cache's."""
        held = np.ascontiguousarray(self.queries())
        dims = held.shape[-1]
        raw = held.view(np.uint8)[..., : dims * 2]
        layout = wide_of(self.tag).layout
        return meaning_attention.Query(layout.read(np.ascontiguousarray(raw)), held[..., dims // 2])

    def run(
        self, workers: int = 1, given: tuple[Array, Array, Array] | None = None
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        """Attention over what was given, or over `inputs`."""
        q, k, v = given or inputs(self.case)
        n = self.case.before
        if n:
            self.store(
                0, np.ones((n, self.case.heads, self.case.head_dim), np.float32), k[:n], v[:n], workers
            )
        self.store(n, q, k[n:], v[n:], workers)
        return self.attend(workers), (q, k, v)


def scaling(case: Case) -> float:
    return 1 / math.sqrt(case.head_dim)


@pytest.mark.parametrize(("dims", "block"), [(32, 32), (64, 64), (96, 32), (128, 128), (192, 64), (160, 32)])
def test_turned_heads(dims: int, block: int) -> None:
    """Blocks are multiplied with the matrix of 1 and -1, and products of two heads become `block` times as
    large.
    """
    assert meaning_attention.block(dims) == block
    signs = [[(-1) ** (i & j).bit_count() for i in range(block)] for j in range(block)]
    rng = np.random.default_rng(dims)
    x, y = rng.normal(size=(2, 5, dims)).astype(np.float32)
    want = np.einsum("nbi,ij->nbj", x.reshape(5, -1, block), np.array(signs, float)).reshape(5, dims)
    np.testing.assert_allclose(turn(x), want, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        (meaning_attention.turn(x) * meaning_attention.turn(y)).sum(-1) / block,
        (x * y).sum(-1),
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("head_dim", "copies"), [(2, 4), (8, 4), (12, 2), (16, 2), (80, 2), (20, 1), (32, 1), (40, 1), (128, 1)]
)
def test_equal_copies_are_rounded_elsewhere(head_dim: int, copies: int) -> None:
    """A turned block that zeros pad is so many copies of one vector, whose codes add up to it in steps as
    many times finer.
    """
    add = meaning_attention.between(head_dim)
    dims = len(add)
    size = meaning_attention.block(dims)
    x = np.random.default_rng(head_dim).normal(size=(500, head_dim)).astype(np.float32)
    turned = meaning_attention.turn(meaning_attention.padded(x))[:, -size:]
    codes, scale = meaning_attention.rounded(turned, 127, add[-size:])
    assert np.abs(codes).max() == 127 and not add[: dims - size].any()
    shaped = codes.reshape(500, copies, -1)
    if copies > 1:
        assert (turned.reshape(shaped.shape) == turned.reshape(shaped.shape)[:, :1]).all()
    error = shaped.mean(1) - turned.reshape(shaped.shape)[:, 0] / scale[:, None]
    assert np.abs(error).max() < 0.501 / copies
    assert np.abs(error).max() > 0.45 / copies


@pytest.mark.parametrize("case", CASES + CAPPED + WHOLE, ids=str)
def test_int8(case: Case) -> None:
    check_int8(case, HERE)


@pytest.mark.parametrize("name", [name for name in EVERYWHERE if name != HERE])
@pytest.mark.parametrize("case", SOME + CAPPED + WHOLE[1:], ids=str)
def test_int8_everywhere(case: Case, name: str) -> None:
    check_int8(case, name)


def check_int8(case: Case, name: str) -> None:
    attention = Attention(case, "q8", name)
    got, (q, k, v) = attention.run(workers=2)
    same_bits(Attention(case, "q8", name, units=0).run(workers=2)[0], got)
    query = meaning_attention.lay_int8(q, scaling(case))
    stored = meaning_attention.store_int8(k, v, centre_of(case))
    for held, want in zip(attention.numbers(), query, strict=True):
        np.testing.assert_array_equal(held, want)
    check_layout(attention, stored)
    want = meaning_attention.attend_int8(query, stored, case.before, softmax_of(case))
    same_bits(got, want[..., : case.head_dim])


def padded(stored: meaning_attention.Stored) -> meaning_attention.Stored:
    """With positions of zeros up to a whole chunk, as an empty cache holds them."""
    more = -len(stored.keys) % 256
    return meaning_attention.Stored(
        *(np.concatenate([p, np.zeros((more, *p.shape[1:]), p.dtype)]) for p in stored)
    )


def check_layout(attention: Attention, stored: meaning_attention.Stored) -> None:
    """The pages hold keys and values as `kernels.cache` says, and zeros where nothing was put."""
    whole = padded(stored)
    capacity, kv_heads, dims = whole.keys.shape
    pages = len(attention.pages)
    assert capacity == 256 * pages
    by_head = (pages, kv_heads)
    for i in range(kv_heads):
        codes = whole.keys[:, i].view(np.uint8)
        lines = attention.part("keys").reshape(*by_head, -1)[:, i].reshape(capacity // 16, dims // 4, 64)
        got = schemes.unpack([lines], (8,))
        np.testing.assert_array_equal(got, codes)
        (values,) = schemes.pack(np.ascontiguousarray(whole.values[:, i].T).view(np.uint8), (8,))
        values = values.reshape(dims // 16, capacity // 32, 8, 64).swapaxes(0, 1)
        got = attention.part("values").reshape(*by_head, -1)[:, i].reshape(values.shape)
        np.testing.assert_array_equal(got, values)
        scales = whole.key_scales[:, i].reshape(capacity // 16, 16, -1).swapaxes(1, 2)
        got = attention.part("key_scales", np.float32).reshape(*by_head, -1)[:, i].reshape(scales.shape)
        same_bits(got, scales)
        got = attention.part("value_scales", np.float32).reshape(*by_head, -1)[:, i].reshape(-1)
        same_bits(got, whole.value_scales[:, i])


@pytest.mark.parametrize(
    ("case", "kind", "name"),
    [
        *((c, k, HERE) for c in CASES + CAPPED + WHOLE for k in ("f32", "f16")),
        *((c, "f16", n) for c in SOME + CAPPED + WHOLE[1:] for n in EVERYWHERE if n != HERE),
    ],
    ids=str,
)
def test_floats(case: Case, kind: str, name: str) -> None:
    dtype = {"f32": np.float32, "f16": np.float16}[kind]
    attention = Attention(case, kind, name)
    got, (q, k, v) = attention.run(workers=2)
    same_bits(Attention(case, kind, name, units=0).run(workers=2)[0], got)
    query = meaning_attention.lay_float(q, scaling(case))
    keys, values = meaning_attention.store_float(k, v, centre_of(case), dtype)
    same_bits(attention.queries()[..., : case.head_dim], query)
    same_bits(got, meaning_attention.attend_float(query, keys, values, case.before, softmax_of(case)))


@pytest.mark.parametrize("case", SOME + CAPPED + WHOLE[1:], ids=str)
def test_attention_is_softmax(case: Case) -> None:
    """Floats against plain float64; INT8 within the steps of its quantization."""
    q, k, v = inputs(case)
    _, cap, sinks, _ = softmax_of(case)
    exact = np.empty((case.count, case.heads, case.head_dim))
    for h in range(case.heads):
        key, value = k[:, h // case.share].astype(float), v[:, h // case.share].astype(float)
        for n in range(case.count):
            last = case.before + (case.count - 1 if case.whole else n)
            first = max(0, last - case.window + 1) if case.window else 0
            value_seen = value[first : last + 1]
            s = key[first : last + 1] @ q[n, h].astype(float) * scaling(case)
            if cap:
                s = cap * np.tanh(s / cap)
            if sinks is not None:
                s, value_seen = np.append(s, sinks[h]), np.vstack([value_seen, np.zeros(case.head_dim)])
            p = np.exp(s - s.max())
            exact[n, h] = p @ value_seen / p.sum()
    size = np.abs(v).max()
    got, _ = Attention(case, "f32", HERE).run()
    np.testing.assert_allclose(got, exact, rtol=0, atol=3e-6 * size)
    got, _ = Attention(case, "q8", HERE).run()
    assert np.sqrt(((got - exact) ** 2).mean()) < 0.02 * size


def test_a_page_is_as_large_as_it_says() -> None:
    """The last position of a full page is in its memory, and nothing is past it (canaries)."""
    for case in (Case(64, 2, 1, 255, 1), Case(64, 1, 2, 511, 1)):
        for kind in ("q8", "f16"):
            attention = Attention(case, kind, HERE)
            attention.run()
            assert len(attention.pages) * 256 == case.before + 1
            assert attention.part("values")[-1, -4:].any()


def test_layers_are_apart_on_a_page() -> None:
    plan = Plan.of(kind_of("q8"), 300, [LayerShape(2, 80, window) for window in (0, 100, 0)])
    again = Plan(kind_of("q8"), 300)
    layers = [again.layer(LayerShape(2, 80, window)) for window in (0, 100, 0)]
    for group in (0, 1):
        ends = [pair for c in layers if c.group.number == group for pair in zip(c.words, c.ends, strict=True)]
        assert ends[0][0] == 0 and ends[-1][1] <= plan.groups[group].nbytes
        for (a, end), (b, _) in itertools.pairwise(ends):
            assert a % 64 == 0 and a < end <= b
    assert [c.pages_at for c in layers] == [0, 16, 0] and plan.pages == 2


# ---- several sequences in a pass ----
@pytest.mark.parametrize("kind", ["q8", "f32"])
@pytest.mark.parametrize("units", [0, 99])
@pytest.mark.parametrize(("window", "whole"), [(0, False), (70, False), (0, True)])
def test_sequences_of_a_pass_do_not_meet(kind: str, units: int, window: int, whole: bool) -> None:
    """Rows of three sequences in one pass are what each has alone."""
    parts = ((520, 1), (3, 40), (255, 2))
    cases = [Case(64, 2, 3, before, count, window, whole=whole) for before, count in parts]
    alone = [Attention(case, kind, HERE).run() for case in cases]
    count = sum(case.count for case in cases)
    together = Attention(Case(64, 2, 3, 600, count, window, whole=whole), kind, HERE, units)
    each = [Attention(case, kind, HERE) for case in cases]  # their pages
    for attention, case, (_, (q, k, v)) in zip(each, cases, alone, strict=True):
        ones = np.ones((case.before, *q.shape[1:]), np.float32)
        attention.store(0, ones, k[: case.before], v[: case.before])
    given = [(q, k[c.before :], v[c.before :]) for c, (_, (q, k, v)) in zip(cases, alone, strict=True)]
    q, k, v = map(np.concatenate, zip(*given, strict=True))
    centre = each[0].centre  # of the same heads, and so the same numbers
    words = batch_of([(c.count, c.before, a.listed.address) for c, a in zip(cases, each, strict=True)])
    m = together.m
    a, keys, values = (m.rows(part.reshape(count, -1)) for part in (q, k, v))
    y = m.rows(np.full((count, 6 * 64), np.nan, np.float32))
    source = dict(k=keys.address, v=values.address, kv_stride=keys.stride, centre=centre.address)
    queries = dict(a=a.address, a_stride=a.stride, scaling=float32_bits(1 / 8))
    own = together.own if kind == "q8" else {}
    batch = int(words[0].ctypes.data)
    words_of: dict[str, dict[str, int]] = {"store": source, "lay": queries}
    for verb, own_words in words_of.items():
        kernel = f"{verb}_{together.number}"
        shared = {name: x for name, x in together.operands.items() if name in KERNELS[kernel].operands}
        call_with(m, kernel, together.tag, batch, 2, {**own_words, **shared, **own})
    output = dict(y=y.address, y_stride=y.stride, **together.softmax)
    rest = together.operands | together.own | together.units
    call_with(m, f"attend_{together.number}", together.tag, batch, 2, output | rest)
    same_bits(y.values.reshape(count, 6, 64), np.concatenate([got for got, _ in alone]))


# ---- what is not seen ----
HIDING = [  # tiles whose queries see different positions: at chunk borders, in windows, with shared heads
    Case(64, 2, 3, 250, 12),
    Case(8, 1, 2, 0, 33),
    Case(64, 1, 1, 511, 2, 1),
    Case(20, 1, 1, 255, 9, 4),
    Case(80, 1, 3, 520, 9, 260),
    Case(20, 1, 3, 250, 9, 4, cap=2.0, sinks=True),
    Case(20, 1, 3, 0, 9, whole=True),
]


def hidden_from(case: Case, row: int) -> Array:
    """Which positions the pass's row does not see."""
    position, there = case.before + row, np.arange(case.before + case.count)
    first = position - case.window + 1 if case.window else 0
    return (there < first) | (there > (there[-1] if case.whole else position))


def check_nothing_hidden_counts(case: Case, kind: str, isa: str, value: float) -> None:
    """No bit of a row changes when all that it does not see is that value: queries, keys and values of other
    tokens, and what was in the cache's memory before.
    """
    want, given = Attention(case, kind, isa).run()
    assert np.isfinite(want).all()
    for row in sorted({0, case.count // 2, case.count - 1}):
        q, k, v = (part.copy() for part in given)
        q[np.arange(case.count) != row] = value
        k[hidden_from(case, row)] = value
        v[hidden_from(case, row)] = -value
        attention = Attention(case, kind, isa)
        for page in attention.pages:
            page.values[:] = 255  # as float16 and float32 no number
        with np.errstate(all="ignore"):
            got, _ = attention.run(given=(q, k, v))
        same_bits(got[row], want[row])


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("kind", ["q8", "f16", "f32"])
@pytest.mark.parametrize("case", HIDING, ids=str)
def test_what_a_row_does_not_see_changes_no_bit(case: Case, kind: str, value: float) -> None:
    check_nothing_hidden_counts(case, kind, HERE, value)


@pytest.mark.parametrize("name", [name for name in EVERYWHERE if name != HERE])
@pytest.mark.parametrize("kind", ["q8", "f16"])
@pytest.mark.parametrize("case", HIDING, ids=str)
def test_what_a_row_does_not_see_changes_no_bit_anywhere(case: Case, kind: str, name: str) -> None:
    check_nothing_hidden_counts(case, kind, name, np.nan)


@pytest.mark.parametrize("kind", ["q8", "f16", "f32"])
@pytest.mark.parametrize("part", [1, 2], ids=["key", "value"])
@pytest.mark.parametrize("case", [Case(64, 1, 2, 40, 3), Case(64, 1, 2, 40, 3, cap=9.0, sinks=True)], ids=str)
def test_what_a_row_sees_and_is_no_number_shows(case: Case, kind: str, part: int) -> None:
    """A NaN among the keys or values that a row sees makes it NaN, rather than be passed over."""
    given = inputs(case)
    given[part][20, 0, 7] = np.nan
    with np.errstate(all="ignore"):
        got, _ = Attention(case, kind, HERE).run(given=given)
    assert np.isnan(got).any(-1).all()


def after_truncation(kind: str, value: float) -> tuple[Array, Array]:
    """Attention over a cache whose positions behind the last hold that value, and over a clean one."""
    case = Case(64, 1, 2, 40, 3)
    want, (q, k, v) = Attention(case, kind, HERE).run()
    attention = Attention(case, kind, HERE)
    stale = np.full((20, 1, 64), value, np.float32)
    attention.store(40, np.ones((20, 2, 64), np.float32), stale, -stale)
    attention.store(0, np.ones((40, 2, 64), np.float32), k[:40], v[:40])
    attention.store(40, q, k[40:], v[40:])
    return attention.attend(), want


@pytest.mark.parametrize(("kind", "value"), [("q8", 1e6), ("f16", 6e4), ("f32", 1e6)])
def test_what_was_forgotten_leaves_no_trace(kind: str, value: float) -> None:
    """Stale positions behind the last change no bit."""
    same_bits(*after_truncation(kind, value))


@pytest.mark.parametrize(("kind", "value"), [("q8", np.inf), ("f16", 1e6), ("f32", np.nan)])
def test_what_was_infinite_and_forgotten_leaves_no_trace(kind: str, value: float) -> None:
    """As above where the model had run away: 1e6 is infinite as float16."""
    with np.errstate(all="ignore"):
        same_bits(*after_truncation(kind, value))
