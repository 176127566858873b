"""Models of each family in miniature: a vocabulary of bytes, with the tags of the family as tokens or as
text, and a template that has what the family's have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from edgeq.tokenizer.base import Spec, Tokenizer
from tests.structured.conftest import demo_model, demo_path  # noqa: F401  (fixtures)

END = 256

TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
TEMPLATES = {  # family -> template, tags
    "hermes": (
        "{% if tools %}{{ tools | tojson }} within <tool_call></tool_call>{% endif %}" + TURNS,
        ("<tool_call>", "</tool_call>"),
    ),
    "functions": (
        "{% if tools %}{{ tools | tojson }} <tool_call> <function=a> <parameter=b> </tool_call>{% endif %}"
        + TURNS,
        ("<tool_call>", "</tool_call>"),
    ),
    "llama3": (
        '{% if tools %}{{ tools | tojson }} {"name": …, "parameters": …}{% endif %}<|start_header_id|>'
        + TURNS,
        (),
    ),
    "mistral": ("{{ tools | tojson }}{# [TOOL_CALLS] [ARGS] #}" + TURNS, ("[TOOL_CALLS]", "[ARGS]")),
    "mistral-lists": ("{{ tools | tojson }}{# [TOOL_CALLS] #}" + TURNS, ("[TOOL_CALLS]",)),
    "gemma4": (
        "{{ tools | tojson }}{# <|tool_call> <tool_call|> #}" + TURNS,
        ("<|tool_call>", "<tool_call|>", '<|"|>'),
    ),
    "functiongemma": (
        "{{ tools | tojson }}{# <start_function_call> #}" + TURNS,
        ("<start_function_call>", "<end_function_call>", "<escape>"),
    ),
    "generic": ("{{ tools | tojson }}" + TURNS, ()),
}
THOUGHTS = "{# <think> </think> #}"


class Bytes(Tokenizer):
    """Bytes are tokens, 256 ends a text, and the tags come behind."""

    def __init__(self, tags: tuple[str, ...] = ()) -> None:
        self._tags = ("<end>", *tags)
        ids = tuple(range(END, END + len(self._tags)))
        super().__init__(Spec("bytes", 256 + len(self._tags), eos=(END,), control=(END,), markers=ids[1:]))

    def _plain(self, text: str, first: bool) -> list[int]:
        return list(text.encode())

    def spelling(self, id: int) -> str:
        return self._tags[id - END] if id >= END else chr(id)

    def _bytes(self, id: int) -> bytes:
        return bytes([id])

    def id(self, token: str) -> int | None:
        return END + self._tags.index(token) if token in self._tags else None


def model_of(family: str, *, tokens: bool = True, thinks: bool = False, template: str | None = None) -> Any:
    """A model of a family, whose tags are tokens or text."""
    text, tags = TEMPLATES[family]
    if thinks:
        text, tags = THOUGHTS + text, (*tags, "<think>", "</think>")
    tokenizer = Bytes(tags if tokens else ())
    return SimpleNamespace(
        tokenizer=tokenizer,
        vocab_size=tokenizer.vocab_size,
        chat_template=text if template is None else template,
        file=SimpleNamespace(header={}),
    )
