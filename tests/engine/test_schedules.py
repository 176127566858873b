"""Passes over many sequences, in any order: what each is told is what it is told alone, bit for bit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.cache import KINDS
from edgeq.converters import convert
from edgeq.errors import CancelledError, OutOfMemoryError
from edgeq.passes import Fed, Part
from edgeq.sequence import Sequence
from tests.converters import checkpoints

SCHEDULES = 500  # in all
CONTEXT = 700


@pytest.fixture(scope="module")
def file(demo_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A small model whose queries see so many positions, all if 0."""
    folder = tmp_path_factory.mktemp("windows")

    def made(window: int) -> Path:
        path = folder / f"{window}.edgeq"
        if not path.exists():
            words = checkpoints.config(
                "mistral", hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
                head_dim=16, vocab_size=300, max_position_embeddings=CONTEXT, num_hidden_layers=2,
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

    def __init__(self, model: engine.Model, seed: int):
        self.model, self.rng = model, np.random.default_rng(seed)
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
            size = int(self.rng.choice([1, 1, 1, 3, 8, int(self.rng.integers(1, 120))]))
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
            assert all(one.sequence.ids == one.ids for one, _ in parts)
            return
        for (one, part), got in zip(parts, fed, strict=True):
            one.ids = [*one.ids, *part.ids]
            one.told.append((one.ids, got))

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
        for window in (0, 40, 300) if kind == "q8" else (0, 90):
            yield kind, window, 1 + (n + window) % 5


SETTINGS = list(settings())


@pytest.mark.parametrize(("kind", "window", "threads"), SETTINGS)
def test_each_sequence_is_told_what_it_is_told_alone(
    kind: str, window: int, threads: int, file: Callable[[int], Path]
) -> None:
    with (
        engine.load(file(window), threads=threads, kv=kind) as model,
        engine.load(file(window), threads=1, kv=kind) as alone,
    ):
        count = 0
        for seed in range(-(-SCHEDULES // len(SETTINGS))):
            schedule = Schedule(model, seed)
            schedule.run()
            count += check(schedule, alone)
            for one in schedule.ones:
                one.sequence.close()
        assert count > 500
        del schedule, one
        assert model.pool.used == 0


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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell what is mapped")
def test_the_system_maps_as_many_bytes_as_are_counted(tmp_path: Path) -> None:
    """Of full pages, within 1 %."""
    words = checkpoints.config(
        "llama", hidden_size=64, intermediate_size=32, num_attention_heads=8, num_key_value_heads=8,
        head_dim=128, vocab_size=64, max_position_embeddings=2048, num_hidden_layers=3,
    )  # fmt: skip
    checkpoints.write_directory(tmp_path / "c", words, checkpoints.weights(words, 3))
    convert(tmp_path / "c", tmp_path / "m.edgeq", scheme="q8")

    def mapped() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    with engine.load(tmp_path / "m.edgeq", threads=2, kv="f32") as model:
        model.logits([5] * 2048)  # all that passes compute in is mapped
        every = [model.sequence() for _ in range(2)]
        gc.collect()
        before = mapped()
        for sequence in every:
            for _ in range(2048 // 256):
                sequence.feed([5] * 256)
        assert model.pool.used == 16 * model.cache.page_bytes > 90e6
        assert abs(mapped() - before - model.pool.used) < 0.01 * model.pool.used
