"""One answer to messages that is held to a form or to tools, and read as what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeq.chat import messages_of
from edgeq.chat.answer import Answer
from edgeq.chat.prompt import ChatModel, Message, prompt_ids
from edgeq.errors import UsageError
from edgeq.generate import Generation, TokenSequence, check_ends, keywords, reused, stream
from edgeq.tools.parser import Parser
from edgeq.tools.plan import plan_of

FORMS = ("response_format", "schema", "grammar", "regex", "choice")
HELD = frozenset([*FORMS, "tool_choice", "parallel_tool_calls"])  # the words that ask for such an answer


class HeldAnswer(Answer):
    """An answer whose `message` has its thoughts and calls apart: "content", and where there are some
    "reasoning_content" and "tool_calls", as OpenAI writes them. Its pieces are the text as it is."""

    def __init__(
        self, generation: Generation, parser: Parser, *, ended: Callable[[Answer], object] | None = None
    ) -> None:
        super().__init__(generation, ended=ended)
        self._parser: Parser | None = parser
        self._seen = 0
        self._content = self._reasoning = ""
        self._calls: list[dict[str, Any]] = []

    @property
    def message(self) -> dict[str, Any]:
        self._read()
        content = self._content if self._content or not self._calls else None
        found: dict[str, Any] = {"role": "assistant", "content": content}
        if self._reasoning:
            found["reasoning_content"] = self._reasoning
        if self._calls:
            found["tool_calls"] = [{**call, "function": {**call["function"]}} for call in self._calls]
        return found

    def _read(self) -> None:
        """Read the tokens that came since."""
        if self._parser is None:
            return
        ids = self.generation.ids
        deltas = self._parser.extend(ids[self._seen :])
        self._seen = len(ids)
        if self.generation.over:
            deltas += self._parser.finish()
            self._parser = None
        for delta in deltas:
            self._content += delta.content
            self._reasoning += delta.reasoning
            if delta.name is not None:
                function = {"name": delta.name, "arguments": ""}
                self._calls.append({"id": delta.id, "type": "function", "function": function})
            elif delta.index is not None:
                self._calls[delta.index]["function"]["arguments"] += delta.arguments


def held_reply(
    model: ChatModel,
    messages: Sequence[Message],
    *,
    system: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    stop: str | Sequence[str] = (),
    ignore_eos: bool = False,
    sequence: TokenSequence | None = None,
    **options: Any,
) -> HeldAnswer:
    """The answer to messages; response_format, schema, grammar, regex, choice, tool_choice and
    parallel_tool_calls are as for `plan_of`, the rest as for `edgeq.chat.reply.reply`."""
    held = {name: options.pop(name) for name in [*options] if name in HELD}
    own = dict(chat_template=chat_template, chat_template_kwargs=chat_template_kwargs)
    plan = plan_of(model, tools=tools, **held, **own)  # type: ignore[arg-type]
    if options.get("mask") is not None:
        raise UsageError(
            "mask is given besides what the answer is held to, but only one of the two can count"
        )
    if plan.what is not None and (ignore_eos or not tools):
        check_ends(plan.what, stop, ignore_eos)
    if plan.system is not None:
        messages, system = _told(messages, system, plan.system)
    ids = prompt_ids(model, messages, system=system, tools=plan.tools, **own)  # type: ignore[arg-type]
    new = ids if sequence is None else reused(model, sequence, ids)
    told = keywords({**options, "mask": plan.mask(ids)})
    generation = stream(model, new, sequence=sequence, stop=stop, ignore_eos=ignore_eos, **told)
    return HeldAnswer(generation, plan.parser(ids, stop))


def _told(messages: Sequence[Message], system: str | None, more: str) -> tuple[Sequence[Message], str | None]:
    """The messages and the system's, which says more: the one that is given, or the first of the messages."""
    listed = messages_of(messages)
    if system is None and listed and listed[0]["role"] == "system":
        system = str(listed.pop(0).get("content") or "")
    return listed, f"{system}\n\n{more}" if system else more
