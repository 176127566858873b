"""The seam to structured output: what a request says of the form of its answer, as a mask and a parser.

Whoever adds grammars, schemas or a family's syntax of tools does it in `structure_of`: every dialect comes
through it with the same words, and `Choice` hands each text to the parser that is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from edgeq.chat.thoughts import Thoughts, begun
from edgeq.generate import Mask
from edgeq.serve.errors import ApiError, unsupported, wrong

CONTENT, REASONING = "content", "reasoning"


class Delta(NamedTuple):
    """A part of an answer: text of it, or of the thoughts before it."""

    kind: str
    text: str


class Parser(Protocol):
    """Takes the text of an answer apart, however it is cut into pieces."""

    def push(self, text: str) -> list[Delta]: ...
    def flush(self) -> list[Delta]: ...


@dataclass(frozen=True)
class Structure:
    """The form of an answer. Each text has a mask and a parser of its own; no mask lets every token come."""

    parser: Callable[[], Parser]
    mask: Callable[[], Mask] | None = None


class Thinking:
    """Tells thoughts from the answer."""

    def __init__(self, ends: str | None) -> None:
        self._thoughts = Thoughts(ends)
        self._answered = False

    def push(self, text: str) -> list[Delta]:
        return self._deltas(self._thoughts.push(text))

    def flush(self) -> list[Delta]:
        return self._deltas(self._thoughts.flush())

    def _deltas(self, parts: Any) -> list[Delta]:
        deltas = []
        was_thinking = False
        for part in parts:
            text = part.text
            if part.is_thought:
                was_thinking = True
            elif not self._answered and (was_thinking or self._thought):
                text = text.lstrip("\n")  # that stand between thoughts and answer
            if text:
                self._answered |= not part.is_thought
                self._thought |= part.is_thought
                deltas.append(Delta(REASONING if part.is_thought else CONTENT, text))
        return deltas

    _thought = False


class Plain:
    """All of it is the answer."""

    def push(self, text: str) -> list[Delta]:
        return [Delta(CONTENT, text)] if text else []

    def flush(self) -> list[Delta]:
        return []


def structure_of(
    prompt_end: str | None,
    *,
    response_format: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    parallel_tool_calls: bool | None = None,
    grammar: Mapping[str, Any] | None = None,
) -> Structure:
    """What an answer has to look like. prompt_end: the end of a chat's prompt, which may begin thoughts; None
    for a text that is continued. ApiError for what cannot be honoured: never is an answer left free that was
    to be bound."""
    if response_format is not None:
        kind = response_format.get("type")
        if kind not in ("text", "json_object", "json_schema"):
            raise wrong(
                "response_format.type",
                f"response_format.type is {str(kind)[:40]!r}, but must be text, json_object or json_schema",
            )
        if kind != "text":
            raise _not_yet("response_format")
    if grammar:
        raise _not_yet(next(iter(grammar)))
    if tools and tool_choice != "none":
        raise _not_yet("tools")
    if tool_choice not in (None, "none", "auto") and not tools:
        raise wrong("tool_choice", "tool_choice is given, but there are no tools to choose from")
    if parallel_tool_calls is not None and not tools:
        raise unsupported("parallel_tool_calls", "there are no tools")
    if prompt_end is None:
        return Structure(Plain)
    return Structure(lambda: Thinking(begun(prompt_end)))


def _not_yet(param: str) -> ApiError:
    return ApiError(501, f"{param} is not supported yet", code="unsupported_parameter", param=param)
