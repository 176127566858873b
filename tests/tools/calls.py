"""Tools, calls of them as each family writes them, and random answers."""

from __future__ import annotations

import json
from typing import Any

from tests.structured.walks import walk

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How the weather is",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
                "unit": {"enum": ["C", "F"]},
                "at": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
                "more": {
                    "anyOf": [
                        {"type": "null"},
                        {"type": "object", "properties": {"wind": {"type": "boolean"}}},
                    ]
                },
            },
            "required": ["city"],
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
ODD = {"name": 'grüße "alle"', "parameters": {"type": "object", "properties": {"größe": {"type": "string"}}}}
TOOLS: list[dict[str, Any]] = [WEATHER, NOW, ODD]
CITY = 'São "Paulo"\n\\ 漢字 🙂'


def tagged(family: str, *calls: tuple[str, str, str]) -> str:
    """Calls as a family writes them, each given as (name, arguments as JSON, arguments in its own
    notation)."""
    quoted = [json.dumps(name, ensure_ascii=False) for name, _, _ in calls]
    objects = [
        f'{{"name": {name}, "arguments": {args}}}' for name, (_, args, _) in zip(quoted, calls, strict=True)
    ]
    if family == "hermes":
        return "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in objects)
    if family == "functions":
        return "\n".join(
            f"<tool_call>\n<function={name}>\n{own}</function>\n</tool_call>" for name, _, own in calls
        )
    if family == "llama3":
        return "; ".join(each.replace('"arguments": ', '"parameters": ') for each in objects)
    if family == "mistral":
        return "".join(f"[TOOL_CALLS]{name}[ARGS]{args}" for name, args, _ in calls)
    if family == "mistral-lists":
        return f"[TOOL_CALLS][{', '.join(objects)}]"
    if family == "gemma4":
        return "".join(f"<|tool_call>call:{name}{{{own}}}<tool_call|>" for name, _, own in calls)
    if family == "functiongemma":
        return "".join(
            f"<start_function_call>call:{name}{{{own}}}<end_function_call>" for name, _, own in calls
        ).replace('<|"|>', "<escape>")
    return "\n".join(objects)


def weather(family: str, city: str, **more: Any) -> tuple[str, str, str]:
    """A call of the weather."""
    args = {"city": city, **more}
    if family == "functions":
        own = "".join(
            f"<parameter={key}>\n{value if isinstance(value, str) else json.dumps(value)}\n</parameter>\n"
            for key, value in args.items()
        )
    else:
        own = ",".join(
            f'{key}:<|"|>{value}<|"|>'
            if isinstance(value, str)
            else f"{key}:{json.dumps(value)}".replace(", ", ",")
            for key, value in sorted(args.items())
        )
    return "weather", json.dumps(args, ensure_ascii=False), own


def walked(mask: Any, tokenizer: Any, seed: int, most: int = 500) -> list[int]:
    """The tokens of a random answer."""
    taken: list[int] = []
    accept = mask.accept

    def kept(id: int) -> None:
        accept(id)
        if id != 256:
            taken.append(id)

    mask.accept = kept
    walk(mask, tokenizer, seed, most)
    return taken
