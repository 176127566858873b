"""What a generation gives beside its text: usage, results, logprobs, and a line about itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgeq.errors import FormatError, UsageError
from edgeq.generate import Piece, Result, TokenLogprob, Usage, remaining, stream
from edgeq.sampling import SamplingOptions
from tests.fake_model import BYTES, VOCAB, FakeModel, script

GREEDY = SamplingOptions(temperature=0)


class Spelling:
    """The fake tokenizer's bytes by id, as a real one has them."""

    @staticmethod
    def token(id: int) -> bytes:
        return bytes([id - BYTES]) if id >= BYTES else b"<eos>"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel(context=256)
    model.tokenizer.token = Spelling.token
    return model


def test_a_generation_is_read_to_its_end() -> None:
    model = FakeModel(script=script("story"))
    result = stream(model, "Hi", options=GREEDY).read()
    assert isinstance(result, Result) and (result.text, result.finish_reason) == ("story", "eos")
    assert result.usage == Usage(prompt_tokens=3, cached_tokens=0, completion_tokens=5)
    assert result.usage.total_tokens == 8 and result.ids == tuple(script("story")) and result.logprobs is None
    told = json.loads(json.dumps(result.to_json()))
    assert told["usage"]["total_tokens"] == 8 and told["timings"]["generated_tokens"] == 5


def test_what_a_sequence_held_is_cached() -> None:
    model = FakeModel(script=script("one"))
    sequence = model.sequence()
    sequence.feed([5, 6, 7, 8])
    new = remaining(sequence, [5, 6, 9, 10, 11])
    assert stream(model, new, sequence=sequence, options=GREEDY, max_tokens=0).usage == Usage(5, 2, 0)


def test_a_result_stays_as_it_was() -> None:
    generation = stream(FakeModel(script=script("ab")), "Hi", options=GREEDY)
    next(generation)
    before = generation.result
    generation.read()
    assert (before.text, before.finish_reason, before.timings.generated_tokens) == ("a", None, 1)
    assert generation.result.text == "ab"


def test_pieces_say_their_token() -> None:
    generation = stream(FakeModel(script=script("aé")), "Hi", options=GREEDY, stop=["é!"])
    pieces = list(generation)
    assert pieces == ["a", "", "", "é"] and all(isinstance(piece, Piece) for piece in pieces)
    assert [piece.id for piece in pieces] == [*script("aé"), None]
    assert {piece.logprob for piece in pieces} == {None}


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"repeat_penalty": 1.5, "top_k": 3, "seed": 2}])
def test_logprobs_are_the_models_own(model: FakeModel, options: dict[str, Any]) -> None:
    """Whatever is done to the logits before a token is drawn."""
    generation = stream(model, "Hi", logprobs=3, max_tokens=6, ignore_eos=True, **options)
    pieces = list(generation)
    assert generation.logprobs is not None and len(generation.logprobs) == 6
    history = list(generation.prompt_ids)
    for piece, id, found in zip(pieces[:6], generation.ids, generation.logprobs, strict=True):
        logits = model.next_logits(history).astype(np.float64)
        expected = logits - np.logaddexp.reduce(logits)
        assert (found.id, found.text) == (id, Spelling.token(id).decode("utf-8", "replace"))
        assert piece.logprob is found
        assert found.logprob == pytest.approx(expected[id], abs=1e-12)
        best = np.argsort(-expected, kind="stable")[:3].tolist()
        assert [top.id for top in found.top] == best
        assert [top.logprob for top in found.top] == pytest.approx(expected[best], abs=1e-12)
        history.append(id)
    told = json.loads(json.dumps(generation.result.to_json()))["logprobs"]
    assert set(told[0]) == {"id", "text", "logprob", "top"} and set(told[0]["top"][0]) == {
        "id",
        "text",
        "logprob",
    }


def test_logprobs_change_nothing(model: FakeModel) -> None:
    with_them = stream(model, "Hi", seed=5, logprobs=0, max_tokens=8).read()
    assert with_them.ids == stream(model, "Hi", seed=5, max_tokens=8).read().ids
    assert with_them.logprobs is not None and all(found.top == () for found in with_them.logprobs)
    assert isinstance(with_them.logprobs[0], TokenLogprob)


@pytest.mark.parametrize("count", [-1, VOCAB + 1, True, 1.0, "3", [3]])
def test_wrong_numbers_of_logprobs(model: FakeModel, count: Any) -> None:
    with pytest.raises(UsageError, match=f"logprobs is .*, a whole number from 0 to {VOCAB}"):
        stream(model, "Hi", logprobs=count)


def test_logits_that_are_no_numbers_have_no_logprobs(model: FakeModel) -> None:
    model.next_logits = lambda ids: np.full(VOCAB, np.nan, np.float32)  # type: ignore[method-assign]
    generation = stream(model, "Hi", options=GREEDY, logprobs=1)
    with pytest.raises(FormatError, match="not finite"):
        next(generation)


def test_a_generation_is_told_in_a_line() -> None:
    generation = stream(FakeModel(script=script("a\nb")), "Hi", options=GREEDY)
    assert repr(generation) == "<edgeq.Generation: 0 tokens, not at its end, ''>"
    generation.read()
    assert repr(generation) == r"<edgeq.Generation: 3 tokens, eos, 'a\nb'>"
    broken = stream(FakeModel(script=script("a")), "Hi", options=GREEDY)
    broken.close()
    assert repr(broken) == "<edgeq.Generation: 0 tokens, broken off, ''>"
