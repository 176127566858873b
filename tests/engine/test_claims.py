"""One call at a time on a sequence; passes wait for their turn; what a call leaves is whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import cache, engine, formats, memory
from edgeq.errors import OutOfMemoryError, UsageError
from edgeq.ownership import Line, Turn, here
from edgeq.sequence import Held

IDS = [1, 403, 407, 261, 378]


class Interrupt(BaseException):
    """Like KeyboardInterrupt."""


@pytest.fixture
def model(demo_file: Callable[[str], Path]) -> Iterator[engine.Model]:
    with engine.load(demo_file("q4"), threads=1, context=512) as model:
        yield model


def elsewhere(work: Callable[[], Any]) -> Any:
    """What the work gives or raises in another thread."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(work())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


def test_calls_from_a_callback_and_from_another_thread_meanwhile(model: engine.Model) -> None:
    sequence, said = model.sequence(), []

    def progress(*_: int) -> None:
        for call in (lambda: sequence.feed([1]), lambda: sequence.truncate(0)):
            said.append(str(elsewhere(call)))
            with pytest.raises(UsageError, match="from within that call"):
                call()

    sequence.feed(IDS, progress=progress)
    assert said == [
        f"the sequence is being fed in another thread, so it cannot be {what} meanwhile."
        for what in ("fed", "cut")
    ]
    sequence.feed([5])
    assert sequence.ids == [*IDS, 5]


def test_another_sequence_is_fed_meanwhile(model: engine.Model) -> None:
    """No lock is held while a callback runs."""
    want = model.logits(IDS)
    got: list[np.ndarray] = []
    model.sequence().feed([1], progress=lambda *_: got.append(elsewhere(lambda: model.logits(IDS))))
    np.testing.assert_array_equal(got[0], want)


def test_a_generation_meanwhile(model: engine.Model) -> None:
    said: list[str] = []

    def progress(*_: int) -> None:
        said.append(str(elsewhere(lambda: next(generation))))
        said.append(str(elsewhere(generation.close)))

    generation = model.generate(IDS, max_tokens=2, progress=progress)
    assert len(list(generation)) >= 2
    assert said == [
        f"the generation is at work in another thread, so it cannot {what} meanwhile."
        for what in ("go on", "be closed")
    ]


@pytest.mark.parametrize("at", ["come", "_before", "claim"])
def test_a_claim_that_is_interrupted_is_given_back(model: engine.Model, at: str, monkeypatch: Any) -> None:
    sequence, method = model.sequence(), getattr(Line, at)

    def interrupted(*arguments: Any) -> None:
        method(*arguments)
        raise Interrupt

    monkeypatch.setattr(Line, at, interrupted)
    for call in (lambda: sequence.feed([1]), lambda: sequence.truncate(0), model.generate([1]).close):
        with pytest.raises(Interrupt):
            call()
    monkeypatch.undo()
    sequence.feed(IDS)
    assert sequence.ids == IDS


def test_who_gives_up_leaves_the_turn_to_whom_it_waited_for() -> None:
    line = Line()
    first, second, third = (Turn(f"{n} is at work") for n in range(3))
    assert line.come(first) == [] and line.come(second) == [first]
    second.over = True
    assert line.come(third) == [first] and line._before(third) == [first]
    first.over = True
    assert line._before(third) == []
    with pytest.raises(UsageError, match="2 is at work, so it cannot go on from within"):
        line.claim(Turn("4 is at work"), "go on")


def test_a_pass_is_committed_as_a_whole(model: engine.Model, monkeypatch: Any) -> None:
    """An exception in the middle of it changes neither ids nor likeliest, and the next pass is right."""
    sequence = model.sequence()
    sequence.feed(IDS)
    likeliest, more = sequence.likeliest, Held.more
    assert likeliest == model.logits(IDS)[-1].argmax()

    def interrupted(*arguments: Any) -> None:
        more(*arguments)
        raise Interrupt

    monkeypatch.setattr(Held, "more", interrupted)
    with pytest.raises(Interrupt):
        sequence.feed([7, 8, 9])
    assert (sequence.ids, sequence.likeliest) == (IDS, likeliest)
    monkeypatch.undo()
    np.testing.assert_array_equal(sequence.feed([5]), model.logits([*IDS, 5])[-1])
    assert sequence.ids == [*IDS, 5]
    sequence.truncate(2)
    assert (sequence.ids, sequence.likeliest) == (IDS[:2], -1)


def test_a_step_is_told_of_its_own_end(model: engine.Model, monkeypatch: Any) -> None:
    """A generation's token is the likeliest after what it fed, whatever another thread feeds behind it."""
    alone = list(model.generate(IDS, max_tokens=1, temperature=0.0))
    sequence = model.sequence()
    feed = engine.Sequence._claimed

    def crowded(self: engine.Sequence, *arguments: Any) -> Any:
        result = feed(self, *arguments)
        feed(self, [7, 8, 9], 1, None)
        return result

    monkeypatch.setattr(engine.Sequence, "_claimed", crowded)
    assert list(model.generate(IDS, max_tokens=1, temperature=0.0, sequence=sequence)) == alone
    assert sequence.ids == [*IDS, 7, 8, 9]
    with pytest.raises(UsageError, match="sequence is 3, but must be"):
        model.generate(IDS, sequence=3)


def test_a_pass_closes_the_model_that_a_handler_closed_within_it(model: engine.Model) -> None:
    runner, sequence = model.runner, model.sequence()
    run = runner._pool.run

    def handler(code: np.ndarray) -> None:
        model.close()
        assert model._runner is runner  # the pass is under way
        with pytest.raises(UsageError, match="closed"):
            model.logits([1])
        run(code)

    runner._pool.run = handler  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="the model was closed"):
        sequence.feed(IDS)
    assert model._runner is None and sequence.ids == []


def test_no_pass_within_a_pass(model: engine.Model, demo_file: Callable[[str], Path]) -> None:
    """Of another model neither: two threads that do so could wait for each other."""
    run, refused = model.runner._pool.run, []
    other, third = engine.load(demo_file("q4"), threads=1).sequence(), model.sequence()

    def handler(code: np.ndarray) -> None:
        for sequence in (other, third):
            with pytest.raises(UsageError, match="no pass can be run from within"):
                sequence.feed([1])
            refused.append(1)
        run(code)

    model.runner._pool.run = handler  # type: ignore[method-assign]
    assert len(model.logits(IDS)) == len(IDS) and len(refused) == 2


def test_a_subclass_that_has_no_hash(demo_file: Callable[[str], Path]) -> None:
    class Equal(engine.Model):
        def __eq__(self, other: object) -> bool:
            return True

    with Equal(demo_file("q4"), threads=1) as one, Equal(demo_file("q4"), threads=1) as two:
        np.testing.assert_array_equal(one.logits(IDS), two.logits(IDS))


@pytest.mark.parametrize("where", ["map", "loading", "cache", "logits"])
def test_want_of_memory(
    where: str, demo_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it comes, it is one error with a number of bytes."""
    model = engine.load(demo_file("q4"), threads=1, context=64)

    def short(*_: Any, **__: Any) -> None:
        if where == "map":
            raise OSError(12, "Cannot allocate memory")
        raise MemoryError("Unable to allocate 1.00 GiB for an array")

    module, name, call, word = {
        "map": (
            formats.reader.mmap,
            "mmap",
            lambda: engine.load(demo_file("q4")),
            "MB cannot be mapped|kB cannot",
        ),
        "loading": (memory.np, "zeros", lambda: engine.load(demo_file("q4")), "1.00 GiB"),
        "cache": (cache.pool.memory, "pieces", lambda: model.sequence().feed(IDS), "needs [0-9.]+ kB"),
        "logits": (engine.np, "empty", lambda: model.logits(IDS), "5 tokens need 10.2 kB"),
    }[where]
    monkeypatch.setattr(module, name, short)
    with pytest.raises(OutOfMemoryError, match=word):
        call()
    monkeypatch.undo()
    model.close()


def test_no_two_threads_are_the_same() -> None:
    """Also not where one begins after the end of another and has its ident."""
    assert here() == here()
    assert len({elsewhere(here) for _ in range(50)} | {here()}) == 51
