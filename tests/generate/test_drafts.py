"""A generation with guesses is the one without, whatever guesses and however the tokens are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeq.errors import UsageError
from edgeq.generate import SamplingOptions, stream
from edgeq.speculate import Drafting, Drafts, Look, PassCosts, Speculator
from tests.fake_model import BOS, BYTES, VOCAB, FakeModel, script

GREEDY = SamplingOptions(temperature=0)


class Guesser:
    """Guesses what `model` will say, right in `right` of all tokens; or anything."""

    seconds = 0.0

    def __init__(self, model: FakeModel, right: float, seed: int) -> None:
        self._model, self._right, self._rng = model, right, np.random.default_rng(seed)

    def look(self, history: Sequence[int]) -> Look | None:
        return Look(0, 0.9)

    def draft(self, history: Sequence[int], most: int, cancelled: Any = None) -> list[int]:
        text = list(history)
        for _ in range(int(self._rng.integers(1, most + 1))):
            right = self._rng.random() < self._right
            text.append(
                int(self._model.next_logits(text).argmax()) if right else int(self._rng.integers(VOCAB))
            )
        return text[len(history) :]

    def close(self) -> None:
        pass


class Guessed(Drafts):
    """Drafts that are as many as may be, whether they pay or not."""

    def __init__(self, drafter: Any) -> None:
        super().__init__(Drafting("prompt", most=8), None)
        self.drafter = drafter

    def speculator(self) -> Speculator:
        return Eager(self.drafter, most=8)


class Eager(Speculator):
    """Guesses always."""

    def alone(self, history: Any, room: int, costs: Any, cancelled: Any = None) -> list[int]:
        offer = self.offer(history, room)
        return self.draft(history, offer.most)


def facts(generation: Any) -> dict[str, Any]:
    pieces = list(generation)
    return {
        "pieces": [(str(piece), piece.id, piece.logprob) for piece in pieces],
        "ids": generation.ids,
        "reason": (generation.finish_reason, generation.stop_string, generation.text),
        "logprobs": generation.logprobs,
    }


def options_of(rng: np.random.Generator) -> dict[str, Any]:
    """The options of a random generation."""
    options: dict[str, Any] = {"seed": int(rng.integers(1000)), "max_tokens": int(rng.integers(0, 40))}
    options["temperature"] = float(rng.choice([0.0, 0.7, 1.5]))
    if rng.random() < 0.4:
        options |= {"repeat_penalty": 1.3, "presence_penalty": 0.5, "repeat_last_n": int(rng.choice([-1, 5]))}
    if rng.random() < 0.3:
        options["logprobs"] = int(rng.integers(0, 4))
    if rng.random() < 0.3:
        options["ignore_eos"] = True
    if rng.random() < 0.3:
        options["stop"] = [chr(int(rng.integers(32, 127))) for _ in range(6)]
    return options


@pytest.mark.parametrize("seed", range(150))
def test_random_generations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = FakeModel(context=int(rng.integers(5, 60)))
    prompt = [BOS, *rng.integers(BYTES, VOCAB, int(rng.integers(1, 4))).tolist()]
    options = options_of(rng)
    expected = facts(stream(model, prompt, **options))
    alone = sorted(model.sequences[0].ids)
    drafter = Guesser(model, float(rng.choice([0.0, 0.6, 0.95, 1.0])), seed)
    generation = stream(model, prompt, draft=Guessed(drafter), **options)
    assert facts(generation) == expected
    assert sorted(model.sequences[1].ids) == alone  # it holds what it holds without
    times = generation.timings
    assert times.decode_passes + times.accepted_tokens == max(
        0, len(generation.ids) - 1 + (generation.finish_reason == "eos" and len(generation.ids) > 0)
    )
    assert times.accepted_tokens <= times.draft_tokens


def test_guesses_save_passes() -> None:
    model = FakeModel(script=script("abcdefgh" * 8))
    generation = stream(model, "Hi", options=GREEDY, draft=Guessed(Guesser(model, 1.0, 0)))
    assert generation.read().text == "abcdefgh" * 8
    times = generation.timings
    assert times.accepted_tokens > 40 and times.decode_passes == 64 - times.accepted_tokens
    assert times.to_json()["draft_tokens"] == times.draft_tokens


class Free(PassCosts):
    """Every pass takes an hour, however many rows it has: all guesses pay."""

    def seconds(self, rows: int) -> float:
        return 3600.0


@pytest.mark.parametrize("draft", ["prompt", Drafting("prompt", most=3, least=2), "model"])
def test_drafts_by_name(draft: Any) -> None:
    song = "row, row, row your boat, " * 6
    model = FakeModel(script=script(song))
    small = FakeModel(script=script(song[1:30] + song[:90]))  # its first feed has a token of the answer
    drafts = Drafts.of(Drafting(small, p_min=0.0) if draft == "model" else draft, model)
    assert drafts is not None
    drafts.costs = Free()
    with stream(model, "Hi", options=GREEDY, draft=drafts) as generation:
        assert generation.read().text == song
    assert generation.timings.accepted_tokens > 20
    assert [sequence.closed for sequence in small.sequences] == [False] * len(small.sequences)
    drafts.close()
    assert all(sequence.closed for sequence in [*model.sequences, *small.sequences])


def test_what_was_made_for_a_generation_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Drafts] = []
    monkeypatch.setattr(Drafts, "close", lambda self: closed.append(self))
    model, small = FakeModel(script=script("story")), FakeModel()
    generation = stream(model, "Hi", options=GREEDY, draft=small)
    assert next(generation) == "s" and not closed
    assert generation.read().text == "story" and len(closed) == 1
    stream(model, "Hi", draft=small).close()  # which has not begun
    assert len(set(map(id, closed))) == 2
    mine = Drafts.of(small, model)
    stream(model, "Hi", options=GREEDY, draft=mine).read()
    assert mine not in closed


def test_the_callers_sequence_holds_what_was_taken() -> None:
    """Also where a pass gave more pieces than anybody took."""
    model = FakeModel(script=script("abcdefgh"))
    own = model.sequence()
    with stream(
        model, "Hi", options=GREEDY, sequence=own, draft=Guessed(Guesser(model, 1.0, 3))
    ) as generation:
        taken = [next(generation) for _ in range(3)]
    assert taken == ["a", "b", "c"] and generation.ids == script("abc")
    assert own.ids == [*generation.prompt_ids, *script("ab")] and generation.finish_reason is None


def test_cancelled_between_pieces_the_pass_is_still_given() -> None:
    model = FakeModel(script=script("abcdefgh" * 9))
    generation = stream(model, "Hi", options=GREEDY, draft=Guessed(Guesser(model, 1.0, 3)))
    next(generation), next(generation)
    passes = generation.timings.decode_passes
    generation.cancel()
    assert ("abcdefgh" * 9).startswith(generation.read().text) and generation.finish_reason == "cancelled"
    assert generation.timings.decode_passes == passes == 1
    assert len(generation.ids) == 2 + generation.timings.accepted_tokens


def test_what_passes_cost_is_known_from_one_generation_to_the_next() -> None:
    model: Any = FakeModel(script=script("row, row, row your boat"))
    model.pass_costs = PassCosts()
    stream(model, "Hi", options=GREEDY, draft="prompt").read()
    assert model.pass_costs.seconds(1) > 0
    drafts = Drafts.of("prompt", model)
    assert drafts is not None and drafts.costs is model.pass_costs


@pytest.mark.parametrize("draft", [3, b"prompt", object()])
def test_what_is_no_draft(draft: Any) -> None:
    with pytest.raises(UsageError, match='must be "prompt", a model of the same vocabulary or its path'):
        stream(FakeModel(), "Hi", draft=draft)


def test_a_model_of_another_vocabulary_is_refused() -> None:
    other = FakeModel()
    other.tokenizer = None
    with pytest.raises(UsageError, match="has no tokenizer and 258 ids and the model a tokenizer"):
        stream(FakeModel(), "Hi", draft=other)
