"""Whatever tokens come: an answer that ends is what was asked for, in every vocabulary at hand."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pytest

from edgeq.errors import GrammarError
from edgeq.sampling.masks import words
from edgeq.structured import mask_of, of_choice, of_grammar, of_regex, of_schema, vocabulary_of
from tests.structured.walks import SCHEMAS, value_of, walk

pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema says whether an answer is right")

# schemas that let other names come, and what they list themselves
LISTED = {"map": (), "free object": (), "all of": ("a", "b"), "older draft": ()}
WALKS = int(os.environ.get("EDGEQ_TEST_WALKS", 12))


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_a_schema_lets_through_is_valid(tokenizer: Any, name: str) -> None:
    form = of_schema(SCHEMAS[name])
    validator = jsonschema.Draft202012Validator
    if "draft-07" in SCHEMAS[name].get("$schema", "") or name == "arrays":
        validator = jsonschema.Draft7Validator
    check = validator(SCHEMAS[name], format_checker=validator.FORMAT_CHECKER)
    finished = 0
    for seed in range(WALKS):
        text = walk(mask_of(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids, form), tokenizer, seed)
        if text is not None:
            finished += 1
            check.validate(value_of(text, LISTED.get(name)))
    assert finished >= WALKS // 4


REGEXES = ["[a-z]{2,4}(-[0-9])?", "^(yes|no)$", "é+/[0-9]?", "(a|bc)*d", 'x"[^"\\n]{0,3}"', "a\\$"]


@pytest.mark.parametrize("pattern", REGEXES)
def test_what_a_regex_lets_through_matches(tokenizer: Any, pattern: str) -> None:
    form = of_regex(pattern)
    for seed in range(WALKS):
        text = walk(mask_of(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids, form), tokenizer, seed)
        assert text is None or re.fullmatch(pattern, text), text


def test_what_a_choice_lets_through_is_chosen(tokenizer: Any) -> None:
    texts = ["a", "ab", 'say "é"', "two\nlines", "0"]
    form = of_choice(texts)
    answers = {
        walk(mask_of(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids, form), tokenizer, seed)
        for seed in range(40)
    }
    assert answers <= set(texts) and len(answers) > 2


ARITHMETIC = """\
# a comment
root  ::= term ([-+*/] term)*   # and another
term  ::= digit+ | "(" root ")"
digit ::= [0-9]
"""


def test_what_a_grammar_lets_through_is_derived(tokenizer: Any) -> None:
    form = of_grammar(ARITHMETIC)
    finished = 0
    for seed in range(WALKS):
        text = walk(mask_of(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids, form), tokenizer, seed)
        if text is not None:
            finished += 1
            while (inner := re.sub(r"\(\d+([-+*/]\d+)*\)", "0", text)) != text:
                text = inner
            assert re.fullmatch(r"\d+([-+*/]\d+)*", text)
    assert finished


def test_a_token_that_was_not_allowed_is_refused(demo_tokenizer: Any) -> None:
    tokenizer = demo_tokenizer
    form = of_regex("[0-9]{3}")
    make = lambda: mask_of(tokenizer, demo_tokenizer.vocab_size, {2}, form)  # noqa: E731
    with pytest.raises(GrammarError, match="does not allow|cannot go on"):
        make().accept(tokenizer.continued("x")[0])
    with pytest.raises(GrammarError, match="before it was what the grammar asks for"):
        make().accept(2)
    mask = make()
    digit = tokenizer.id("7")
    for _ in range(3):
        assert not mask.complete
        mask.accept(digit)
    other = mask.copy()
    mask.accept(2)
    with pytest.raises(GrammarError, match="behind the end"):
        mask.accept(2)
    with pytest.raises(GrammarError):
        other.accept(digit)


def test_padding_of_a_vocabulary_and_control_tokens_never_come(demo_tokenizer: Any) -> None:
    tokenizer = demo_tokenizer
    rows = tokenizer.vocab_size + 70
    mask = mask_of(tokenizer, rows, tokenizer.eos_ids, of_regex("(?s:.)*"))
    bits = np.zeros(words(rows), np.uint32)
    mask.fill(bits)
    allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
    assert allowed.max() < tokenizer.vocab_size and len(allowed) > 300
    assert set(allowed) & set(tokenizer.reserved_ids) == set(tokenizer.eos_ids)


def test_grammars_are_compiled_once(demo_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = vocabulary_of(demo_tokenizer, demo_tokenizer.vocab_size, {2})
    compiled, count = vocabulary._compiled, list[str]()

    def counted(grammar: str, what: str) -> Any:
        count.append(grammar)
        return compiled(grammar, what)

    monkeypatch.setattr(vocabulary, "_compiled", counted)
    for n in range(70):
        vocabulary.matcher(of_choice([f"once {n}"]).text)
    for n in range(69, 5, -1):  # 64 of them are kept
        vocabulary.matcher(of_choice([f"once {n}"]).text)
    assert len(count) == 70
    vocabulary.matcher(of_choice(["once 5"]).text)
    assert len(count) == 71
