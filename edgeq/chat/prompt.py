"""From messages and what goes with them to a prompt's token ids, for any model that has a chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edgeq import arguments
from edgeq.chat import encode_chat, messages_of
from edgeq.chat.plain import STOPS
from edgeq.chat.sandbox import variables
from edgeq.errors import UsageError, shown
from edgeq.generate import LanguageModel

Message = Mapping[str, Any]
OWN = frozenset(["messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "unk_token"])
OWN |= {
    "tokenizer",
    "template",
    "add_bos",
    "continue_final_message",
}  # parameters of `encode_chat`, which no template asks for


class ChatModel(LanguageModel, Protocol):
    """What a chat asks of a model."""

    @property
    def chat_template(self) -> str | None: ...


def prompt_ids(
    model: ChatModel,
    messages: Sequence[Message],
    *,
    system: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """The token ids of a conversation, up to where the answer begins.

    system: a message of that role before all others. tools: handed to the template, which must know them.
    chat_template: instead of the model's own. chat_template_kwargs: whatever else the template is told, as
    {"enable_thinking": False}. Raises as `encode_chat`, and UsageError for what cannot be honoured.
    """
    template = template_of(model, chat_template)
    words = words_of(chat_template_kwargs)
    if not isinstance(system, str | None):
        raise UsageError(f"system is {shown(system)}, but must be a text")
    if tools is not None:
        check_tools(tools, template)
        words["tools"] = list(tools)
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages_of(messages)]
    return encode_chat(model.tokenizer, template, messages, **words)


def template_of(model: ChatModel, chat_template: str | None) -> str:
    """The template that is given, else the model's; UsageError where there is none, or no tokenizer."""
    if model.tokenizer is None:
        raise UsageError(
            "the model file holds no tokenizer, so it cannot chat: convert it anew, from a source that has "
            "one"
        )
    template = chat_template if chat_template is not None else model.chat_template
    if template is None:
        raise UsageError(
            "the model file holds no chat template, so it cannot chat: give one as chat_template "
            "(edgeq.chat.plain.PLAIN_TEMPLATE is plain lines), or continue a text with generate"
        )
    if not isinstance(template, str):
        raise UsageError(f"chat_template is {shown(template)}, but must be the text of a template")
    return template


def words_of(chat_template_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a template is told by the caller; UsageError for names that are edgeq's to fill."""
    if not isinstance(chat_template_kwargs, Mapping | None):
        raise UsageError(
            f"chat_template_kwargs is {shown(chat_template_kwargs)}, but must be names and values"
        )
    words = dict(chat_template_kwargs or {})
    if odd := [name for name in words if not isinstance(name, str)]:
        raise UsageError(f"{shown(odd[0])} is a name in chat_template_kwargs, but must be a text")
    if taken := sorted(OWN.intersection(words)):
        raise UsageError(f"{taken[0]} is given in chat_template_kwargs, but edgeq sets it itself")
    return words


def stops_with(stop: str | Sequence[str], template: str) -> str | Sequence[str]:
    """The strings that end an answer: the caller's, and those that stand for the template's missing end."""
    given = (stop,) if isinstance(stop, str) else stop
    own = STOPS.get(template, ())
    return (*given, *own) if own and arguments.is_sequence(given) else given  # else `stream` refuses it


def check_tools(tools: object, template: str) -> None:
    """UsageError unless tools are a list of objects and the template does something with them."""
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise UsageError(f"tools are {shown(tools)}, but must be a list of objects that describe a tool each")
    if tools and "tools" not in variables(template):
        raise UsageError("tools are given, but the model's chat template knows no tools")
