"""Chat templates: messages to token ids, with the template's control tokens and never a message's.

The contract of `encode_chat`: a control or marker token (`<|im_end|>`, `<think>`) gets its id only where
every character of it was written by the template (its text, its string constants, the names of the bos, eos
and unk tokens) or is the name of a known role. The same characters in a message, a tool description or any
other variable are the tokens of plain text. Without such characters in the messages, the ids are those of
the rendered text tokenized as a whole. How it is done:

1. The template is rendered as it is: text A.
2. It is rendered again with the template's own characters marked (edgeq/chat/marks.py). Without its marks
   that is A again, unless the template computed with its own marked text (took its length, compared it); then
   3b applies.
3a. A is cut at control tokens all of whose characters are marked; the rest is tokenized as plain text.
3b. A is cut at control tokens that occur nowhere in the messages and other variables, letter case ignored. So
    a control token that somebody wrote in a message is plain text everywhere; the others keep their meaning.

Templates are programs of strangers: see edgeq/chat/sandbox.py and edgeq/chat/meter.py for what holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeq.chat.marks import Literal, read_marks
from edgeq.chat.sandbox import run
from edgeq.errors import UsageError
from edgeq.tokenizer import Tokenizer

__all__ = ["encode_chat", "render"]

MESSAGES_MAX = 10_000
INPUT_CHARS_MAX = 4 << 20
DEPTH_MAX = 32
ROLES = frozenset(["system", "user", "assistant", "tool", "function", "developer", "ipython", "model"])


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
    **variables: Any,
) -> str:
    """The text that a chat template makes of messages ({"role": …, "content": …}).

    variables: whatever else the template knows (tools, documents, enable_thinking …), JSON values. Raises
    UnsupportedError for a template that fails or breaks a limit, UsageError for messages that are no JSON
    values or that the template refuses.
    """
    names = {"bos_token": bos_token, "eos_token": eos_token}
    return run(template, _inputs(messages, variables, names, add_generation_prompt, False), False)


def encode_chat(
    tokenizer: Tokenizer,
    template: str | None,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    add_bos: bool | None = None,
    **variables: Any,
) -> list[int]:
    """The token ids of messages: see the module's contract. Raises as `render`.

    add_bos: begin with the bos token where the template does not; None: as the tokenizer does with any text.
    """
    if not isinstance(template, str):
        raise UsageError("the model has no chat template, so it continues texts and cannot chat")
    names = _token_names(tokenizer)

    def rendered(marking: bool) -> str:
        return run(template, _inputs(messages, variables, names, add_generation_prompt, marking), marking)

    text = rendered(False)
    if not _holds_reserved(tokenizer, text):
        return tokenizer.encode_parts([text] if text else [], add_bos=add_bos)
    written, mask = read_marks(rendered(True))
    if written == text:

        def trusted(start: int, end: int) -> bool:
            return all(mask[i] or text[i].isspace() for i in range(start, end))
    else:
        foreign = "\0".join(_strings([messages_of(messages), variables])).casefold()

        def trusted(start: int, end: int) -> bool:
            return text[start:end].casefold() not in foreign

    return tokenizer.encode_parts(tokenizer.split(text, trusted), add_bos=add_bos)


def _holds_reserved(tokenizer: Tokenizer, text: str) -> bool:
    return any(isinstance(part, int) for part in tokenizer.split(text))


def _token_names(tokenizer: Tokenizer) -> dict[str, str]:
    """The variables of a template that name special tokens."""
    ids = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id, "unk_token": tokenizer.unknown_id}
    return {name: tokenizer.spelling(id) if id is not None else "" for name, id in ids.items()}


# messages -----------------------------------------------------------------------------------------------


def _inputs(
    messages: Sequence[Mapping[str, Any]],
    variables: dict[str, Any],
    names: dict[str, str],
    add_generation_prompt: bool,
    marking: bool,
) -> dict[str, Any]:
    """The variables of one rendering: copies, so that nothing of the caller's can be reached or changed."""
    listed = messages_of(messages)
    trusted = {key: Literal(name) if marking else name for key, name in names.items()}
    copied = _Copy(marking)
    inputs = {"messages": [copied.message(message) for message in listed], "tools": None, "documents": None}
    inputs |= {key: copied.value(value, 0) for key, value in variables.items()}
    return {**trusted, **inputs, "add_generation_prompt": bool(add_generation_prompt)}


def messages_of(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages as a list, checked to be messages at all."""
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise UsageError(f"messages is a {type(messages).__name__} where a list of messages is expected")
    if len(messages) > MESSAGES_MAX:
        raise UsageError(f"there are {len(messages)} messages where {MESSAGES_MAX} are allowed")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(f'message {index} is not an object with a "role"')
    return list(messages)


class _Copy:
    """Copies of JSON values with limits on their size; known roles become literals when marking."""

    def __init__(self, marking: bool) -> None:
        self.marking = marking
        self.left = INPUT_CHARS_MAX

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        copied = self.value(message, 0)
        if self.marking and copied["role"] in ROLES:
            copied["role"] = Literal(copied["role"])
        return copied

    def value(self, value: Any, depth: int) -> Any:
        self.left -= len(value) if isinstance(value, str) else 1
        if self.left < 0 or depth > DEPTH_MAX:
            raise UsageError(
                f"the messages hold more than {INPUT_CHARS_MAX} characters or are nested too deeply"
            )
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
                raise UsageError("a message holds a lone surrogate, which no UTF-8 text can hold")
            return str.__str__(value) if type(value) is str else "".join(value)
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            if abs(value) >= 1 << 64:
                raise UsageError("a message holds an integer of more than 64 bits")
            return int(value)
        if isinstance(value, Mapping):
            return {self.value(str(key), depth): self.value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in value]
        raise UsageError(f"a message holds a {type(value).__name__}, but only JSON values are allowed")


def _strings(value: Any) -> Iterator[str]:
    """Every text inside JSON values, known roles of messages left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            if not (key == "role" and isinstance(item, str) and item in ROLES):
                yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
