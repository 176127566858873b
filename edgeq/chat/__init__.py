"""Chat templates: messages to token ids, with the template's control tokens and never a message's.

The contract of `encode_chat`: a control or marker token (`<|im_end|>`, `<think>`) gets its id only where
every character of it was written by the template (its text, its string constants, the names of the bos, eos
and unk tokens) or is the name of a known role. The same characters in a message, a tool description or any
other variable are the tokens of plain text, however the template cuts, joins or changes them. Without such
characters in the messages, the ids are those of the rendered text tokenized as a whole.

The template is rendered once. The sandbox follows which characters are the template's own
(edgeq/chat/provenance.py), and the result is cut at the control tokens that consist of such. A template that
puts a control token through a filter behind which nobody can tell is refused by name.

Templates are programs of strangers: see edgeq/chat/sandbox.py and edgeq/chat/meter.py for what holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.chat.provenance import own_of, written
from edgeq.chat.sandbox import run
from edgeq.errors import UnsupportedError, UsageError
from edgeq.tokenizer import Tokenizer

__all__ = ["copied", "encode_chat", "messages_of", "render"]

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
    text, _ = run(template, _inputs(messages, variables, names, add_generation_prompt))
    return str.__str__(text)


def encode_chat(
    tokenizer: Tokenizer,
    template: str | None,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    add_bos: bool | None = None,
    **variables: Any,
) -> list[int]:
    """The token ids of messages: see the module's contract. Raises as `render`.

    continue_final_message: end with the last message's text, without what the template writes behind it, so
    that what follows goes on with it. add_bos: begin with the bos token where the template does not; None: as
    the tokenizer does with any text.
    """
    if not isinstance(template, str):
        raise UsageError("the model has no chat template, so it continues texts and cannot chat")
    names = _token_names(tokenizer)
    goes_on = add_generation_prompt and not continue_final_message
    text, forgotten = run(template, _inputs(messages, variables, names, goes_on))
    if continue_final_message:
        text = _unfinished(text, messages)
    for name, given in forgotten:
        if any(isinstance(part, int) for part in _parts(tokenizer, given)):
            raise UnsupportedError(
                f"the chat template puts a control token through {name!r}, and what comes out cannot be told "
                "from the text of a message"
            )
    return tokenizer.encode_parts(_parts(tokenizer, text), add_bos=add_bos)


def _unfinished(text: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """A rendered text up to the end of the last message's: what stands behind that is the template's own."""
    content = messages[-1].get("content") if messages else None
    if not isinstance(content, str) or not content.strip():
        raise UsageError("the last message has no text that could be continued")
    begun = text[: own_of(text).rfind(0) + 1]
    if not begun.endswith((content, content.strip())):
        raise UsageError(
            "the chat template does not write the last message's text, as it is, behind all others', so it "
            "cannot be continued"
        )
    return begun


def _parts(tokenizer: Tokenizer, text: str) -> list[str | int]:
    """A rendered text, cut at the control tokens that are the template's own."""
    own = own_of(text)
    return tokenizer.split(str.__str__(text), lambda start, end: 0 not in own[start:end])


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
) -> dict[str, Any]:
    """The variables of one rendering: copies, so that nothing of the caller's can be reached or changed."""
    listed = messages_of(messages)
    trusted = {key: written(name) for key, name in names.items()}
    copied = _Copy()
    inputs = {"messages": [copied.message(message) for message in listed], "tools": None, "documents": None}
    inputs |= {key: copied.value(value, 0) for key, value in variables.items()}
    return {**trusted, **inputs, "add_generation_prompt": bool(add_generation_prompt)}


def copied(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as plain data of their own, checked as `render` checks them."""
    copy = _Copy()
    return [copy.value(message, 0) for message in messages_of(messages)]


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
    """Copies of JSON values with limits on their size; known roles are as good as the template's own text."""

    def __init__(self) -> None:
        self.left = INPUT_CHARS_MAX

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        copied = self.value(message, 0)
        if copied["role"] in ROLES:
            copied["role"] = written(copied["role"])
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
