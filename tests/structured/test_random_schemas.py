"""Schemas at random: what comes of one that is taken is valid, whatever is in it; any other is refused."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from edgeq.errors import GrammarError, UsageError
from edgeq.structured import mask_of, of_schema, vocabulary_of
from tests.structured.test_schema import LARGE
from tests.structured.walks import walk

pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema says whether an answer is right")

SCHEMAS = int(os.environ.get("EDGEQ_TEST_SCHEMAS", 60))
NAMES = ["a", "b", "ab", "é", 'q"', "not"]
CONSTANTS: list[Any] = [0, 1, -3, 2.5, "a", "ab", 'é"\n', True, None, [], [1, "a"], {}, {"a": 1}]
PATTERNS = ["^[a-c]{1,3}$", "b", "^a", "[0-9]$", "^(x|yz)*$"]


class Maker:
    """Schemas of a few keywords each."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def schema(self, depth: int = 0) -> dict[str, Any]:
        chance = self.chance
        makers = [self.number, self.text, self.constant, self.word]
        if depth < 3:
            makers += [self.object, self.object, self.list, self.several, self.reference]
        found = chance.choice(makers)(depth)
        if chance.random() < 0.15:
            found = {**self.text(depth), **found}
        if chance.random() < 0.1:
            found = {**found, "title": "not", "default": {"uniqueItems": True}}
        return found

    def some(self, **words: Any) -> dict[str, Any]:
        return {word: value for word, value in words.items() if self.chance.random() < 0.5}

    def number(self, depth: int) -> dict[str, Any]:
        low = self.chance.randint(-20, 20)
        more = self.some(
            minimum=low, maximum=low + self.chance.randint(0, 30), multipleOf=self.chance.choice([1, 3, 0.5])
        )
        return {"type": self.chance.choice(["integer", "number"]), **more}

    def text(self, depth: int) -> dict[str, Any]:
        least = self.chance.randint(0, 3)
        more = self.some(minLength=least, maxLength=least + self.chance.randint(0, 4))
        if self.chance.random() < 0.3:
            more["pattern"] = self.chance.choice(PATTERNS)
        elif self.chance.random() < 0.2:
            more = {"format": self.chance.choice(["date", "time", "ipv4", "uuid", "date-time"])}
        return {"type": "string", **more}

    def constant(self, depth: int) -> dict[str, Any]:
        if self.chance.random() < 0.5:
            return {"const": self.chance.choice(CONSTANTS)}
        return {"enum": self.chance.sample(CONSTANTS, 3)}

    def word(self, depth: int) -> dict[str, Any]:
        return self.chance.choice([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}])

    def object(self, depth: int) -> dict[str, Any]:
        names = self.chance.sample(NAMES, self.chance.randint(0, 3))
        found: dict[str, Any] = {
            "type": "object",
            "properties": {name: self.schema(depth + 1) for name in names},
        }
        found["required"] = [name for name in names if self.chance.random() < 0.5]
        more = self.some(maxProperties=3, minProperties=1, patternProperties={"^z": self.schema(depth + 1)})
        if self.chance.random() < 0.2:
            found |= more
        others = [False, False, False, self.schema(depth + 1), None]
        if (other := self.chance.choice(others)) is not None:
            found["additionalProperties"] = other
        return found

    def list(self, depth: int) -> dict[str, Any]:
        least = self.chance.randint(0, 2)
        more = self.some(minItems=least, maxItems=least + 2, items=self.schema(depth + 1))
        if self.chance.random() < 0.3:
            more["prefixItems"] = [self.schema(depth + 1) for _ in range(self.chance.randint(1, 2))]
        return {"type": "array", **more}

    def several(self, depth: int) -> dict[str, Any]:
        word = self.chance.choice(["anyOf", "anyOf", "oneOf", "allOf"])
        found: dict[str, Any] = {word: [self.schema(depth + 1) for _ in range(2)]}
        return found if self.chance.random() < 0.7 else {**found, **self.schema(depth + 1)}

    def reference(self, depth: int) -> dict[str, Any]:
        found = {"$ref": self.chance.choice(["#/$defs/one", "#/$defs/two"])}
        return found if self.chance.random() < 0.7 else {**found, **self.schema(depth + 1)}

    def whole(self) -> dict[str, Any]:
        return {**self.schema(), "$defs": {"one": self.schema(2), "two": self.schema(1)}}


def loops(check: Any, value: Any) -> bool:
    """Whether jsonschema never comes to an end, which it does not where references lead in a circle."""
    try:
        check.is_valid(value)
    except RecursionError:
        return True
    return False


def test_what_is_let_through_is_valid(demo_tokenizer: Any) -> None:
    taken = answers = 0
    for seed in range(SCHEMAS):
        schema = Maker(seed).whole()
        check = jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
        try:
            form = of_schema(schema)
            masks = [mask_of(demo_tokenizer, demo_tokenizer.vocab_size, {2}, form) for _ in range(4)]
        except UsageError as error:
            assert str(error).isprintable()
            continue
        taken += 1
        for n, mask in enumerate(masks):
            try:
                text = walk(mask, demo_tokenizer, 100 * seed + n, 120)
            except GrammarError:  # it came to where nothing can follow
                continue
            if text is not None:
                answers += 1
                found = json.loads(text)
                if loops(check, found):
                    continue
                assert check.is_valid(found), (
                    json.dumps(schema),
                    text,
                    [e.message for e in check.iter_errors(found)],
                )
    assert taken > SCHEMAS // 4 and answers > SCHEMAS // 4


@pytest.mark.parametrize("name", LARGE)
def test_answers_of_large_schemas_go_on_or_end_with_an_error(name: str, demo_tokenizer: Any) -> None:
    vocabulary = vocabulary_of(demo_tokenizer, demo_tokenizer.vocab_size, {2})
    try:
        mask = mask_of(demo_tokenizer, demo_tokenizer.vocab_size, {2}, of_schema(LARGE[name]))
        walk(mask, demo_tokenizer, 0, 60)
    except (UsageError, GrammarError) as error:
        assert str(error).isprintable()
    assert not vocabulary.matcher(of_schema({"type": "null"}).text).is_error()
