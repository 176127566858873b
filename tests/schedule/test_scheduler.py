"""What a pass has, and who begins when."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from edgeq.errors import OutOfMemoryError, UsageError
from edgeq.generate import Batch, stream
from edgeq.passes import Part
from edgeq.schedule import Scheduler, share
from edgeq.schedule.rows import affordable
from edgeq.speculate import PassCosts
from tests.fake_model import BOS, BYTES, EOS, FakeModel, script
from tests.generate.test_drafts import Guessed, Guesser
from tests.patience import STUCK_S
from tests.schedule.fake_engine import FakeEngine

LONG: dict[str, Any] = {"max_tokens": 20, "seed": 1, "ignore_eos": True}


@pytest.mark.parametrize(
    ("budget", "needs", "given"),
    [
        (256, [4000], [256]),
        (256, [4000, 50], [206, 50]),
        (256, [50, 4000, 10], [50, 196, 10]),
        (10, [9, 9, 9], [4, 3, 3]),
        (2, [9, 9, 9], [1, 1, 0]),
        (99, [1, 2], [1, 2]),
        (0, [5], [0]),
        (5, [], []),
    ],
)
def test_shares(budget: int, needs: list[int], given: list[int]) -> None:
    assert share(budget, needs) == given


def test_rows_that_keep_a_step_short() -> None:
    assert affordable(lambda rows: rows * 0.01, 0.5, 256, 8) == 48
    assert affordable(lambda rows: rows * 0.01, 0.555, 256, 8) == 48
    assert affordable(lambda rows: rows * 1.0, 0.5, 256, 8) == 32  # fewer make no prompt faster
    assert affordable(lambda rows: 0.0, 0.5, 256, 8) == 256
    assert affordable(lambda rows: rows * 1.0, 0.5, 20, 8) == 20


def prompt(length: int, of: int = 0) -> list[int]:
    return [BOS, *[BYTES + of] * (length - 1)]


def test_who_decodes_has_a_row_in_every_pass_and_prompts_share_the_rest() -> None:
    engine = FakeEngine(context=300, pass_tokens=64)
    batch = Batch(engine)
    talks = batch.add(prompt(3), **LONG)
    batch.step()
    batch._scheduler.costs.seconds = lambda rows: rows * 0.01  # type: ignore[method-assign]
    reads = [batch.add(prompt(100 + n, n), **LONG) for n in range(2)]
    short = batch.add(prompt(4, 9), **LONG)
    batch.step()
    # 0.25 s are 25 rows, fewer than a prompt needs to be read at its full rate: 32, one of them the first's
    assert engine.passes[-1] == [(1, 1), (14, 0), (13, 0), (4, 1)]
    assert short.ids and not reads[0].ids and len(talks.ids) == 2
    while not reads[0].ids:
        batch.step()
        assert engine.passes[-1][:2] == [(1, 1), (1, 1)]
        assert sum(ids for ids, _ in engine.passes[-1]) <= 32
    batch.run()
    assert all(len(each.ids) == 20 for each in (talks, short, *reads))


def test_a_prompt_alone_is_read_as_fast_as_can_be() -> None:
    engine = FakeEngine(context=300, pass_tokens=64)
    batch = Batch(engine)
    batch.add(prompt(150), max_tokens=1)
    batch.run()
    assert engine.passes == [[(64, 0)], [(64, 0)], [(22, 1)]]


def test_four_prompts_are_read_at_once_and_places_are_kept() -> None:
    engine = FakeEngine(context=300, pass_tokens=60)
    batch = Batch(engine, parallel=5)
    every = [batch.add(prompt(100, n), **LONG) for n in range(7)]
    batch.step()
    assert engine.passes[-1] == [(15, 0)] * 4
    assert repr(batch) == "<edgeq.Batch: 5 running, 2 waiting>"
    batch.run()
    assert all(each.finish_reason == "length" for each in every)


def test_first_come_first_served_also_where_a_later_one_would_fit() -> None:
    engine = FakeEngine(pages=6, page_tokens=4)
    batch = Batch(engine)
    first = batch.add(prompt(4), max_tokens=9, seed=1, ignore_eos=True)  # 3 pages
    large = batch.add(prompt(13), max_tokens=4, seed=1, ignore_eos=True)  # 4
    small = batch.add(prompt(2), max_tokens=2, seed=1, ignore_eos=True)  # 1
    batch.step()
    assert first.ids and not large.ids and not small.ids
    while not first.over:
        batch.step()
        assert not small.ids
    batch.step()
    assert large.ids and small.ids
    batch.run()


def test_guesses_are_rows_of_the_same_pass() -> None:
    engine = FakeEngine(context=200, script=script("abcdefgh" * 9))
    engine.start = 3
    batch = Batch(engine)
    batch._scheduler.costs.seconds = lambda rows: 1.0  # type: ignore[method-assign]
    text = batch.add(prompt(3), temperature=0.0, draft=Guessed(Guesser(engine, 1.0, 0)))
    batch.run()
    assert text.text == "abcdefgh" * 9
    assert max(wanted for each in engine.passes for _, wanted in each) == 9
    times = text.timings
    assert times.accepted_tokens > 40 and times.decode_passes == 72 - times.accepted_tokens
    assert (times.prompt_tokens, times.generated_tokens) == (3, 72)


def test_guesses_keep_to_the_limits_of_a_pass() -> None:
    engine = FakeEngine(context=200, pass_tokens=12, pass_outputs=6)
    batch = Batch(engine)
    batch._scheduler.costs.seconds = lambda rows: 1.0  # type: ignore[method-assign]
    for n in range(4):
        batch.add(prompt(3, n), draft=Guessed(Guesser(engine, 0.9, n)), **LONG)
    batch.run()
    assert max(sum(wanted for _, wanted in each) for each in engine.passes) == 6


@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_is_cancelled_ends_with_the_next_step(after: int) -> None:
    """Waiting, while its prompt is read, and while it decodes; its pages are free again."""
    engine = FakeEngine(context=100, pass_tokens=8)
    batch = Batch(engine)
    text = batch.add(prompt(12), **LONG)
    for _ in range(after):
        batch.step()
    thread = threading.Thread(target=text.cancel)
    thread.start()
    thread.join(STUCK_S)
    passes = len(engine.passes)
    ((generation, pieces),) = batch.step()
    assert generation is text and pieces == [] and text.finish_reason == "cancelled"
    assert batch.idle and not engine.open and len(engine.passes) == passes == after


@pytest.mark.parametrize("which", [0, 1])
def test_one_of_several_answers_is_cancelled_while_the_prompt_is_read(which: int) -> None:
    engine = FakeEngine(context=100, pass_tokens=8)
    batch = Batch(engine)
    several = batch.add_several(prompt(20), 2, **LONG)
    batch.step()
    several[which].cancel()
    batch.run()
    left = several[1 - which]
    alone = stream(FakeModel(context=100), prompt(20), **{**LONG, "seed": 2 - which}).read()
    assert left.result.ids == alone.ids and several[which].finish_reason == "cancelled"
    assert sum(ids for each in engine.passes for ids, _ in each) == 20 + 19  # the prompt was read once


def test_the_youngest_makes_room_when_the_system_is_short_of_memory() -> None:
    engine = FakeEngine(context=100)

    def one_only(parts: list[Part]) -> None:
        if len(engine.open) > 1:
            raise OutOfMemoryError("only one")

    engine.mishaps.append(one_only)
    batch = Batch(engine)
    every = [batch.add(prompt(3 + n), **LONG) for n in range(3)]
    steps = 0
    while not batch.idle:
        batch.step()
        steps += 1
        assert steps < 100
    for n, each in enumerate(every):
        assert each.error is None
        assert each.ids == list(stream(FakeModel(context=100), prompt(3 + n), **LONG).read().ids)
    assert engine.pool.limit  # which promised more


def test_one_that_is_alone_and_has_no_memory_ends_with_the_error() -> None:
    engine = FakeEngine(context=100)
    engine.mishaps.append(lambda parts: (_ for _ in ()).throw(OutOfMemoryError("none at all")))
    batch = Batch(engine)
    text = batch.add(prompt(3), **LONG)
    with pytest.raises(OutOfMemoryError, match="none at all"):
        text.read()
    assert text.over and text.finish_reason is None and not engine.open and batch.idle


def test_an_error_of_one_is_not_the_others() -> None:
    class Broken:
        def fill(self, bits: Any) -> bool:
            raise ValueError("no grammar")

        def accept(self, id: int) -> None: ...

    engine = FakeEngine(context=100)
    batch = Batch(engine)
    good, bad = batch.add(prompt(3), **LONG), batch.add(prompt(4), mask=Broken(), **LONG)
    batch.run()
    assert len(good.ids) == 20 and isinstance(bad.error, ValueError) and not engine.open
    with pytest.raises(ValueError, match="no grammar"):
        next(bad)


def test_prefixes_come_from_and_go_to_whoever_keeps_them() -> None:
    engine = FakeEngine(context=100)
    kept: list[Any] = []

    def opened(text: Any) -> Any:
        sequence = engine.sequence()
        if kept:
            sequence.grow(text.course.history[: len(text.course.history) - 1])
        return sequence

    def closed(sequence: Any, text: Any) -> None:
        kept.append(list(sequence.ids))
        sequence.close()

    batch = Batch(engine)
    batch._scheduler = Scheduler(engine, opened=opened, closed=closed)
    first = batch.add(prompt(9), **LONG).read()
    assert kept == [[*prompt(9), *first.ids[:-1]]]
    before = len(engine.passes)
    assert batch.add(prompt(9), **LONG).read().ids == first.ids
    assert engine.passes[before] == [(1, 1)]  # all but the last was there


def test_what_can_never_run_is_refused() -> None:
    engine = FakeEngine(pages=2, page_tokens=4)
    batch = Batch(engine, parallel=2)
    with pytest.raises(
        UsageError,
        match=r"a prompt and its answer of up to 9 tokens need 3 kB of cache, but the pool "
        r"holds 2 kB",
    ):
        batch.add(prompt(5), max_tokens=5)
    with pytest.raises(UsageError, match="a prompt and 2 answers of up to 5 tokens need 3 kB"):
        batch.add_several(prompt(4), 2, max_tokens=2)
    with pytest.raises(UsageError, match="3 answers to one prompt are wanted, but 2 run at once"):
        batch.add_several(prompt(1), 3, max_tokens=1)
    assert batch.idle


def test_costs_of_passes_are_learned() -> None:
    ticks = iter(range(1000))
    engine = FakeEngine(context=100)
    batch = Batch(engine)
    batch._scheduler._clock = lambda: float(next(ticks))
    text = batch.add(prompt(5), **LONG)
    text.read()
    costs: PassCosts = batch._scheduler.costs
    assert costs.seconds(5) == costs.seconds(1) == 1.0
    assert (text.timings.prompt_seconds, text.timings.generate_seconds) == (1.0, 19.0)


def test_a_prompt_is_scored_whatever_else_runs() -> None:
    """Each id of the prompt as the logits before it have it, however few rows of logits a pass gives."""
    for outputs in (4, 5, 16):
        engine = FakeEngine(context=100, pass_tokens=8, pass_outputs=outputs)
        batch = Batch(engine, parallel=3)
        others = [batch.add(prompt(20), **LONG), batch.add(prompt(5), **LONG)]
        scored = batch.add(prompt(11), score=True, logprobs=2, max_tokens=3, seed=1)
        batch.run()
        assert tuple(others[0].ids) == Batch(FakeEngine(context=100)).add(prompt(20), **LONG).read().ids
        found = scored.prompt_logprobs
        assert found is not None and found[0] is None and len(found) == 11
        for n, one in enumerate(found[1:], 1):
            logits = engine.next_logits(prompt(11)[:n])
            wanted = float(logits[prompt(11)[n]]) - float(np.log(np.exp(logits.astype(np.float64)).sum()))
            assert one is not None and one.id == prompt(11)[n] and len(one.top) == 2
            assert abs(one.logprob - wanted) < 1e-5
        alone = Batch(FakeEngine(context=100)).add(prompt(11), max_tokens=3, seed=1).read()
        assert scored.ids == list(alone.ids)


def test_who_is_paused_has_no_rows_and_says_the_same() -> None:
    engine = FakeEngine(context=100)
    batch = Batch(engine)
    slow, other = batch.add(prompt(3), **LONG), batch.add(prompt(4), **LONG)
    batch.step()
    batch.step()
    slow.pause()
    count = len(slow.ids)
    while not other.over:
        batch.step()
    assert len(slow.ids) == count and not batch.idle and batch.step() == []
    slow.pause(False)
    assert slow.read().ids == Batch(FakeEngine(context=100)).add(prompt(3), **LONG).read().ids


def test_the_end_token_has_its_likelihood() -> None:
    engine = FakeEngine(context=100, script=[BYTES + 65])
    engine.start = 3
    text = Batch(engine).add(prompt(3), logprobs=1, temperature=0)
    result = text.read()
    assert result.finish_reason == "eos" and len(result.ids) == 1
    assert text.end_logprob is not None and text.end_logprob.id == EOS and text.end_logprob.logprob > -1e-3
