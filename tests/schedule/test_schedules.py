"""Random schedules: each answer is the one that it has alone."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from edgeq.errors import OutOfMemoryError, UsageError
from edgeq.generate import Batch, BatchGeneration, stream
from edgeq.speculate import Drafting
from tests.fake_model import BOS, BYTES, VOCAB, FakeModel
from tests.generate.test_drafts import Guessed, Guesser, options_of
from tests.schedule.fake_engine import PAGE_BYTES, FakeEngine

STEPS_MAX = 3000


def engine_of(rng: np.random.Generator) -> FakeEngine:
    pass_tokens = int(rng.choice([2, 3, 8, 32]))
    return FakeEngine(
        context=int(rng.integers(8, 64)),
        pass_tokens=pass_tokens,
        pass_outputs=int(rng.integers(1, pass_tokens + 1)),
        page_tokens=int(rng.choice([1, 4, 16])),
        pages=int(rng.choice([3, 8, 40, 1000])),
        forgetful=bool(rng.random() < 0.3),
    )


def request_of(rng: np.random.Generator, context: int) -> tuple[list[int], dict[str, Any]]:
    prompt = [BOS, *rng.integers(BYTES, VOCAB, int(rng.integers(0, context - 1))).tolist()]
    options = options_of(rng)
    options["max_tokens"] = int(rng.integers(0, 12))
    return prompt, options


def draft_of(rng: np.random.Generator, engine: FakeEngine, seed: int) -> object:
    kind = int(rng.integers(4))
    if kind == 3:
        return Drafting(FakeModel(context=int(rng.integers(8, 64))), p_min=0.0)
    return (None, "prompt", Guessed(Guesser(engine, float(rng.choice([0.0, 0.8, 1.0])), seed)))[kind]


def add(batch: Batch, rng: np.random.Generator, engine: FakeEngine, seed: int) -> list[Any]:
    """One random request; (generation, prompt, options) of each answer, none where it was refused."""
    prompt, options = request_of(rng, engine.context)
    draft, n = draft_of(rng, engine, seed), int(rng.choice([1, 1, 1, 2, 3]))
    try:
        if n == 1:
            return [(batch.add(prompt, draft=draft, **options), prompt, options)]
        several = batch.add_several(prompt, n, draft=None if draft is None else "prompt", **options)
    except UsageError as error:
        assert "of cache, but the pool holds" in str(error) or "run at once" in str(error)
        assert n > 1 or engine.cache_bytes(min(engine.context, len(prompt) + 12)) > engine.pool.limit
        return []
    return [(each, prompt, {**options, "seed": options["seed"] + i}) for i, each in enumerate(several)]


def check(generation: BatchGeneration, prompt: list[int], options: dict[str, Any], context: int) -> None:
    """That it is the answer it has alone, or as much of it as there is."""
    alone = stream(FakeModel(context=context), prompt, **options)
    pieces = list(alone)
    if generation.finish_reason == "cancelled" or generation.error is not None:
        assert generation.ids == alone.ids[: len(generation.ids)]
        return
    assert generation.ids == alone.ids and generation.text == alone.text
    assert generation.finish_reason == alone.finish_reason and generation.logprobs == alone.logprobs
    assert list(generation) == pieces
    assert generation.usage == alone.usage


@pytest.mark.parametrize("seed", range(300))
def test_each_answer_is_the_one_it_has_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    engine = engine_of(rng)
    batch = Batch(engine, parallel=int(rng.integers(1, 17)))
    added: list[Any] = []
    left, steps = int(rng.integers(1, 9)), 0
    while left or not batch.idle:
        while left and rng.random() < 0.5:
            left -= 1
            added += add(batch, rng, engine, seed)
        if added and rng.random() < 0.08:
            added[int(rng.integers(len(added)))][0].cancel()
        batch.step()
        assert engine.used <= engine.pool.limit
        steps += 1
        assert steps < STEPS_MAX
    for generation, prompt, options in added:
        assert generation.over and generation.error is None
        check(generation, prompt, options, engine.context)
    assert not engine.open and batch._scheduler._promises.promised == 0


@pytest.mark.parametrize("seed", range(80))
def test_so_it_is_when_memory_is_short_and_steps_are_broken_off(seed: int) -> None:
    """The system has less memory than the pool was told, Ctrl-C comes before and within passes."""
    rng = np.random.default_rng(seed)
    engine = engine_of(rng)
    batch = Batch(engine, parallel=int(rng.integers(1, 9)))

    def mishap(parts: Any) -> None:
        roll = rng.random()
        if roll < 0.1:
            raise OutOfMemoryError("the system has no more")
        if roll < 0.2:
            for part in parts[: int(rng.integers(len(parts) + 1))]:
                part.sequence.grow(part.ids)
            raise KeyboardInterrupt

    engine.mishaps.append(mishap)
    added: list[Any] = []
    for _ in range(5):
        added += add(batch, rng, engine, seed)
    steps = 0
    while not batch.idle:
        with contextlib.suppress(KeyboardInterrupt):
            batch.step()
        steps += 1
        assert steps < STEPS_MAX
    for generation, prompt, options in added:
        assert generation.error is None or isinstance(generation.error, OutOfMemoryError)
        check(generation, prompt, options, engine.context)
    assert not engine.open and batch._scheduler._promises.promised == 0


@pytest.mark.parametrize("seed", range(30))
def test_eight_of_three_pages(seed: int) -> None:
    """A pool with 3 pages and 8 sequences: all finish, or are refused before they start."""
    rng = np.random.default_rng(seed)
    engine = FakeEngine(pages=3, context=64, page_tokens=8)
    batch, added, refused = Batch(engine), [], 0
    for _ in range(8):
        prompt = [BOS, *rng.integers(BYTES, VOCAB, int(rng.integers(0, 20))).tolist()]
        options = {"max_tokens": int(rng.integers(1, 16)), "seed": 3, "ignore_eos": True}
        need = -(-(len(prompt) + options["max_tokens"] - 1) // 8)
        try:
            added.append((batch.add(prompt, **options), prompt, options))
            assert need <= 3
        except UsageError as error:
            refused += 1
            assert need > 3 and f"need {need} kB of cache, but the pool holds 3 kB" in str(error)
    batch.run()
    assert len(added) + refused == 8
    for generation, prompt, options in added:
        assert generation.finish_reason == "length"
        check(generation, prompt, options, 64)


def test_answers_of_one_prompt_are_promised_its_whole_pages_once() -> None:
    engine = FakeEngine(page_tokens=4, pages=100)
    batch = Batch(engine)
    batch.add_several([BOS] * 9, 3, max_tokens=5, seed=1, ignore_eos=True)
    batch.step()
    # and that in which the prompt ends, until each has a copy
    assert batch._scheduler._promises.promised == (4 + 2 * (4 - 2) + 1) * PAGE_BYTES
    assert engine.used == 3 * PAGE_BYTES  # 9 ids
    batch.step()
    assert engine.used <= (2 + 3) * PAGE_BYTES
    batch.run()
    assert sum(sum(ids for ids, _ in each) for each in engine.passes) == 9 + 3 * 4
