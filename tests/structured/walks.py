"""Random answers: at each place one of the tokens that a mask allows."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from typing import Any

import numpy as np

from edgeq.sampling.masks import words
from edgeq.structured import GrammarMask

ENDS_WITH = ('"', '",', '"}', '"]', "}", "]", "}}", "}]", ",", "0", "1", '": ', ":", "a", "é", " ", "\n")

SHORT: dict[int, Any] = {}  # by vocabulary

SCHEMAS: dict[str, Any] = {
    "flat": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "member": {"type": "boolean"},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "formats": {
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "id": {"type": "string", "format": "uuid"},
            "from": {"type": "string", "format": "ipv4"},
        },
        "required": ["when", "day", "id", "from"],
        "additionalProperties": False,
    },
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "left": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
                    "right": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
                },
                "required": ["value", "left", "right"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "arrays": {
        "type": "object",
        "properties": {
            "pair": {"type": "array", "items": [{"type": "string", "maxLength": 3}, {"type": "number"}]},
            "tags": {"type": "array", "items": {"enum": ["a", "b", "ç"]}, "minItems": 1, "maxItems": 4},
        },
        "required": ["tags"],
        "additionalProperties": False,
    },
    "one of": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "circle"}, "r": {"type": "number", "exclusiveMinimum": 0}},
                "required": ["kind", "r"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"kind": {"const": "square"}, "side": {"type": "integer", "multipleOf": 5}},
                "required": ["kind", "side"],
                "additionalProperties": False,
            },
        ]
    },
    "constants": {"oneOf": [{"const": 1}, {"const": "1"}, {"const": None}, {"const": {"a": [True, 'x"é']}}]},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,4}$"},
    "map": {
        "type": "object",
        "patternProperties": {"^x_[a-z]{1,3}$": {"type": "integer"}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 3,
    },
    "free object": {"type": "object", "maxProperties": 2},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
            {"properties": {"a": {"maximum": 9}, "b": {"type": "string", "maxLength": 2}}},
        ],
    },
    "odd names": {
        "type": "object",
        "properties": {'a"b': {"type": "null"}, "é/~": {"type": "boolean"}, "not": {"enum": [1, 2.5]}},
        "required": ['a"b', "é/~", "not"],
        "additionalProperties": False,
    },
    "older draft": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"n": {"type": "number", "minimum": 0, "maximum": 1}},
        "type": "array",
        "items": {"$ref": "#/definitions/n"},
        "minItems": 1,
        "maxItems": 3,
    },
}


def short_of(tokenizer: Any, vocab: int) -> Any:
    """Which tokens are among those that end things, a bool each."""
    known = {word.encode() for word in ENDS_WITH}
    return np.array([id < tokenizer.vocab_size and tokenizer.token(id) in known for id in range(vocab)])


def walk(mask: GrammarMask, tokenizer: Any, seed: int, most: int = 300) -> str | None:
    """An answer of random tokens that the grammar allows; None where it was not whole in time."""
    chance, vocabulary = random.Random(seed), mask._vocabulary
    vocab, ends = vocabulary.vocab_size, sorted(vocabulary.ends)
    key = id(vocabulary)
    short = SHORT[key] if key in SHORT else SHORT.setdefault(key, short_of(tokenizer, vocab))
    ids: list[int] = []
    bits = np.zeros(words(vocab), np.uint32)
    for _ in range(most):
        assert mask.fill(bits)
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[:vocab].astype(bool)
        may_end = bool(allowed[ends].any())
        assert may_end == mask.complete
        allowed[ends] = False
        others = np.flatnonzero(allowed)
        if may_end and (not len(others) or chance.random() < 0.3):
            mask.accept(ends[0])
            return b"".join(map(tokenizer.token, ids)).decode()
        near = np.flatnonzero(allowed & short)
        token = int(chance.choice(near if len(near) and chance.random() < 0.6 else others))
        mask.accept(token)
        ids.append(token)
    return None


def value_of(text: str, listed: Collection[str] | None = None) -> Any:
    """The JSON of an answer, in which no name that its schema lists stands twice. listed: those, where others
    may come."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs if listed is None or name in listed]
        assert len(set(names)) == len(names), pairs
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)
