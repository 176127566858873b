"""The two drafters: what they guess, and that they follow the text by what is new."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgeq.errors import CancelledError, UsageError
from edgeq.speculate import ModelDrafter, PromptDrafter
from edgeq.speculate.prompt import SIZES
from tests.fake_model import BOS, BYTES, VOCAB, FakeModel, FakeSequence


def meaning(history: Sequence[int], most: int) -> list[int] | None:
    """What the prompt's drafter guesses, by a scan: what followed the latest occurrence of the longest suffix
    of one of its sizes."""
    for size in SIZES:
        for end in range(len(history) - 1, size - 1, -1):
            if list(history[end - size : end]) == list(history[-size:]) and len(history) > size:
                text = list(history)
                for place in range(end, end + most):
                    text.append(text[place])
                return text[len(history) :]
    return None


@pytest.mark.parametrize("seed", range(40))
def test_prompt_lookup_is_what_a_scan_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    letters = int(rng.integers(1, 6))
    drafter, history = PromptDrafter(), rng.integers(0, letters, int(rng.integers(0, 30))).tolist()
    for _ in range(40):
        look = drafter.look(history)
        expected = meaning(history, 6)
        assert (look is None) == (expected is None)
        if look is not None:
            assert drafter.draft(history, 6) == expected
        history += rng.integers(0, letters, int(rng.integers(1, 4))).tolist()


def test_the_longest_suffix_counts_and_the_latest_of_its_places() -> None:
    drafter = PromptDrafter()
    history = [1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3]
    look = drafter.look(history)
    assert look is not None and look.kind == 3 and drafter.draft(history, 2) == [7, 9]
    history = [5, 2, 3, 7, 9, 2, 3, 8, 6, 2, 3]
    look = drafter.look(history)
    assert look is not None and look.kind == 2 and drafter.draft(history, 2) == [8, 6]


def test_a_text_that_repeats_itself_is_guessed_beyond_its_end() -> None:
    history = [4, 5, 4, 5, 4]
    drafter = PromptDrafter()
    assert drafter.look(history) is not None
    assert drafter.draft(history, 5) == [5, 4, 5, 4, 5]


def test_another_text_begins_anew() -> None:
    drafter = PromptDrafter()
    assert drafter.look([1, 2, 3, 1, 2]) is not None
    assert drafter.look([9, 1, 2]) is None


def test_a_step_adds_an_entry_for_each_size_alone() -> None:
    """A step's work is counted by what is read of the history."""

    class Counted(list):
        reads = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            Counted.reads += 1
            return super().__getitem__(key)

    history = Counted(np.random.default_rng(0).integers(0, 50, 5000).tolist())
    drafter = PromptDrafter()
    drafter.look(history)
    Counted.reads = 0
    for token in range(100):
        history.append(token % 7)
        drafter.look(history)
        drafter.draft(history, 4)
    assert Counted.reads <= 100 * (2 * len(SIZES) + 1)


# ---- a small model ----


def small(**options: object) -> tuple[FakeModel, ModelDrafter]:
    model = FakeModel(**options)  # type: ignore[arg-type]
    return model, ModelDrafter(model, FakeModel())


def greedy(model: FakeModel, history: Sequence[int], count: int) -> list[int]:
    text = list(history)
    for _ in range(count):
        text.append(int(model.next_logits(text).argmax()))
    return text[len(history) :]


def test_a_small_model_guesses_what_it_finds_likeliest_and_is_fed_what_is_new() -> None:
    model, drafter = small()
    history = [BOS, *range(BYTES + 40, BYTES + 60)]
    assert drafter.look(history) is not None
    guesses = drafter.draft(history, 4)
    assert guesses == greedy(model, history, 4) and len(model.fed) == len(history) + 3
    history += [*guesses[:2], 77]  # two came true
    before = len(model.fed)
    assert drafter.draft(history, 2) == greedy(model, history, 2)
    assert len(model.fed) == before + 1 + 1
    other = [*history[:10], 99]
    before = len(model.fed)
    assert drafter.draft(other, 1) == greedy(model, other, 1) and len(model.fed) == before + 1
    (sequence,) = model.sequences
    drafter.close()
    assert sequence.closed


def test_a_prompt_that_grew_shorter_is_followed_too() -> None:
    model, drafter = small()
    drafter.draft(list(range(10, 30)), 3)
    assert drafter.draft(list(range(10, 15)), 2) == greedy(model, range(10, 15), 2)
    assert model.sequences[0].ids[:5] == list(range(10, 15))


def test_guesses_end_with_the_small_models_context() -> None:
    model, drafter = small(context=12)
    history = list(range(20, 30))
    assert len(drafter.draft(history, 9)) == 2
    assert drafter.look(list(range(20, 32))) is None


def test_guesses_end_before_an_unlikely_one() -> None:
    model = FakeModel()
    history = [BOS, 50, 60, 70]
    chances = []
    text = list(history)
    for _ in range(6):
        logits = model.next_logits(text).astype(np.float64)
        chances.append(float(np.exp(logits.max() - np.logaddexp.reduce(logits))))
        text.append(int(logits.argmax()))
    bound = sum(sorted(chances)[1:3]) / 2
    expected = next(n for n, chance in enumerate(chances) if chance < bound)
    drafter = ModelDrafter(model, FakeModel(), p_min=bound)
    assert drafter.draft(history, 6) == text[4 : 4 + expected]


def test_the_time_of_a_guess_is_told_without_that_of_a_prompt() -> None:
    ticks = iter(range(0, 1000))
    drafter = ModelDrafter(FakeModel(), FakeModel(), clock=lambda: float(next(ticks)))
    history = list(range(20, 40))
    drafter.draft(history, 1)
    assert drafter.seconds == 0.0
    drafter.draft(history, 4)
    assert drafter.seconds == 1.0


def test_a_pass_that_is_broken_off_leaves_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    model, drafter = small()
    history = list(range(20, 30))
    drafter.draft(history, 2)
    with monkeypatch.context() as patch:
        patch.setattr(FakeSequence, "step", lambda *_, **__: (_ for _ in ()).throw(CancelledError("no")))
        with pytest.raises(CancelledError):
            drafter.draft([*history, 5], 2)
    assert drafter.draft([*history, 5], 2) == greedy(model, [*history, 5], 2)


def test_another_vocabulary_is_refused_by_its_first_difference() -> None:
    odd = FakeModel()

    class Odd(type(odd.tokenizer)):  # type: ignore[misc]
        @staticmethod
        def token(id: int) -> bytes:
            return b"?" if id == BYTES + 7 else FakeModel().tokenizer.token(id)

    odd.tokenizer = Odd()
    with pytest.raises(UsageError, match=r"token 9 is b'\?' to the draft model and b'\\x07' to the model"):
        ModelDrafter(odd, FakeModel())
    odd.tokenizer = type("Short", (), {"vocab_size": 20, "token": staticmethod(lambda id: b"")})()
    with pytest.raises(UsageError, match=f"has 20 tokens and the model {VOCAB}, but both must"):
        ModelDrafter(odd, FakeModel())
