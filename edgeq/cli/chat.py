"""edgeq chat: talk with a model; the conversation stays in the model's cache from one turn to the next."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.options import (
    engine_options,
    generation_options,
    model_argument,
    quiet_option,
    sampling_options,
    sampling_values,
    take_escape,
)
from edgeq.cli.run import utf8
from edgeq.errors import EdgeqError

if TYPE_CHECKING:
    from edgeq.chat.answer import Answer
    from edgeq.chat.conversation import Conversation
    from edgeq.engine import Model

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


@click.command("chat")
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
    with (
        engine.load(model, options, quiet=quiet) as loaded,
        begin(loaded, system=system or None, **sampling, **options) as chat,
    ):
        if not quiet:
            plain = "" if loaded.chat_template else ", plain template"
            terminal.note(f"{loaded.file.path.name}: {loaded.context} tokens of context{plain}; /help helps")
        talk(chat)


def begin(model: Model, **options: Any) -> Conversation:
    """A conversation; a model without a template gets plain lines."""
    from edgeq.chat.conversation import Conversation
    from edgeq.chat.plain import PLAIN_TEMPLATE

    return Conversation(model, chat_template=model.chat_template or PLAIN_TEMPLATE, **options)


def talk(chat: Conversation) -> None:
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


def obey(chat: Conversation, message: Message) -> None:
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


def print_answer(answer: Answer) -> None:
    """Print an answer as it comes; Ctrl-C stops it and is done with."""
    if answer.forgotten:
        terminal.note("(the context is full: the beginning of the conversation is forgotten)")
    first = True
    with answer, contextlib.suppress(KeyboardInterrupt):
        for piece in answer:
            terminal.write(piece.lstrip() if first else piece)
            first = first and not piece.strip()
    terminal.write("\n")


def stats(chat: Conversation) -> str:
    used = (
        f"{len(chat.sequence.ids)} of {chat.model.context} tokens of context, {len(chat.messages)} messages"
    )
    if chat.last is None:
        return used
    timings = chat.last.generation.timings
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
