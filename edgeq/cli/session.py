"""A chat as the person sees it: the conversation, how answers look, and what a message does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeq.cli import slash, terminal
from edgeq.cli.answer import Look, print_answer
from edgeq.cli.prompt import Message
from edgeq.cli.working import Working

if TYPE_CHECKING:
    from edgeq.chat.answer import Answer
    from edgeq.chat.conversation import Conversation

PROMPT_END = 8  # tokens at the end of a prompt, among which a tag is looked for that begins thoughts


@dataclass
class Session:
    """`over`: somebody has said good-bye."""

    chat: Conversation
    look: Look = field(default_factory=Look)
    quiet: bool = False
    over: bool = False

    @property
    def template(self) -> str:
        """The chat template that counts."""
        from edgeq.chat.prompt import template_of

        return template_of(self.chat.model, self.chat.chat_template)

    def obey(self, message: Message) -> None:
        """Do what a message says: a command of the chat, or to be sent to the model."""
        text = message.text
        found = slash.find(text) if message.is_line else None
        if found is not None:
            command, words = found
            command.run(self, words)
            return
        word = text.strip()
        if message.is_line and word.startswith("//"):
            text = text.replace("//", "/", 1)
        elif message.is_line and word.startswith("/") and word[1:].isalpha() and not self.quiet:
            terminal.note(f"edgeq: warning: {word} is unknown to edgeq (see /help), so the model gets it")
        self.ask(text)

    def ask(self, text: str) -> None:
        """Print the answer to a message. Raises UsageError where it has no room."""
        self._answer(lambda: self.chat.ask(text))

    def again(self) -> None:
        """Print another answer to the last message. Raises UsageError where there is none."""
        self._answer(self.chat.again)

    def _answer(self, ask: Callable[[], Answer]) -> None:
        from edgeq.chat.thoughts import begun

        working = Working(self.quiet)
        self.chat.progress = working.reads
        answer = ask()
        if answer.forgotten and not self.quiet:
            terminal.note("(the context is full: the beginning of the conversation is forgotten)")
        working.reads(0, len(answer.generation.prompt_ids))
        print_answer(answer, self.look, working, ends=begun(self._prompt_end(answer)))
        if not self.quiet and (why := cut(answer, self.chat)):
            terminal.note(f"({why})", dim=True)

    def _prompt_end(self, answer: Answer) -> str:
        """The last words of the prompt that is about to be read."""
        ids = [*self.chat.sequence.ids[-PROMPT_END:], *answer.generation.prompt_ids]
        text: str = self.chat.model.tokenizer.decode(ids[-PROMPT_END:], special=True)
        return text


def cut(answer: Answer, chat: Conversation) -> str | None:
    """Why an answer ended before the model ended it, where that is not to be seen; else None."""
    if answer.finish_reason is None and not answer.text:  # the question, perhaps a long file, is still there
        return "stopped before the first word; /undo takes the message back"
    if answer.finish_reason != "length":
        return None
    count, most = len(answer.generation.ids), chat.max_tokens
    if most is not None and 0 <= most <= count:
        return f"cut off after {count} tokens, as -n or /set max_tokens says"
    return f"cut off: the context of {chat.model.context} tokens is full"
