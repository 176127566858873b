"""One answer to messages that the caller keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.chat.answer import Answer
from edgeq.chat.prompt import ChatModel, Message, prompt_ids, stops_with, template_of
from edgeq.generate import TokenSequence, keywords, reused, stream


def reply(
    model: ChatModel,
    messages: Sequence[Message],
    *,
    system: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    stop: str | Sequence[str] = (),
    sequence: TokenSequence | None = None,
    **options: Any,
) -> Answer:
    """The answer to messages; the options are those of `edgeq.generate.stream`.

    sequence: keep what it holds of the conversation's beginning, forget the rest, and go on there; else one
    is made and closed. The rest is as for `prompt_ids`. Raises UsageError for what cannot be honoured, and
    for messages that do not fit in the context: `Conversation` forgets the oldest.
    """
    ids = prompt_ids(
        model,
        messages,
        system=system,
        tools=tools,
        chat_template=chat_template,
        chat_template_kwargs=chat_template_kwargs,
    )
    stop = stops_with(stop, template_of(model, chat_template))
    new = ids if sequence is None else reused(model, sequence, ids)
    return Answer(stream(model, new, sequence=sequence, stop=stop, **keywords(options)))
