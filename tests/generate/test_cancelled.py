"""A generation that is ended from elsewhere, and one that an event loop waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from edgeq.errors import CancelledError
from edgeq.generate import Generation, stream
from edgeq.passes import Fed
from edgeq.sampling import SamplingOptions
from tests.fake_model import FakeModel, FakeSequence, script
from tests.patience import STUCK_S

GREEDY = SamplingOptions(temperature=0)


class Slow(FakeModel):
    """Says "story", but a pass is over only when it is let go, or cancelled; `at_work` is set during one."""

    def __init__(self) -> None:
        super().__init__(script=script("story"))
        self.at_work, self.let_go = threading.Event(), threading.Event()

    def sequence(self) -> FakeSequence:
        model = self

        class Sequence_(FakeSequence):
            def step(
                self,
                ids: Sequence[int],
                *,
                wanted: int = 1,
                progress: Callable[..., Any] | None = None,
                cancelled: Callable[[], bool] | None = None,
            ) -> Fed:
                model.at_work.set()
                assert cancelled is not None
                while not model.let_go.wait(0.001):
                    if cancelled():
                        raise CancelledError("the call was cancelled.")
                model.at_work.clear()
                return super().step(ids, wanted=wanted)

        self.sequences.append(Sequence_(self))
        return self.sequences[-1]


def generation_of(model: FakeModel, **options: Any) -> Generation:
    return stream(model, "Hi", options=GREEDY, **options)


def test_what_was_cancelled_ends_and_says_so() -> None:
    model = FakeModel(script=script("story"))
    generation = generation_of(model)
    assert [next(generation), next(generation)] == ["s", "t"]
    generation.cancel()
    assert list(generation) == [] and generation.text == "st"
    assert generation.finish_reason == "cancelled" and model.sequences[0].closed
    assert len(model.fed) == 3 + 1


def test_what_was_held_back_is_not_lost() -> None:
    generation = generation_of(FakeModel(script=script("story")), stop=["story!"])
    assert next(generation) == ""
    generation.cancel()
    assert list(generation) == ["s"] and generation.finish_reason == "cancelled"


def test_to_cancel_what_is_over_changes_nothing() -> None:
    generation = generation_of(FakeModel(script=script("story")))
    generation.read()
    generation.cancel()
    assert generation.finish_reason == "eos"


def test_a_pass_under_way_is_cancelled_from_another_thread() -> None:
    model = Slow()
    generation = generation_of(model)
    thread = threading.Thread(target=generation.read)
    thread.start()
    assert model.at_work.wait(STUCK_S)
    generation.cancel()
    thread.join(STUCK_S)
    assert not thread.is_alive() and generation.finish_reason == "cancelled" and model.sequences[0].closed


def test_the_event_loop_goes_on_while_a_piece_is_made() -> None:
    model = Slow()
    generation = generation_of(model)

    async def reader() -> str:
        return "".join([piece async for piece in generation])

    async def main() -> str:
        read = asyncio.create_task(reader())
        while not model.at_work.is_set():
            await asyncio.sleep(0)
        model.let_go.set()  # only a loop that goes on comes here
        return await asyncio.wait_for(read, STUCK_S)

    assert asyncio.run(main()) == "story"
    assert generation.finish_reason == "eos" and generation.over


def test_a_task_that_is_cancelled_ends_its_generation() -> None:
    model = Slow()
    generation = generation_of(model)

    async def reader() -> None:
        async for _ in generation:
            raise AssertionError("no pass was let go")

    async def main() -> None:
        read = asyncio.create_task(reader())
        while not model.at_work.is_set():
            await asyncio.sleep(0)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        assert generation.over and model.sequences[0].closed

    asyncio.run(main())
    assert generation.finish_reason == "cancelled" and generation.text == ""


def test_a_task_that_is_cancelled_twice_ends_its_generation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a second Ctrl-C, or a time limit in a group that ends: nobody waits for the step any more, and
    after it there is text that was held back."""
    model = Slow()
    model.let_go.set()
    generation = generation_of(model, stop=["story!"])
    goes_on = threading.Event()
    step = generation._step

    def slow(*given: Any) -> Any:
        try:
            return step(*given)
        finally:
            assert generation.ids == [] or goes_on.wait(STUCK_S)

    monkeypatch.setattr(generation, "_step", slow)

    async def reader() -> None:
        async for _ in generation:
            model.let_go.clear()  # the next pass is to be cancelled

    async def main() -> None:
        read = asyncio.create_task(reader())
        while not (generation.ids and model.at_work.is_set()):
            await asyncio.sleep(0)
        for _ in range(2):
            read.cancel()
            await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await read
        while not generation.over:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), STUCK_S))
    assert generation.finish_reason == "cancelled" and model.sequences[0].closed


def test_an_error_reaches_the_task() -> None:
    model = FakeModel(script=script("story"))
    generation = generation_of(model, progress=lambda *_: None)
    model.sequence().close()

    def broken() -> FakeSequence:
        return model.sequences[0]  # closed

    model.sequence = broken  # type: ignore[method-assign]

    async def main() -> None:
        with pytest.raises(Exception, match="closed, empty or past the context"):
            async for _ in generation:
                raise AssertionError("nothing can come")

    asyncio.run(main())


def test_pieces_that_nobody_takes_any_more() -> None:
    model = FakeModel(script=script("story"))
    generation = generation_of(model)

    async def main() -> None:
        with generation:
            async for piece in generation:
                if piece == "o":
                    break
        assert generation.text == "sto" and generation.over

    asyncio.run(main())
