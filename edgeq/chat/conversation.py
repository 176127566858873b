"""A conversation with a model: the messages, and the sequence whose cache holds them as tokens."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from edgeq.chat import copied, messages_of
from edgeq.chat.answer import Answer
from edgeq.chat.prompt import ChatModel, Message, prompt_ids, stops_with, template_of, words_of
from edgeq.errors import UsageError, shown
from edgeq.generate import Mask, check_ends, limit_of, options_for, prefixes_of, reused, stream
from edgeq.ownership import Line, Turn, Unique
from edgeq.sampling import SamplingOptions
from edgeq.speculate import Drafts

T = TypeVar("T")


class Conversation(Unique):
    """Messages in turn, of which only what is new is computed; a context manager.

    Everything may be changed between two answers: `messages` (without the system's), `system`, `options`,
    `max_tokens`, `stop`, `ignore_eos`, `logprobs`, `tools`, `chat_template` (None: the model's),
    `chat_template_kwargs` and `progress`, which is called with (done, total) tokens while a prompt is read.
    When the context is full, the oldest exchanges are forgotten; `Answer.forgotten` says how many messages.
    With a seed each turn draws its own numbers, the same ones in each conversation of that seed. `draft`
    guesses the answers as in `edgeq.generate.stream`; what was learned of it counts in the next turn too.
    `held` gives the mask of each answer, for the ids of its prompt (as `edgeq.tools.Plan.mask` does); None
    where answers may be anything.

    One call at a time: another that comes meanwhile is refused with UsageError. `cancel` and `close` may come
    from any thread at any time. An answer that nobody read to its end is ended by the next call.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        options: SamplingOptions | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        logprobs: int | None = None,
        draft: object = None,
        **sampling: Any,
    ) -> None:
        self._begin()
        if options is not None and sampling:
            raise UsageError(f"{min(sampling)} is given besides options, but only one of the two can count")
        template_of(model, chat_template)
        self.model = model
        self.options = options if options is not None else options_for(model, **sampling)
        self.system = system
        self.messages = copied(messages)
        self.tools = tools
        self.chat_template = chat_template
        self.chat_template_kwargs = words_of(chat_template_kwargs)
        self.max_tokens = max_tokens
        self.stop = stop
        self.ignore_eos = ignore_eos
        self.logprobs = logprobs
        self._drafts = Drafts.of(draft, model)
        self.progress: Callable[[int, int], object] | None = None
        self.held: Callable[[Sequence[int]], Mask | None] | None = None
        self.turns = 0
        self.last: Answer | None = None
        self._calls = Line()
        self.sequence = model.sequence()

    # talking --------------------------------------------------------------------------------------------

    def ask(self, message: str | Message) -> Answer:
        """The answer to a message: a person's text, or {"role": ..., "content": ...}.

        The message, and however the answer ends what was answered, become part of the conversation. Raises
        UsageError, and changes nothing, where the message does not fit in the context.
        """
        new = {"role": "user", "content": message} if isinstance(message, str) else message
        return self._alone("be asked", lambda: self._answer([*messages_of(self.messages), new]))

    def again(self) -> Answer:
        """Another answer to the last message, in place of the one it had; UsageError where there is none."""

        def again() -> Answer:
            asked = messages_of(self.messages)
            if asked and asked[-1]["role"] == "assistant":
                asked.pop()
            if not asked:
                raise UsageError("there is no message to answer again")
            return self._answer(asked)

        return self._alone("answer again", again)

    def _answer(self, asked: Sequence[Message]) -> Answer:
        messages = copied(asked)
        ids, forgotten = self._prompt(messages)
        mask = self.held(ids) if self.held is not None else None
        if mask is None:
            stop = stops_with(self.stop, template_of(self.model, self.chat_template))
        else:
            stop = self.stop
            check_ends("what the answer is held to", stop, self.ignore_eos)
        options = self.options
        if isinstance(options, SamplingOptions) and options.seed is not None:  # else `stream` refuses them
            options = replace(options, seed=(options.seed + self.turns) % 2**64)
        generation = stream(
            self.model,
            reused(self.model, self.sequence, ids),
            sequence=self.sequence,
            options=options,
            max_tokens=self.max_tokens,
            stop=stop,
            ignore_eos=self.ignore_eos,
            logprobs=self.logprobs,
            draft=self._drafts,
            progress=self.progress,
            mask=mask,
        )
        self.turns += 1
        self.messages = messages[forgotten:]
        self.last = Answer(generation, forgotten=forgotten, ended=self._keep)
        return self.last

    def _keep(self, answer: Answer) -> None:
        """Make an answer that ended part of the conversation, unless that was forgotten meanwhile."""
        if answer is self.last:
            self.messages.append(answer.message)
            if (prefixes := prefixes_of(self.model)) is not None:
                prefixes.keep(self.sequence)

    # the context ----------------------------------------------------------------------------------------

    def _prompt(self, messages: list[dict[str, Any]]) -> tuple[list[int], int]:
        """The conversation as token ids, and how many of its oldest messages are not in there: exchanges are
        left out until an answer fits behind it."""
        context = self.model.context
        room = max(1, min(limit_of(self.max_tokens), context // 4))
        starts = [0, *(i for i, message in enumerate(messages) if i and message["role"] == "user")]
        found: dict[int, list[int]] = {}

        def fits(start: int) -> bool:
            found[start] = ids = self._encode(messages[start:])
            return len(ids) + (1 if start == starts[-1] else room) <= context

        if not fits(0):
            at = bisect_left(starts, True, lo=1, key=fits)
            if at == len(starts):
                last = found.get(starts[-1], found[0])
                raise UsageError(
                    f"the message has {len(last)} tokens, but the context holds {context}: a shorter "
                    "message or a larger context is needed"
                )
            return found[starts[at]], starts[at]
        return found[0], 0

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        return prompt_ids(
            self.model,
            messages,
            system=self.system,
            tools=self.tools,
            chat_template=self.chat_template,
            chat_template_kwargs=self.chat_template_kwargs,
        )

    # what was said --------------------------------------------------------------------------------------

    def undo(self) -> list[dict[str, Any]]:
        """Forget the last exchange, from the person's last message on; what was forgotten. UsageError where
        there is none."""

        def undo() -> list[dict[str, Any]]:
            messages = copied(self.messages)
            asked = [i for i, message in enumerate(messages) if message["role"] == "user"]
            if not asked:
                raise UsageError("there is no message to take back")
            self.messages, self.last = messages[: asked[-1]], None
            return messages[asked[-1] :]

        return self._alone("take a message back", undo)

    def clear(self) -> None:
        """Forget all messages; the system's stays."""

        def clear() -> None:
            self.messages, self.last = [], None
            self.sequence.truncate(0)

        self._alone("be cleared", clear)

    def to_json(self) -> dict[str, Any]:
        """The conversation as plain data: {"messages": [...]}, the system's first where there is one."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return {"messages": [*system, *copied(self.messages)]}

    def restore(self, data: object) -> None:
        """Go on with what `to_json` gave, the system's message too. UsageError where it is something else."""
        given = data.get("messages") if isinstance(data, Mapping) else None
        if not isinstance(given, list):
            raise UsageError(f'{shown(data)} is no conversation, which is {{"messages": [...]}}')
        messages = copied(given)
        system = None
        if messages and messages[0]["role"] == "system":
            system = messages.pop(0).get("content")
            if not isinstance(system, str):
                raise UsageError(f"the system's message is {shown(system)}, but must be a text")

        def restore() -> None:
            self.system, self.messages, self.last = system, messages, None

        self._alone("be restored", restore)

    # one call at a time ---------------------------------------------------------------------------------

    def _alone(self, what: str, work: Callable[[], T]) -> T:
        """Do `work` while no other call does; an answer under way ends before."""
        turn = Turn("the conversation is at work")
        try:
            self._calls.claim(turn, what)
            if self.last is not None:
                self.last.close()
            return work()
        finally:
            turn.over = True

    def cancel(self) -> None:
        """End an answer under way soon, if there is one."""
        if self.last is not None:
            self.last.cancel()

    def close(self) -> None:
        """End an answer under way, and let go of the cache."""
        self.cancel()
        if self.last is not None:
            with contextlib.suppress(UsageError):  # at work in another thread, where it ends soon
                self.last.close()
        self.sequence.close()
        if self._drafts is not None:
            self._drafts.close()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        used = f"{len(self.sequence.ids)} of {self.model.context} tokens"
        return f"<edgeq.Conversation: {len(self.messages)} messages, {used}>"
