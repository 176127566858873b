"""Generations that are held to a grammar: alone, with guesses, many together, and what they refuse."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeq.cli import cli
from edgeq.converters import KEEP, convert
from edgeq.errors import GrammarError, UnsupportedError, UsageError
from edgeq.structured import mask_of, of_regex
from tests.real import fetch
from tests.structured.walks import SCHEMAS, value_of

pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema says whether an answer is right")

FLAT = SCHEMAS["flat"]


@pytest.fixture(scope="module")
def smollm2_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real chat model."""
    if not fetch.path().exists():
        pytest.skip(f"there is no {fetch.path()}; python -m tests.real.fetch fetches it")
    path = tmp_path_factory.mktemp("grammar") / "smollm2.edgeq"
    convert(fetch.path(), path, scheme=KEEP)
    return path


@pytest.mark.parametrize("seed", range(6))
def test_a_storyteller_writes_json(demo_model: Any, seed: int) -> None:
    result = demo_model.generate("Once upon a time", schema=FLAT, seed=seed, max_tokens=200).read()
    assert result.finish_reason == "eos"
    jsonschema.validate(value_of(result.text), FLAT)


def test_guesses_change_nothing(demo_model: Any) -> None:
    for options in (dict(schema=FLAT), dict(regex="([a-z]{2,6} ){3}"), dict(choice=["yes", "yesterday"])):
        for seed in range(3):
            told = dict(seed=seed, max_tokens=120, **options)
            plain = demo_model.generate('{"name": "Tim", "age": 1}', **told).read()
            guessed = demo_model.generate('{"name": "Tim", "age": 1}', draft="prompt", **told).read()
            assert (guessed.ids, guessed.finish_reason) == (plain.ids, plain.finish_reason)


def test_many_together_are_each_held(demo_model: Any) -> None:
    prompts = ["Once", "Lily", "Tom had a dog"]
    together = demo_model.generate_many(
        prompts, regex="[A-Z][a-z]{1,5}( [a-z]{1,4}){2}", seed=4, max_tokens=60
    )
    for prompt, result in zip(prompts, together, strict=True):
        alone = demo_model.generate(
            prompt, regex="[A-Z][a-z]{1,5}( [a-z]{1,4}){2}", seed=4, max_tokens=60
        ).read()
        assert result.ids == alone.ids and re.fullmatch("[A-Z][a-z]{1,5}( [a-z]{1,4}){2}", result.text)
    with demo_model.batch() as batch:
        several = batch.add_several("Once", 3, choice=["a dog", "a cat", "a bird"], seed=1)
        assert {each.read().text for each in several} <= {"a dog", "a cat", "a bird"}


def test_greedy_and_every_sampler_are_held(demo_model: Any) -> None:
    for options in (
        dict(temperature=0),
        dict(mirostat=2),
        dict(top_k=1),
        dict(repeat_penalty=1.5),
        dict(xtc_probability=1.0, xtc_threshold=0.0),
        dict(logit_bias={ord("x"): 5.0}),
    ):
        text = demo_model.generate("Once", regex="(yes|no)!?", max_tokens=20, **options).read().text
        assert re.fullmatch("(yes|no)!?", text)


def test_an_answer_that_is_cut_says_so(demo_model: Any) -> None:
    result = demo_model.generate("Once", schema=FLAT, max_tokens=5).read()
    assert result.finish_reason == "length" and len(result.ids) == 5


def test_logprobs_are_those_of_the_model(demo_model: Any) -> None:
    result = demo_model.generate("Once", regex="[xq]{4}", logprobs=2, max_tokens=9, seed=1).read()
    assert len(result.logprobs) == len(result.ids)
    assert any(each.id not in [top.id for top in each.top] for each in result.logprobs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(schema=FLAT, regex="a"), "schema and regex are given"),
        (dict(schema=FLAT, stop="x"), "stop is given, but the schema says where"),
        (dict(choice=["a"], ignore_eos=True), "ignore_eos is given"),
        (dict(grammar=7), "must be a text"),
        (dict(schema={"not": {}}), "not at / cannot be honoured"),
        (dict(schema="{"), "no JSON"),
    ],
)
def test_what_does_not_go_together_is_refused(demo_model: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        demo_model.generate("Once", **options)
    with pytest.raises(UsageError, match="mask is given besides"):
        demo_model.generate("Once", mask=object(), regex="a")


def test_a_stop_string_does_not_cut_what_is_held_to_a_grammar(demo_model: Any) -> None:
    """A mask of the caller's own goes with stop strings, but no half of an answer passes for a whole one."""
    make = lambda pattern: mask_of(  # noqa: E731
        demo_model.tokenizer, demo_model.vocab_size, demo_model.tokenizer.eos_ids, of_regex(pattern)
    )
    generation = demo_model.generate("Once", mask=make("abcd"), stop="c", max_tokens=9)
    with pytest.raises(GrammarError, match="stop string 'c' came before"):
        generation.read()
    assert generation.finish_reason is None
    assert (
        demo_model.generate("Once", mask=make("(ab)+"), stop="b", max_tokens=9).read().finish_reason == "stop"
    )


def test_without_the_library_it_is_named(demo_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UsageError, match=r"pip install 'edgeq\[grammar\]'"):
        demo_model.generate("Once", regex="a")


def test_a_model_without_an_end_is_refused(demo_model: Any) -> None:
    with pytest.raises(UnsupportedError, match="no token that ends a text"):
        mask_of(demo_model.tokenizer, demo_model.vocab_size, (), of_regex("a"))


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"type": "string", "maxLength": 30},
        "hobbies": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3},
    },
    "required": ["name", "age", "city", "hobbies"],
    "additionalProperties": False,
}


PEOPLE = [
    "Ada",
    "Émile",
    "李小龙",
    "O'Brien",
    'the "Boss"',
    "a cat",
    "nobody",
    "\n",
    "}",
    "42",
    "<|im_end|>",
    "\\",
]


@pytest.mark.parametrize("name", PEOPLE)
def test_a_real_model_answers_in_json(
    smollm2_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(smollm2_path), "--no-escape", "-p", f"Describe {name} as JSON:", "-q", "-n", "300"]
    cli.main([*words, "--json-schema", json.dumps(PERSON), "--temp", "0.7", "-s", "3"], standalone_mode=False)
    jsonschema.validate(value_of(capsys.readouterr().out), PERSON)
