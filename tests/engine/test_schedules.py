"""Passes over many sequences, in any order: what each is told is what it is told alone, bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.cache import KINDS, Page
from edgeq.converters import convert
from edgeq.errors import CancelledError, OutOfMemoryError
from edgeq.passes import Fed, Part
from edgeq.sequence import Sequence
from tests.converters import checkpoints
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = 500  # in all
CONTEXT, LONG = 700, 1400  # in which pages become far
STATES = -1  # in place of a window


@pytest.fixture(scope="module")
def file(demo_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A small model whose queries see so many positions, all if 0; of STATES one whose layers keep states."""
    folder = tmp_path_factory.mktemp("windows")

    def made(window: int) -> Path:
        path = folder / f"{window}.edgeq"
        if not path.exists() and window == STATES:
            shutil.copytree(ROOT / "tests/golden/families/lfm2", folder / "lfm2")
            words = json.loads((folder / "lfm2/config.json").read_text()) | {"max_position_embeddings": LONG}
            (folder / "lfm2/config.json").write_text(json.dumps(words))
            convert(folder / "lfm2", path, scheme="q8")
        elif not path.exists():
            words = checkpoints.config(
                "mistral", hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
                head_dim=16, vocab_size=300, max_position_embeddings=LONG, num_hidden_layers=2,
                sliding_window=window or None,
            )  # fmt: skip
            tensors = checkpoints.weights(words, 3)
            checkpoints.write_directory(folder / f"c{window}", words, tensors)
            convert(folder / f"c{window}", path, scheme="q8")
        return path

    return made


@dataclass
class One:
    """A sequence, and what it was told: (tokens then, logits of the last, likeliest)."""

    sequence: Sequence
    ids: list[int] = field(default_factory=list)
    told: list[tuple[list[int], Fed]] = field(default_factory=list)


class Schedule:
    """Some sequences of a model and a random order of what is done with them."""

    def __init__(self, model: engine.Model, seed: int, longest: int = 120):
        """longest: ids that are fed at once, at the most, where it is a random number."""
        self.model, self.rng, self.longest = model, np.random.default_rng(seed), longest
        self.every: list[One] = []  # those that were, too
        self.ones: list[One] = []
        self.most = int(self.rng.integers(1, 17))

    def token(self, count: int) -> list[int]:
        return self.rng.integers(0, self.model.vocab_size, count).tolist()

    def arrive(self) -> None:
        if len(self.ones) < self.most:
            self.ones.append(One(self.model.sequence()))
            self.every.append(self.ones[-1])

    def fork(self, one: One) -> None:
        if len(self.ones) < self.most:
            self.ones.append(One(one.sequence.fork(), list(one.ids)))
            self.every.append(self.ones[-1])

    def cut(self, one: One) -> None:
        wanted = int(self.rng.integers(0, len(one.ids) + 1))
        kept = one.sequence.truncate(wanted)
        assert kept <= wanted
        one.ids = one.ids[:kept]

    def leave(self, one: One) -> None:
        one.sequence.close()
        self.ones.remove(one)

    def parts(self) -> list[tuple[One, Part]]:
        """Rows of some of the sequences: single tokens, drafts and pieces of prompts."""
        left, outputs, made = self.model.pass_tokens, self.model.pass_outputs, []
        for one in self.rng.permutation(np.array(self.ones, object)).tolist():
            size = int(self.rng.choice([1, 1, 1, 3, 8, int(self.rng.integers(1, self.longest))]))
            size = min(size, left, self.model.context - len(one.ids))
            wanted = int(self.rng.integers(0, min(size, outputs, 6) + 1)) if size else 0
            if size and self.rng.random() < 0.9:
                made.append((one, Part(one.sequence, self.token(size), wanted)))
                left, outputs = left - size, outputs - wanted
        return made

    def step(self) -> None:
        parts = self.parts()
        if not parts:
            return
        calls, stop = 0, self.rng.integers(1, 4) if self.rng.random() < 0.05 else 1 << 30

        def cancelled() -> bool:
            nonlocal calls
            calls += 1
            return bool(calls >= stop)

        try:
            fed = self.model.advance([part for _, part in parts], cancelled=cancelled)
        except CancelledError:
            for one, part in parts:
                self.broken_off(one, part)
            return
        for (one, part), got in zip(parts, fed, strict=True):
            one.ids = [*one.ids, *part.ids]
            one.told.append((one.ids, got))

    def broken_off(self, one: One, part: Part) -> None:
        """None of the ids are there, or those up to a chunk's end where something becomes of it then."""
        held = one.sequence.ids
        assert held == one.ids or self.model.cache.pass_room == 256 and len(held) % 256 == 0
        assert held == [*one.ids, *part.ids][: len(held)] and len(held) >= len(one.ids)
        one.ids = held

    def run(self) -> None:
        self.arrive()
        for _ in range(int(self.rng.integers(3, 12))):
            what = self.rng.random()
            one = self.ones[int(self.rng.integers(len(self.ones)))] if self.ones else None
            if one is None or what < 0.25:
                self.arrive()
            elif what < 0.4:
                self.fork(one)
            elif what < 0.55:
                self.cut(one)
            elif what < 0.6:
                self.leave(one)
            self.step()


def check(schedule: Schedule, alone: engine.Model) -> int:
    """Each sequence's logits are those of its tokens alone; how many were held against them."""
    count = 0
    for one in schedule.every:
        known: list[int] = []
        logits = np.empty((0, 0), np.float32)
        for ids, fed in reversed(one.told):  # the longest come last
            wanted = len(fed.logits)
            if not wanted:
                continue
            if known[: len(ids)] != ids:
                known, logits = ids, alone.logits(ids)
            want = logits[len(ids) - wanted : len(ids)]
            np.testing.assert_array_equal(fed.logits.view(np.uint32), want.view(np.uint32))
            np.testing.assert_array_equal(fed.likeliest, want.argmax(-1))
            count += wanted
    return count


def settings() -> Iterator[Any]:
    """Kinds of cache, windows and threads, of which each schedule has some."""
    for n, kind in enumerate(KINDS):
        for window in (0, 40, 300, STATES) if kind == "q8" else (0, 90, STATES):
            yield kind, window, 1 + (n + window) % 5


def told_alone(kind: type[Schedule], seeds: int, model: engine.Model, alone: engine.Model) -> int:
    """Run so many schedules on `model`; how many answers were held against what `alone` is told."""
    count = 0
    for seed in range(seeds):
        schedule = kind(model, seed)
        schedule.run()
        count += check(schedule, alone)
        for one in schedule.ones:
            one.sequence.close()
    return count


SETTINGS = list(settings())


@pytest.mark.parametrize(("kind", "window", "threads"), SETTINGS)
def test_each_sequence_is_told_what_it_is_told_alone(
    kind: str, window: int, threads: int, file: Callable[[int], Path]
) -> None:
    with (
        engine.load(file(window), threads=threads, kv=kind, context=CONTEXT) as model,
        engine.load(file(window), threads=1, kv=kind, context=CONTEXT) as alone,
    ):
        count = told_alone(Schedule, -(-SCHEDULES // len(SETTINGS)), model, alone)
        assert count > 500
        assert model.pool.used == 0


FAR = [name for name, kind in KINDS.items() if kind.has_far]


class LongSchedule(Schedule):
    """Two or three sequences that grow over several pages, are cut by a little or much, and exchanged for
    what is kept of each other.
    """

    def __init__(self, model: engine.Model, seed: int):
        super().__init__(model, seed, longest=257)
        self.most = int(self.rng.integers(2, 4))

    def parts(self) -> list[tuple[One, Part]]:
        """Long pieces as a rule: one sequence may have the whole pass."""
        room = [one for one in self.ones if len(one.ids) < self.model.context]
        if not room or self.rng.random() < 0.2:
            return super().parts()
        one = room[int(self.rng.integers(len(room)))]
        size = min(self.model.pass_tokens, self.model.context - len(one.ids))
        return [(one, Part(one.sequence, self.token(size), int(self.rng.integers(0, min(size, 4) + 1))))]

    def cut(self, one: One) -> None:
        """To about a chunk's end, or anywhere in the last few."""
        length = len(one.ids)
        at = int(self.rng.integers(0, length // 256 + 1)) * 256 + int(self.rng.integers(-1, 2))
        wanted = at if self.rng.random() < 0.5 else length - int(self.rng.integers(0, 700))
        wanted = min(length, max(0, wanted))
        kept = one.sequence.truncate(wanted)
        assert kept == wanted or kept < wanted and (kept % 256 == 0 or self.model.cache.state_bytes)
        one.ids = one.ids[:kept]

    def adopt(self, one: One) -> None:
        """Remember what it holds, and begin anew with what is known of it and of some of it."""
        self.model.prefixes.keep(one.sequence)
        wanted = len(one.ids) - int(
            self.rng.choice([0, 1, len(one.ids) % 256, int(self.rng.integers(0, 400))])
        )
        other = self.model.sequence()
        ids = [*one.ids[: max(0, wanted)], *self.token(3)]
        found = self.model.prefixes.start(other, ids)
        assert found < len(ids) and other.ids == ids[:found]
        self.ones.append(One(other, ids[:found]))
        self.every.append(self.ones[-1])

    def run(self) -> None:
        self.arrive()
        for _ in range(14):
            what, one = self.rng.random(), self.ones[int(self.rng.integers(len(self.ones)))]
            if what < 0.1:
                self.arrive()
            elif what < 0.2:
                self.fork(one)
            elif what < 0.4:
                self.cut(one)
            elif what < 0.55:
                self.adopt(one)
            self.step()


@pytest.mark.parametrize("window", [0, 40, 300, 600, STATES])
@pytest.mark.parametrize("kind", ["q8", *FAR])
def test_each_is_told_the_same_over_far_pages(
    kind: str, window: int, file: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        engine.load(file(window), threads=2, kv=kind) as model,
        engine.load(file(window), threads=1, kv=kind) as alone,
    ):
        narrowed: list[int] = []
        narrow = model.runner.narrow

        def noted(some: Any, go_on: Any) -> None:
            narrowed.append(len(some))
            narrow(some, go_on)

        monkeypatch.setattr(model.runner, "narrow", noted)
        count = told_alone(LongSchedule, 8, model, alone)
        assert count > 50 and (sum(narrowed) > 0) == (kind in FAR and window != 40)
        model.prefixes.tree.clear()
        assert model.pool.used == 0


@pytest.mark.parametrize("kind", FAR)
def test_a_page_is_narrowed_anew_when_it_was_written_to_anew(kind: str, file: Callable[[int], Path]) -> None:
    """Chunk 1 is far and near while chunk 3 is written; after a cut in it the far page is wrong."""
    with engine.load(file(0), threads=1, kv=kind) as model:
        sequence = model.sequence()
        sequence.feed([5, 6] * 400)
        ids, pages = sequence.kept()
        assert sequence.truncate(300) == 300
        other = model.sequence()
        other.adopt(ids[:300], pages[:2])
        new = [7, 8, 9] * 200
        want = model.logits(ids[:300] + new)[-1]
        assert np.array_equal(sequence.feed(new), want) and np.array_equal(other.feed(new), want)


@pytest.mark.parametrize("window", [0, 40, 257, 300, 600, STATES])
@pytest.mark.parametrize("kind", ["q8", *FAR])
def test_a_sequence_never_holds_more_than_it_is_said_to(
    kind: str, window: int, file: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.load(file(window), threads=1, kv=kind) as model:
        used: list[int] = []
        take = model.pool.take

        def noted(nbytes: int) -> Page:
            page = take(nbytes)
            used.append(model.pool.used)
            return page

        monkeypatch.setattr(model.pool, "take", noted)
        rng = np.random.default_rng(abs(window))
        for seed in range(4):
            sequence, longest = model.sequence(), 0
            while len(sequence.ids) < LONG - 10:
                size = int(rng.choice([1, 255, 256, 257, int(rng.integers(1, 400))]))
                sequence.feed([5] * min(size, LONG - len(sequence.ids)))
                longest = max(longest, len(sequence.ids))
                assert max(used) <= model.cache_bytes(longest)
                if seed % 2 and rng.random() < 0.3:
                    sequence.truncate(max(0, len(sequence.ids) - int(rng.integers(0, 300))))
            sequence.close()
            used.clear()


@pytest.mark.parametrize("window", [0, STATES])
@pytest.mark.parametrize("kind", ["q8", *FAR])
@pytest.mark.parametrize(("n", "prompt", "more"), [(1, 300, 20), (2, 300, 20), (3, 512, 500), (3, 1020, 300)])
def test_a_pool_of_what_is_promised_is_enough(
    n: int, prompt: int, more: int, kind: str, window: int, file: Callable[[int], Path]
) -> None:
    """Answers of one prompt, and then of one that is known in part, in a pool that has not a byte more."""
    ids, options = [5, 6] * (prompt // 2), {"max_tokens": more, "ignore_eos": True, "seed": 1}
    with engine.load(file(window), threads=1, kv=kind) as model, model.batch() as batch:
        batch.add_several(ids, n, **options)
        need = batch._scheduler._promises.need(batch._scheduler._added[0])
        batch._scheduler._added.clear()
    with (
        engine.load(file(window), threads=2, kv=kind, cache_memory=need) as model,
        model.batch() as batch,
    ):
        several = batch.add_several(ids, n, **options)
        batch.run()
        assert [len(each.read().ids) for each in several] == [more] * n
        known = batch.add([*ids, 7], **options)
        batch.run()
        assert len(known.read().ids) == more


def test_an_error_that_is_kept_keeps_no_pages(file: Callable[[int], Path]) -> None:
    with engine.load(file(0)) as one_page:
        nbytes = one_page.cache.page_bytes
    with engine.load(file(0), cache_memory=3 * nbytes) as model, model.batch() as batch:
        idle = model.sequence()
        idle.feed([5] * 256)
        broken = batch.add([6] * 600, max_tokens=2)
        batch.run()
        assert isinstance(broken.error, OutOfMemoryError)
        idle.close()
        model.prefixes.tree.clear()
        assert model.pool.used == 0


def test_what_is_kept_stays_when_its_sequence_goes_on(file: Callable[[int], Path]) -> None:
    """Before the tree has it: another thread may come between."""
    with engine.load(file(0), threads=1) as model:
        sequence, other = model.sequence(), model.sequence()
        sequence.feed([5] * 100)
        ids, pages = sequence.kept()
        sequence.truncate(50)
        sequence.feed([6] * 50)
        other.adopt(ids, pages)
        assert np.array_equal(other.feed([7]), model.logits([*ids, 7])[-1])


def test_a_full_pool_refuses_and_goes_on(file: Callable[[int], Path]) -> None:
    """Room for three pages: a fourth is refused, and what was there stays right."""
    with engine.load(file(0)) as one_page:
        nbytes = one_page.cache.page_bytes
    with engine.load(file(0), cache_memory=3 * nbytes) as model:
        alone = model.logits([5] * 300)
        want = alone[-1]
        first, second, third = (model.sequence() for _ in range(3))
        first.feed([5] * 256)
        second.feed([5] * 299)
        assert model.pool.used == 3 * nbytes == model.pool.limit
        with pytest.raises(OutOfMemoryError, match="the KV cache is full: .* a page of .* does not fit"):
            third.feed([5])
        with pytest.raises(OutOfMemoryError, match="the KV cache is full"):
            model.advance([Part(second, [5], 1), Part(first, [5], 1)])
        assert (len(first.ids), len(second.ids), third.ids) == (256, 299, [])
        assert np.array_equal(second.feed([5]), want)
        first.close()
        assert model.pool.used == 2 * nbytes
        assert np.array_equal(third.feed([5]), alone[0]) and model.pool.used == 3 * nbytes


def test_the_pool_asks_for_pages_that_nobody_needs(file: Callable[[int], Path]) -> None:
    with engine.load(file(0)) as one_page:
        nbytes = one_page.cache.page_bytes
    with engine.load(file(0), cache_memory=2 * nbytes) as model:
        idle, busy = model.sequence(), model.sequence()
        idle.feed([5] * 300)
        asked: list[int] = []

        def free(more: int) -> bool:
            asked.append(more)
            idle.close()
            return len(asked) == 1

        model.pool.short.append(free)
        assert np.array_equal(busy.feed([5] * 10), model.logits([5] * 10)[-1])
        assert asked == [nbytes]


def test_a_window_gives_back_what_it_does_not_see(file: Callable[[int], Path]) -> None:
    with engine.load(file(40)) as model:
        sequence = model.sequence()
        sequence.feed([5] * 600)
        sequence.feed([6])
        assert model.pool.used == model.cache.page_bytes  # of positions 512 to 600
        assert sequence.truncate(560) == 560
        assert sequence.truncate(530) == 0  # the next would see 491 and so on
        assert np.array_equal(sequence.feed([7]), model.logits([7])[0])


def test_bytes_counted_are_bytes_mapped(file: Callable[[int], Path]) -> None:
    with engine.load(file(0)) as model:
        every = [model.sequence() for _ in range(4)]
        for n, sequence in enumerate(every):
            sequence.feed([5] * (100 + 150 * n))
        assert model.pool.used == sum(sequence.pages.nbytes for sequence in every)
        forks = [sequence.fork() for sequence in every]
        assert model.pool.used == sum(sequence.pages.nbytes for sequence in every)
        forks[3].feed([5])  # copies the page that it writes to, and no other
        assert model.pool.used == sum(s.pages.nbytes for s in every) + model.cache.page_bytes


MAPPED = """
import gc, sys
from pathlib import Path
from edgeq import engine

def mapped():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

with engine.load(sys.argv[1], threads=2, kv="f32") as model:
    warm = model.sequence()
    warm.feed([5] * 2048)  # all that passes compute in is mapped, rotary tables too
    every = [model.sequence() for _ in range(2)]
    gc.collect()
    before, used = mapped(), model.pool.used
    for sequence in every:
        for _ in range(2048 // 256):
            sequence.feed([5] * 256)
    print(model.pool.used - used, mapped() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell what is mapped")
def test_the_system_maps_as_many_bytes_as_are_counted(tmp_path: Path) -> None:
    """Of full pages, within 1 %; in a process whose memory nobody had before."""
    words = checkpoints.config(
        "llama", hidden_size=64, intermediate_size=32, num_attention_heads=8, num_key_value_heads=8,
        head_dim=128, vocab_size=64, max_position_embeddings=2048, num_hidden_layers=3,
    )  # fmt: skip
    checkpoints.write_directory(tmp_path / "c", words, checkpoints.weights(words, 3))
    convert(tmp_path / "c", tmp_path / "m.edgeq", scheme="q8")
    command = [sys.executable, "-c", MAPPED, str(tmp_path / "m.edgeq")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=STUCK_S, check=True)
    counted, mapped = map(int, done.stdout.split())
    assert counted > 90e6 and abs(mapped - counted) < 0.01 * counted
