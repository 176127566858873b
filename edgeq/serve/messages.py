"""Messages as clients send them, made into those that chat templates know, and into token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from edgeq import chat
from edgeq.chat.prompt import check_tools, words_of
from edgeq.errors import EdgeqError, UsageError
from edgeq.serve import fields
from edgeq.serve.errors import ApiError, unsupported, wrong
from edgeq.serve.served import Served, template_error

ROLES = {"developer": "system", "function": "tool"}


class Message(Struct, kw_only=True):
    """A message as it is handed to the template; its other fields go there unread."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


def messages_of(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as templates know them: content is one text, roles are the three and `tool`."""
    return [_message(n, message) for n, message in enumerate(given)]


def _message(n: int, given: Mapping[str, Any]) -> dict[str, Any]:
    where = f"messages[{n}]"
    try:
        read = fields.read(Message, given)
    except ApiError as error:
        param = f"{where}.{error.param}" if error.param else where
        raise wrong(param, f"{where}.{error.message}") from None
    role = ROLES.get(read.role, read.role)
    if role not in ("system", "user", "assistant", "tool"):
        raise wrong(
            f"{where}.role",
            f"{where}.role is {read.role[:40]!r}, but must be system, developer, user, assistant or tool",
        )
    speaks = read.tool_calls is not None or bool(given.get("reasoning_content"))
    if read.content is None and not (role == "assistant" and speaks):
        raise wrong(f"{where}.content", f"{where}.content is missing")
    found = {name: value for name, value in given.items() if value is not None}
    content = read.content
    if isinstance(content, list):
        content = "".join(_part(f"{where}.content[{i}]", part) for i, part in enumerate(content))
    found |= {"role": role, "content": content if content is not None else ""}
    for name in ("images", "audio"):
        if found.pop(name, None):
            raise unsupported(f"{where}.{name}", "the model reads text")
    if read.tool_calls is not None:
        found["tool_calls"] = [_call(call) for call in read.tool_calls]
    return found


def _part(where: str, part: Mapping[str, Any]) -> str:
    kind, text = part.get("type", "text"), part.get("text")
    if kind not in ("text", "input_text", "output_text", "refusal"):
        raise unsupported(where, f"a part of type {str(kind)[:40]!r} is no text, and the model reads text")
    text = part.get("refusal") if kind == "refusal" else text
    if not isinstance(text, str):
        raise wrong(f"{where}.text", f"{where}.text is missing, or is no text")
    return text


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool that was called, its arguments an object where they are JSON, else the text that they are."""
    function = call.get("function")
    if not isinstance(function, Mapping):
        return dict(call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            decoded = msgspec.json.decode(arguments)
        except msgspec.DecodeError:
            decoded = arguments
        arguments = decoded if isinstance(decoded, dict) else arguments
    return {**call, "function": {**function, "arguments": arguments}}


def words_for(
    *,
    effort: object = None,
    think: bool | str | None = None,
    enable_thinking: bool | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the template is told besides the messages: whether and how hard to think, in each of the words
    that templates ask for."""
    words: dict[str, Any] = {}
    thinks = enable_thinking
    if thinks is None and think is not None:
        thinks = think is not False
    if isinstance(think, str):
        effort = effort or think
    if isinstance(effort, str):
        words["reasoning_effort"] = effort
        thinks = effort != "none" if thinks is None else thinks
    if thinks is not None:
        words |= {"enable_thinking": thinks, "thinking": thinks}
    try:
        return words | words_of(more)
    except UsageError as error:
        raise wrong("chat_template_kwargs", str(error)) from None


def chat_prompt(
    served: Served,
    messages: list[dict[str, Any]],
    words: dict[str, Any],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    goes_on: bool = True,
    unfinished: bool = False,
) -> list[int]:
    """The ids of a conversation. goes_on: with the beginning of an answer. unfinished: the last message is
    that beginning. ApiError for what the template does not take."""
    template = served.chat_template
    if tools:
        try:
            check_tools(tools, template)
        except UsageError as error:
            raise wrong("tools", str(error)) from None
        words = {**words, "tools": list(tools)}
    try:
        return chat.encode_chat(
            served.tokenizer,
            template,
            messages,
            add_generation_prompt=goes_on,
            continue_final_message=unfinished,
            **words,
        )
    except EdgeqError as error:
        raise template_error(error) from None
