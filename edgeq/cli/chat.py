"""edgeq chat: talk with a model; the conversation stays in the model's cache from one turn to the next."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.options import (
    engine_options,
    examples,
    generation_options,
    model_argument,
    quiet_option,
    sampling_options,
    sampling_values,
    take_escape,
)
from edgeq.cli.run import utf8
from edgeq.errors import EdgeqError, UsageError

if TYPE_CHECKING:
    from edgeq.engine import Model
    from edgeq.generate import Generation, SamplingOptions

# For a file without a template: plain lines, which models without chat training can follow.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% else %}{{ 'User' if message['role'] == 'user' else 'Assistant' }}: {{ message['content'] | trim }}\n"
    "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
PLAIN_STOP = ("\nUser:",)

HELP = """\
/help    these lines (also /?)
/clear   forget the conversation
/regen   another answer to the last question
/stats   what the last answer took
/bye     leave (also /exit, /quit, Ctrl-D)
//       begins a message with one slash; /words that are not above are the model's, as /no_think
\"\"\"      begins and ends a message of several lines
Ctrl-C   stops the answer and keeps the chat"""
LEAVE = ("/bye", "/exit", "/quit")


@click.command(
    "chat",
    epilog=examples(
        "edgeq chat model.edgeq",
        'edgeq chat model.edgeq -sys "Answer in one sentence." --temp 0.3',
        'echo "What is a leap year?" | edgeq chat model.edgeq -q',
    ),
)
@model_argument
@click.option("-sys", "--system", metavar="TEXT", help="What the model is told before the conversation.")
@generation_options
@sampling_options
@engine_options()
@quiet_option
def command(model: str, system: str | None, **options: Any) -> None:
    """Talk with MODEL. /help lists what can be said to edgeq itself; Ctrl-C stops an answer, Ctrl-D leaves.

    The template comes from the file; special tokens in what you type are text. Lines on stdin work too. In
    what -sys and --stop give, \\n is a line end and \\\\ a backslash; --no-escape leaves it as it is.
    """
    quiet = options.pop("quiet")
    escape = take_escape(options)
    if system is not None:
        system = utf8(escape(system).encode("utf-8", "surrogateescape"), "the system prompt")
    sampling = sampling_values(options)
    with engine.load(model, options, quiet=quiet) as loaded:
        from edgeq.generate import options_for

        chat = Chat(loaded, options_for(loaded, **sampling), system, **options)
        with contextlib.closing(chat):
            if not quiet:
                plain = "" if loaded.chat_template else ", plain template"
                terminal.note(
                    f"{loaded.file.path.name}: {loaded.context} tokens of context{plain}; /help helps"
                )
            talk(chat)


class Chat:
    """A conversation: messages, and the sequence whose cache holds them as tokens."""

    def __init__(
        self,
        model: Model,
        options: SamplingOptions,
        system: str | None = None,
        *,
        max_tokens: int = -1,
        stop: tuple[str, ...] = (),
        ignore_eos: bool = False,
    ) -> None:
        if model.tokenizer is None:
            raise UsageError("the model file holds no tokenizer, so it cannot chat")
        self.model = model
        self.options = options
        self.template = model.chat_template or PLAIN_TEMPLATE
        self.system = [{"role": "system", "content": system}] if system else []
        self.messages: list[dict[str, str]] = []
        self.last: Generation | None = None
        self.max_tokens = max_tokens
        self.ignore_eos = ignore_eos
        self.stop = stop if model.chat_template else stop + PLAIN_STOP
        self.turns = 0
        self.sequence = model.sequence()

    def close(self) -> None:
        self.sequence.close()

    def clear(self) -> None:
        """Forget the conversation; the system message stays."""
        self.messages.clear()
        self.sequence.truncate(0)
        self.last = None

    def ask(self, text: str) -> Iterator[str]:
        """Stream the answer to a message. However it ends, what was answered is part of the conversation."""
        self.messages.append({"role": "user", "content": text})
        return self._answer()

    def again(self) -> Iterator[str]:
        """Stream another answer to the last message. Raises UsageError when there is none."""
        if not self.messages:
            raise UsageError("there is no message to answer again")
        if self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        return self._answer()

    def _answer(self) -> Iterator[str]:
        from edgeq.generate import remaining, stream

        options = self.options
        if (
            options.seed is not None
        ):  # each turn draws its own numbers, the same ones in a chat with the same seed
            options = replace(options, seed=(options.seed + self.turns) % 2**64)
        try:
            generation = stream(
                self.model,
                remaining(self.sequence, self._prompt()),
                sequence=self.sequence,
                options=options,
                max_tokens=self.max_tokens,
                stop=self.stop,
                ignore_eos=self.ignore_eos,
            )
        except EdgeqError:
            self.messages.pop()
            raise
        self.turns += 1
        self.last = generation
        try:
            with generation:
                yield from generation
        finally:
            self.messages.append({"role": "assistant", "content": generation.text})

    def _prompt(self) -> list[int]:
        """The conversation as token ids; the oldest exchanges are dropped until an answer fits behind it."""
        from edgeq.chat import encode_chat

        room = self.model.context // 4
        room = max(1, room if self.max_tokens < 0 else min(self.max_tokens, room))
        kept = list(self.messages)
        while True:
            ids = encode_chat(self.model.tokenizer, self.template, self.system + kept)
            later = [i for i, message in enumerate(kept) if i and message["role"] == "user"]
            if len(ids) + (room if later else 1) <= self.model.context:
                break
            if not later:
                raise UsageError(
                    f"the message has {len(ids)} tokens, but the context holds {self.model.context}"
                )
            del kept[: later[0]]
        if len(kept) < len(self.messages):
            terminal.note("(the context is full: the beginning of the conversation is forgotten)")
            self.messages = kept
        return ids


def talk(chat: Chat) -> None:
    """Read messages and commands until the end of input or /bye."""
    if sys.stdin is None:  # closed by who started us
        return
    person = sys.stdin.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no UTF-8: see read_message
    if person:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (gives input() its editing and history)
    while True:
        try:
            message = read_message(person)
            if message is None or message.is_command(*LEAVE):
                return
            if message.text.strip():
                obey(chat, message)
        except KeyboardInterrupt:
            if not person:
                raise
            terminal.note("")
        except EdgeqError as error:
            terminal.note(f"edgeq: error: {error}")


@dataclass(frozen=True)
class Message:
    """What was typed. A line may be a command; what stood between two \"\"\" never is one."""

    text: str
    is_line: bool

    def is_command(self, *names: str) -> bool:
        return self.is_line and self.text.strip() in names


def obey(chat: Chat, message: Message) -> None:
    """Do what a message says: a command of the chat, or to be sent to the model."""
    text = message.text
    if message.is_command("/help", "/?"):
        terminal.say(HELP)
    elif message.is_command("/clear"):
        chat.clear()
    elif message.is_command("/stats"):
        terminal.say(stats(chat))
    elif message.is_command("/regen"):
        print_answer(chat.again())
    else:
        word = text.strip()
        if message.is_line and word.startswith("//"):
            text = text.replace("//", "/", 1)
        elif message.is_line and word.startswith("/") and word[1:].isalpha():
            terminal.note(f"edgeq: warning: {word} is unknown to edgeq (see /help), so the model gets it")
        print_answer(chat.ask(text))


def print_answer(pieces: Iterator[str]) -> None:
    """Print an answer as it comes; Ctrl-C stops it and is done with."""
    first = True
    with contextlib.closing(pieces), contextlib.suppress(KeyboardInterrupt):  # type: ignore[type-var]
        for piece in pieces:
            terminal.write(piece.lstrip() if first else piece)
            first = first and not piece.strip()
    terminal.write("\n")


def stats(chat: Chat) -> str:
    used = (
        f"{len(chat.sequence.ids)} of {chat.model.context} tokens of context, {len(chat.messages)} messages"
    )
    if chat.last is None:
        return used
    timings = chat.last.timings
    return f"{engine.timings_line(timings, timings.prompt_seconds + timings.generate_seconds)}\n{used}"


def read_message(person: bool) -> Message | None:
    """One message: a line, or the lines between two \"\"\". None at the end of input.

    Raises UsageError, after all of it was read, when it is no UTF-8.
    """
    line = read_line(">>> ", person)
    if line is None:
        return None
    is_line = not line.lstrip().startswith('"""')
    if not is_line:
        lines = [line.lstrip()[3:]]
        while '"""' not in lines[-1]:
            more = read_line("... ", person)
            if more is None:
                break
            lines.append(more)
        line = "\n".join(lines).replace('"""', "").strip("\n")
    return Message(utf8(line.encode("utf-8", "surrogateescape"), "the message"), is_line)


def read_line(prompt: str, person: bool) -> str | None:
    if not person:
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    try:
        return input(prompt)
    except EOFError:
        terminal.write("\n")
        return None
