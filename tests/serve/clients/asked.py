"""What every client is made to ask, and how its answers are checked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import jsonschema  # type: ignore[import-untyped]

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"enum": ["Tom", "Lily"]}, "age": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CITIES: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "The weather in a city.", "parameters": CITIES}
TOOLS: list[Any] = [{"type": "function", "function": WEATHER}]

HI = "What is 2 plus 2?"
ANSWER = "The answer to this classic math problem is 4."  # greedily
HI_TURNS: list[Any] = [{"role": "user", "content": HI}]
WHO: list[Any] = [{"role": "user", "content": "Who is it? Tell a name and an age."}]
RAIN: list[Any] = [{"role": "user", "content": "Does it rain in Paris?"}]
LONG = "Tell me a very long story."
# the turns behind RAIN once a tool was called
CALLED: list[Any] = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "It rains."},
]
TEXTS = ["A cat sits on the mat.", "A kitten is on the rug.", "The budget was passed by parliament."]


def valid(answer: Any) -> None:
    """An answer, or its JSON text, is what SCHEMA asks for."""
    jsonschema.validate(json.loads(answer) if isinstance(answer, str) else answer, SCHEMA)


def called(name: str, arguments: Any) -> None:
    """A call is one of WEATHER."""
    assert name == "weather"
    jsonschema.validate(json.loads(arguments) if isinstance(arguments, str) else arguments, CITIES)


def alike(vectors: Iterable[Any]) -> None:
    """Of the vectors of TEXTS the first two are nearest."""
    import numpy as np

    found = np.asarray(list(vectors), np.float64)
    assert found.shape == (3, 384)
    near = found @ found.T
    assert near[0, 1] > near[0, 2] + 0.2 and near[0, 1] > near[1, 2] + 0.2
