"""Generations together and generations with guesses, on a real model: each says what it says alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.errors import UsageError
from edgeq.speculate import Drafting

STORY = "Once upon a time, there was a little girl named Lily. She liked to play. Once upon a time, there"
PROMPTS = [STORY, "One day", "The dog", STORY[:40], "A cat sat on the mat. A cat"]


@pytest.fixture
def model(demo_file: Callable[[str], Path]) -> Iterator[engine.Model]:
    with engine.load(demo_file("q4"), threads=1, context=256) as model:
        yield model


def options_of(n: int) -> dict[str, Any]:
    return {
        "max_tokens": 24,
        "seed": n,
        "temperature": (0.0, 0.9)[n % 2],
        "repeat_penalty": (1.0, 1.2)[n // 2 % 2],
        "logprobs": 2,
    }


def said(result: Any) -> tuple[Any, ...]:
    return result.text, result.ids, result.logprobs, result.finish_reason, result.usage.total_tokens


@pytest.mark.parametrize("draft", [None, "prompt"])
def test_together_each_says_what_it_says_alone(model: engine.Model, draft: Any) -> None:
    alone = [said(model.generate(prompt, **options_of(n)).read()) for n, prompt in enumerate(PROMPTS)]
    with model.batch(parallel=3, draft=draft) as batch:
        every = [batch.add(prompt, **options_of(n)) for n, prompt in enumerate(PROMPTS)]
        several = batch.add_several(PROMPTS[1], 2, **options_of(1))
        batch.run()
    assert [said(each.result) for each in every] == alone
    assert said(several[0].result) == alone[1]
    assert said(several[1].result) == said(model.generate(PROMPTS[1], **{**options_of(1), "seed": 2}).read())


def test_many_at_once(model: engine.Model) -> None:
    results = model.generate_many(PROMPTS, max_tokens=8, temperature=0.0)
    assert [each.ids for each in results] == [
        model.generate(prompt, max_tokens=8, temperature=0.0).read().ids for prompt in PROMPTS
    ]
    with pytest.raises(UsageError, match="the batch was closed"):
        batch = model.batch()
        batch.close()
        batch.add("One")


@pytest.mark.parametrize("kind", ["prompt", "itself", "other", "path"])
@pytest.mark.parametrize("n", range(4))
def test_guesses_change_nothing(
    model: engine.Model, demo_file: Callable[[str], Path], kind: str, n: int
) -> None:
    expected = said(model.generate(STORY, **options_of(n)).read())
    other = engine.load(demo_file("q8"), threads=1, context=128)
    draft = {"prompt": "prompt", "itself": model, "other": other, "path": demo_file("q8")}[kind]
    with (
        other,
        model.generate(STORY, draft=Drafting(draft, most=6, p_min=0.0), **options_of(n)) as generation,
    ):
        assert said(generation.read()) == expected
    times = generation.timings
    assert times.decode_passes + times.accepted_tokens == len(generation.ids) - 1


def test_a_sequence_goes_on_behind_guesses_as_without(model: engine.Model) -> None:
    sequences = [model.sequence(), model.sequence()]
    for sequence, draft in zip(sequences, (None, Drafting(model, p_min=0.0)), strict=True):
        model.generate(STORY, sequence=sequence, draft=draft, max_tokens=20, temperature=0.0).read()
    plain, guessed = (sequence.ids for sequence in sequences)
    assert plain == guessed
    assert np.array_equal(sequences[0].feed([5, 6, 7]), sequences[1].feed([5, 6, 7]))


def test_a_conversation_with_guesses(model: engine.Model) -> None:
    template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}Once upon a time"
    options: dict[str, Any] = {"chat_template": template, "temperature": 0.0, "max_tokens": 20}
    with model.conversation(**options) as plain, model.conversation(draft=model, **options) as guessed:
        for question in ("Tell me of a cat.", "Once upon a time there was a cat."):
            assert guessed.ask(question).read().text == plain.ask(question).read().text
