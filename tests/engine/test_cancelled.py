"""Passes that are broken off because somebody asks for that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq import engine, runner
from edgeq.errors import CancelledError, UsageError
from tests.patience import STUCK_S

IDS = [1, 403, 407, 261, 378] * 60  # two passes


@pytest.fixture
def model(demo_file: Callable[[str], Path]) -> Iterator[engine.Model]:
    with engine.load(demo_file("q4"), threads=1, context=512) as model:
        yield model


class Asked:
    """Says yes from its nth call on."""

    def __init__(self, n: int) -> None:
        self.n, self.calls = n, 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls >= self.n


@pytest.mark.parametrize(("n", "held"), [(1, 0), (2, 256)])
def test_passes_that_were_finished_stay(model: engine.Model, n: int, held: int) -> None:
    sequence = model.sequence()
    with pytest.raises(CancelledError):
        sequence.feed(IDS, cancelled=Asked(n))
    assert sequence.ids == IDS[:held]
    rest = sequence.feed(IDS[held:])
    assert np.array_equal(rest, model.logits(IDS)[-1])


def test_a_pass_is_broken_off_within(model: engine.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PAUSE_WORK", 1)  # a pause after each layer
    sequence, asked = model.sequence(), Asked(3)
    with pytest.raises(CancelledError):
        sequence.step(IDS[:10], cancelled=asked)
    assert sequence.ids == [] and asked.calls == 3
    never = Asked(10**9)
    fed = sequence.step(IDS[:10], cancelled=never)
    assert never.calls == model.config.num_hidden_layers + 2  # and within the last, behind its cache
    assert np.array_equal(fed.logits[0], model.logits(IDS[:10])[-1])


def test_what_cannot_be_asked_is_refused(model: engine.Model) -> None:
    with pytest.raises(UsageError, match="cancelled is 3, but must be a function"):
        model.sequence().feed(IDS, cancelled=3)  # type: ignore[arg-type]


def test_a_generation_without_an_end_is_cancelled_from_another_thread(model: engine.Model) -> None:
    generation = model.generate(IDS[:5], ignore_eos=True, seed=1)
    first = next(generation)
    began = threading.Event()

    def read() -> None:
        began.set()
        generation.read()

    thread = threading.Thread(target=read)
    thread.start()
    assert began.wait(STUCK_S)
    generation.cancel()
    thread.join(STUCK_S)
    assert generation.over and generation.finish_reason in ("cancelled", "length")
    assert generation.text.startswith(first)
