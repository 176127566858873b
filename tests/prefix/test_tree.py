"""The tree against a dictionary of all prefixes, its limit, threads and interruptions."""

from __future__ import annotations

import gc
import linecache
import random
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pytest

from edgeq.prefix import Layout, Tree
from edgeq.prefix.pages import usable
from tests.prefix.fakes import CHUNK, LAYOUTS, FakePool, FakeSequence, NearFar, Plain, Windowed, check

BIG = 1 << 40
PAGE = Plain().nbytes("") or 0


def computed(pool: FakePool, ids: Sequence[int], layout: Layout | None = None) -> FakeSequence:
    sequence = FakeSequence(pool, layout or Plain())
    sequence.feed(ids)
    return sequence


def kept(tree: Tree, pool: FakePool, ids: Sequence[int], salt: str = "") -> FakeSequence:
    sequence = computed(pool, ids, tree.layout)
    tree.keep(*sequence.kept(), salt)
    return sequence


def text(rng: random.Random, known: Sequence[Sequence[int]]) -> list[int]:
    """Tokens that often begin like others."""
    ids = list(rng.choice(known)) if known and rng.random() < 0.8 else []
    ids = ids[: rng.randrange(len(ids) + 1)]
    return ids + [rng.randrange(3) for _ in range(rng.randrange(12))]


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_a_dictionary_of_all_prefixes_has(seed: int) -> None:
    """Exact to the token: with pages of one form, the longest prefix that was ever kept."""
    rng, pool, tree = random.Random(seed), FakePool(), Tree(Plain(), BIG)
    prefixes: dict[str, set[tuple[int, ...]]] = {"": set(), "salt": set()}
    texts: list[list[int]] = []
    for _ in range(60):
        ids, salt = text(rng, texts), rng.choice(["", "", "salt"])
        found = tree.find(ids, salt)
        longest = max((n for n in range(len(ids) + 1) if tuple(ids[:n]) in prefixes[salt]), default=0)
        assert found.length == longest and found.partial == longest % CHUNK
        check(found, ids, tree.layout)
        if rng.random() < 0.6 and ids:
            kept(tree, pool, ids, salt)
            texts.append(ids)
            prefixes[salt].update(tuple(ids[:n]) for n in range(1, len(ids) + 1))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: type(layout).__name__)
@pytest.mark.parametrize("seed", range(10))
def test_what_it_finds_can_be_gone_on_from(seed: int, layout: Layout) -> None:
    """For every form of cache: all that is needed is there and right, and what was kept itself is found."""
    rng, pool, tree = random.Random(seed), FakePool(), Tree(layout, BIG)
    texts: list[list[int]] = []
    for _ in range(60):
        ids = text(rng, texts)
        found = tree.find(ids)
        check(found, ids, layout)
        if rng.random() < 0.6 and ids:
            sequence = FakeSequence(pool, layout)
            sequence.adopt(ids[: found.length], found.pages)
            sequence.feed(ids[found.length :])
            tree.keep(*sequence.kept())
            texts.append(ids)
            assert tree.find(ids).length == len(ids)


@pytest.mark.parametrize(
    ("layout", "lengths"),
    [
        # with pages of one form, wherever a text parts from another
        (Plain(), {0: 0, 1: 1, 7: 7, 19: 19}),
        # 19 tokens, 5 chunks, have chunks 1 and 2 far: what needs them near cannot be gone on from
        (NearFar(), {19: 19, 17: 17, 16: 4, 15: 4, 4: 4, 3: 3}),
        # its window has left chunks 0 to 2 behind, so only what reads no further back can be gone on from
        (Windowed(), {19: 19, 18: 18, 17: 17, 16: 0, 3: 0}),
    ],
    ids=["plain", "near and far", "windows"],
)
def test_where_a_text_may_part(layout: Layout, lengths: dict[int, int]) -> None:
    tree, pool = Tree(layout, BIG), FakePool()
    ids = list(range(100, 119))
    kept(tree, pool, ids)
    assert {n: tree.find([*ids[:n], 7, 7]).length for n in lengths} == lengths


def test_a_beginning_that_is_kept_in_another_form_is_found_too() -> None:
    """The turns of a chat: what is near in one is far in the next, and both can be gone on from."""
    tree, pool, ids = Tree(NearFar(), BIG), FakePool(), list(range(40))
    for n in (10, 18, 33):
        kept(tree, pool, ids[:n])
    assert [tree.find(ids[:n]).length for n in (10, 18, 33)] == [10, 18, 33]


def test_usable_lengths_by_brute_force() -> None:
    """Among all that it looks at, no longer one can be gone on from."""
    rng = random.Random(5)
    for layout in LAYOUTS:
        forms = [form for form in ("", "near", "far", "all", "window") if layout.nbytes(form)]
        for _ in range(300):
            length = rng.randrange(1, 26)
            held = [{form for form in forms if rng.random() < 0.8} for _ in range(7)]
            good = [
                n
                for n in range(1, length + 1)
                if all(form in held[at] for at in range(-(-n // CHUNK)) for form in layout.needed(at, n))
            ]
            found = usable(length, held.__getitem__, layout)
            looked_at = [n for n in good if n == length or n % CHUNK in (0, CHUNK - 1)]
            assert found == max(looked_at, default=0)


def test_pages_that_are_kept_are_frozen_and_shared() -> None:
    tree, pool = Tree(Plain(), BIG), FakePool()
    first = kept(tree, pool, [1, 2, 3, 4, 5, 6])
    assert all(page.frozen for pages in first.pages for page in pages.values())
    again = kept(tree, pool, [1, 2, 3, 4, 5, 6])
    assert not any(page.frozen for pages in again.pages for page in pages.values())
    found = tree.find([1, 2, 3, 4, 5, 7])
    assert found.pages[0][""] is first.pages[0][""] and found.length == 5 and found.partial == 1


def test_what_goes_on_takes_the_place_of_its_beginning() -> None:
    tree, pool = Tree(Plain(), BIG), FakePool()
    sequence = computed(pool, [1, 2])
    for id in range(3, 9):
        tree.keep(*sequence.kept())
        sequence.feed([id])
    tree.keep(*sequence.kept())
    del sequence
    assert tree.nbytes == 2 * PAGE + 8 * 4 and pool.used == 2 * PAGE
    kept(tree, pool, [1, 2, 3])  # the beginning of what is there already: nothing new
    assert pool.used == 2 * PAGE


def test_the_limit_holds_and_what_is_unused_goes_first() -> None:
    tree, pool = Tree(Plain(), 4 * (PAGE + 16)), FakePool()
    kept(tree, pool, [1] * 8)
    kept(tree, pool, [2] * 8)
    assert tree.find([1] * 8).length == 8  # used, so the other goes
    kept(tree, pool, [3] * 8)
    assert tree.nbytes <= tree.limit and pool.used == 4 * PAGE
    assert [tree.find([n] * 8).length for n in (1, 2, 3)] == [8, 0, 8]
    kept(tree, pool, [4] * 40)  # more than the limit: its beginning stays
    assert tree.nbytes <= tree.limit and tree.find([4] * 40).length == 16
    assert pool.used == 4 * PAGE


@pytest.mark.parametrize("seed", range(5))
def test_many_evictions(seed: int) -> None:
    """Bytes counted are those that the pool gave, and what is left is right."""
    rng, pool, tree = random.Random(seed), FakePool(), Tree(Plain(), 12 * PAGE)
    texts: list[list[int]] = []
    for _ in range(150):
        ids = text(rng, texts)
        check(tree.find(ids), ids, tree.layout)
        if ids:
            kept(tree, pool, ids)
            texts = [*texts[-8:], ids]
        assert tree.nbytes <= tree.limit and pool.used <= tree.nbytes
    tree.clear()
    assert pool.used == 0 == tree.nbytes and tree.find(texts[-1]).length == 0


def test_a_pool_without_memory_gets_pages_that_nobody_uses() -> None:
    tree, pool = Tree(Plain(), BIG), FakePool(limit=6 * PAGE)
    pool.short.append(tree.release)
    used = kept(tree, pool, [1] * 8)
    kept(tree, pool, [2] * 8)
    kept(tree, pool, [3] * 8)
    pages = [pool.take(PAGE) for _ in range(3)]
    assert tree.find([2] * 8).length == 0 and tree.find([3] * 8).length == 4
    pages += [pool.take(PAGE)]
    assert not tree.release(PAGE)  # the sequence has the rest
    assert tree.find([1] * 8).length == 8 and len(used.pages) == 2
    with pytest.raises(MemoryError):
        pool.take(PAGE)
    del used
    pages += [pool.take(PAGE), pool.take(PAGE)]
    assert tree.find([1] * 8).length == 0 and tree.nbytes == 0


def test_a_tree_that_is_let_go_of_goes_at_once() -> None:
    tree, pool = Tree(Plain(), BIG), FakePool()
    kept(tree, pool, list(range(20)))
    gc.disable()
    try:
        del tree
        assert pool.used == 0
    finally:
        gc.enable()


def test_salts_know_nothing_of_each_other() -> None:
    tree, pool = Tree(Plain(), BIG), FakePool()
    kept(tree, pool, [1] * 8, "mine")
    assert [tree.find([1] * 8, salt).length for salt in ("mine", "", "yours")] == [8, 0, 0]


def test_threads() -> None:
    """Several keep, find and take memory away at once; all that anybody finds is right."""
    pool, tree, wrong = FakePool(), Tree(Plain(), 30 * PAGE), list[BaseException]()

    def work(seed: int) -> None:
        rng, texts = random.Random(seed), list[list[int]]()
        try:
            for _ in range(120):
                ids = text(rng, texts)
                check(tree.find(ids), ids, tree.layout)
                if ids:
                    kept(tree, pool, ids)
                    texts = [*texts[-4:], ids]
                if rng.random() < 0.1:
                    tree.release(3 * PAGE)
        except BaseException as error:
            wrong.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong and tree.nbytes <= tree.limit


class Interrupted(BaseException):
    pass


def interrupt(call: Any, at: int, what: Any) -> bool:
    """Run a call, and do `what` before line number `at` of what it runs in the tree; whether it got there.

    Not between taking the lock and the block that gives it back, nor between that block's end and giving it
    back, where no signal comes: see `ownership.Lock`.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        code = frame.f_code
        if not code.co_filename.endswith("prefix/tree.py") or code.co_name == "_entered":
            return None
        line = linecache.getline(code.co_filename, frame.f_lineno).partition("#")[0].strip()
        if event == "line" and line not in ("try:", "self._lock.release()"):
            count += 1
            if count == at:
                sys.settrace(None)
                what()
        return trace

    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        pass
    finally:
        sys.settrace(None)
    return count >= at


CALLS = {
    "keep": lambda tree, pool: kept(tree, pool, [1, 2, 3, 4, 5, 6, 9, 9, 9]),
    "find": lambda tree, pool: tree.find([1, 2, 3, 4, 5, 6, 7]),
    "release": lambda tree, pool: tree.release(2 * PAGE),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("how", ["broken off", "called within"])
def test_interrupted_before_any_line(name: str, how: str) -> None:
    """An exception, or a handler that uses the tree itself, wherever it comes: no lock stays taken, what is
    found is right, and all memory comes back."""

    def within() -> None:
        if how == "broken off":
            raise Interrupted
        check(tree.find([1, 2, 3, 4, 5]), [1, 2, 3, 4, 5], tree.layout)
        kept(tree, pool, [1, 2, 3, 4, 5, 8])
        tree.release(PAGE)

    at, reached, pools = 0, True, list[FakePool]()
    while reached:
        at += 1
        pool, tree = FakePool(), Tree(Plain(), 6 * PAGE)
        for ids in ([1, 2, 3, 4, 5, 6], [1, 2, 3, 7], [2] * 9):
            kept(tree, pool, ids)
        reached = interrupt(lambda: CALLS[name](tree, pool), at, within)  # noqa: B023
        for ids in ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 7], [2] * 9):
            check(tree.find(ids), ids, tree.layout)
        kept(tree, pool, [5] * 9)
        assert tree.find([5] * 9).length == 9 and tree.nbytes <= tree.limit
        tree.clear()
        pools.append(pool)
    gc.collect()
    assert at > 10 and not any(pool.used for pool in pools)
