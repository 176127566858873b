"""Far pages and attention over them, bit for bit: each scheme, odd heads, grouped queries, windows, on every
instruction set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgeq.cache import Kind
from edgeq.cache.plan import is_far
from edgeq.formats import encode_parts
from edgeq.formats.schemes import SCHEMES, pack
from edgeq.kernels import meaning_attention, meaning_far
from edgeq.kernels.catalog import CHUNK
from edgeq.kernels.rows_attention import FAR_PARTS, FAR_SCHEMES
from tests.kernels.calling import Array, run, same_bits
from tests.kernels.test_attention import Attention, Case, centre_of, inputs, scaling, softmax_of
from tests.simd.rows import EVERYWHERE, HERE

KINDS = [(scheme, suffix) for suffix, schemes in FAR_SCHEMES.items() for scheme in schemes]
CASES = [
    Case(64, 2, 1, 1024, 1),
    Case(64, 1, 8, 1024 + 17, 3),
    Case(8, 2, 3, 768 + 40, 9),
    Case(80, 2, 3, 1024 + 5, 5, 700),
    Case(128, 1, 1, 768 + 200, 30, 300),
    Case(64, 1, 3, 1024 + 7, 2, cap=2.0, sinks=True),
]
FEW = [CASES[n] for n in (3, 5)]


@dataclass
class Page:
    """Bytes of the parts of a far page of all heads, by name."""

    parts: dict[str, Array]

    @classmethod
    def of(cls, heads: list[meaning_far.Far], scheme: str) -> Page:
        found: dict[str, list[Array]] = {}
        for head in heads:
            values = np.concatenate(list(encode_parts(head.values, SCHEMES[scheme])))
            found.setdefault("far_values", []).append(values)
            if head.means is None or head.mean_scales is None:
                continue
            keys = np.concatenate(list(encode_parts(head.keys, SCHEMES[scheme])))
            (means,) = pack(head.means.view(np.uint8), (8,))
            found.setdefault("means", []).append(means.reshape(-1))
            scales = np.ascontiguousarray(head.mean_scales.T).view(np.uint8)
            found.setdefault("mean_scales", []).append(scales.reshape(-1))
            found.setdefault("far_keys", []).append(keys)
        return cls({name: np.concatenate(parts) for name, parts in found.items()})


class FarAttention(Attention):
    """With a far page for each chunk, all of noise until they are narrowed."""

    def __init__(self, case: Case, scheme: str, suffix: str, isa: str, units: int = 99):
        super().__init__(case, Kind("", "q8", "" if suffix else scheme, scheme), isa, units)
        assert self.layer.far
        self.suffix, self.far = suffix, self.layer.far
        nbytes = self.plan.groups[0].far_bytes
        self.far_pages = [self.m.flat(nbytes, np.uint8, 0x77) for _ in self.pages]
        self.far_words = dict(zip(FAR_PARTS[suffix], self.far.words, strict=True))

    def narrow(self, chunk: int, workers: int = 1) -> Page:
        """Of the near chunk; what is then in its page."""
        pair = np.array([0, self.pages[chunk].address, self.far_pages[chunk].address])
        names = ("keys", "key_scales", "values", "value_scales", "kv_heads", "head_dim", "pages_at")
        operands = {name: self.operands[name] for name in names} | self.far_words | self.own
        pages = self.m.put(pair).address
        name = f"narrow{self.suffix}"
        run(self.m, name, self.tag, count=1, pages=pages, workers=workers, **operands)
        held = self.far_pages[chunk].values
        places = zip(FAR_PARTS[self.suffix], self.far.words, self.far.ends, strict=True)
        return Page({name: held[first:last].copy() for name, first, last in places})

    def attend_far(self, workers: int = 1) -> Array:
        case = self.case
        y = self.m.rows(np.full((case.count, case.heads * case.head_dim), np.nan, np.float32))
        both = zip(self.pages, self.far_pages, strict=True)
        read = [far if is_far(n, case.before // CHUNK) else near for n, (near, far) in enumerate(both)]
        run(
            self.m,
            f"attend_coded{self.suffix}",
            self.tag,
            count=case.count,
            position=case.before,
            pages=self.m.put(np.array([0, *(page.address for page in read)])).address,
            workers=workers,
            y=y.address,
            y_stride=y.stride,
            **self.softmax,
            **self.far_words,
            **self.operands,
            **self.own,
            **self.units,
        )
        assert not self.finished.values.any()
        return y.values.reshape(case.count, case.heads, case.head_dim)


def stored(case: Case, k: Array, v: Array) -> meaning_attention.Stored:
    return meaning_attention.store_int8(k, v, centre_of(case))


def narrowed(case: Case, scheme: str, suffix: str, near: meaning_attention.Stored) -> list[meaning_far.Far]:
    if suffix:
        return meaning_far.narrow_values(near, SCHEMES[scheme])
    return meaning_far.narrow(near, SCHEMES[scheme], case.head_dim)


def check(case: Case, scheme: str, suffix: str, isa: str) -> None:
    row = SCHEMES[scheme]
    attention = FarAttention(case, scheme, suffix, isa)
    q, k, v = inputs(case)
    n = case.before
    attention.store(0, np.ones((n, case.heads, case.head_dim), np.float32), k[:n], v[:n])
    attention.store(n, q, k[n:], v[n:], workers=2)
    near, pages = stored(case, k, v), {}
    for chunk in range(n // CHUNK - 1):
        at = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        part = meaning_attention.Stored(*(p[at] for p in near))
        pages[chunk] = narrowed(case, scheme, suffix, part)
        held = attention.narrow(chunk, workers=2)
        wanted = Page.of(pages[chunk], scheme).parts
        assert suffix or {*wanted} == {*held.parts}
        for name, want in wanted.items():
            np.testing.assert_array_equal(held.parts[name], want, err_msg=name)
    got = attention.attend_far(workers=2)
    attention.units["units_max"] = 0  # each task by one worker
    same_bits(attention.attend_far(workers=2), got)
    query = meaning_attention.lay_int8(q, scaling(case))
    low = meaning_far.coarse(q, scaling(case))
    want = meaning_far.attend_coded(query, low, near, pages, row, n, softmax_of(case))
    same_bits(got, want[..., : case.head_dim])


@pytest.mark.parametrize(("scheme", "suffix"), KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_far_pages(case: Case, scheme: str, suffix: str) -> None:
    check(case, scheme, suffix, HERE)


@pytest.mark.parametrize("name", [name for name in EVERYWHERE if name != HERE])
@pytest.mark.parametrize(("scheme", "suffix"), KINDS)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_far_pages_everywhere(case: Case, scheme: str, suffix: str, name: str) -> None:
    check(case, scheme, suffix, name)


# ---- what it is worth ----
def attended(case: Case, scheme: str, suffix: str, given: tuple[Array, Array, Array]) -> Array:
    """Attention over what was given, all pages that are far narrowed."""
    attention = FarAttention(case, scheme, suffix, HERE)
    q, k, v = given
    n = case.before
    attention.store(0, np.ones((n, case.heads, case.head_dim), np.float32), k[:n], v[:n])
    attention.store(n, q, k[n:], v[n:])
    for chunk in range(1, n // CHUNK - 1):
        attention.narrow(chunk)
    return attention.attend_far()


def exact(case: Case, given: tuple[Array, Array, Array]) -> Array:
    """Of one key-value head, in float64."""
    q, k, v = (part.astype(float) for part in given)
    s = np.einsum("nhd,kd->nhk", q, k[:, 0]) * scaling(case)
    s[:, :, case.before + 1 :] = -np.inf
    p = np.exp(s - s.max(-1, keepdims=True))
    found: Array = np.einsum("nhk,kd->nhd", p, v[:, 0]) / p.sum(-1, keepdims=True)
    return found


def alike(case: Case, common: float) -> tuple[Array, Array, Array]:
    """Keys of neighbouring positions have something in common, of that size, as slowly turning ones have."""
    rng = np.random.default_rng(3)
    q = rng.normal(size=(case.count, case.heads, case.head_dim))
    k, v = (rng.normal(size=case.shape) for _ in "kv")
    angle = np.arange(len(k))[:, None, None] / 2000 + rng.normal(size=case.head_dim)
    k += common * np.cos(angle)
    q[:] -= (q @ np.cos(angle[-1, 0]))[..., None] * np.cos(angle[-1, 0]) / (np.cos(angle[-1, 0]) ** 2).sum()
    return q.astype(np.float32), k.astype(np.float32), v.astype(np.float32)


LONG = Case(64, 1, 2, 5 * CHUNK, 1)
ERRORS = {  # of what attention gives, relative to it
    ("q4m", ""): 0.12,
    ("q4m", "_values"): 0.06,
    ("q2m", ""): 0.4,
}


@pytest.mark.parametrize(("scheme", "suffix"), KINDS)
@pytest.mark.parametrize("common", [0.0, 8.0])
def test_far_attention_is_softmax_nearly(scheme: str, suffix: str, common: float) -> None:
    """Whatever neighbouring keys have in common."""
    given = alike(LONG, common)
    want = exact(LONG, given)
    error = np.linalg.norm(attended(LONG, scheme, suffix, given) - want) / np.linalg.norm(want)
    assert 0.01 < error < ERRORS[scheme, suffix]


@pytest.mark.parametrize(("scheme", "suffix"), KINDS)
@pytest.mark.parametrize(("part", "value"), [(1, np.nan), (2, np.nan), (1, np.inf), (2, np.inf), (2, 1e30)])
def test_what_is_no_number_shows(scheme: str, suffix: str, part: int, value: float) -> None:
    """Also what is too large for a float16, in which scales are."""
    given = inputs(LONG)
    given[part][CHUNK + 20, 0, 7] = value
    with np.errstate(all="ignore"):
        got = attended(LONG, scheme, suffix, given)
    assert not np.isfinite(got).all(-1).any()
