"""What can be said to the chat itself: a row for each word that begins with a slash."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.cli import engine, terminal, transcript
from edgeq.cli.settings import setting, settings
from edgeq.errors import UsageError, printable

if TYPE_CHECKING:
    from edgeq.cli.session import Session

PREVIEW_CHARS = 60  # of a message, to know it by


@dataclass(frozen=True)
class Slash:
    """names: the first is the one that help shows. takes: what stands behind it; in brackets it may be left
    out. do(session, words) does it; `words` are what stands behind, without spaces around."""

    names: tuple[str, ...]
    takes: str
    about: str
    do: Callable[[Session, str], None]

    def run(self, session: Session, words: str) -> None:
        """UsageError where words are missing or none belong."""
        name = self.names[0]
        if words and not self.takes:
            raise UsageError(f"{name} takes nothing behind it; /{name} {words:.20} is a message to the model")
        if not words and self.takes and not self.takes.startswith("["):
            raise UsageError(f"{name} needs {self.takes}: {self.about}")
        self.do(session, words)


def find(line: str) -> tuple[Slash, str] | None:
    """The command that a line is, and the words behind it; None for what the model is told."""
    word, *rest = line.strip().split(maxsplit=1) or [""]
    command = next((command for command in COMMANDS if word in command.names), None)
    return None if command is None else (command, rest[0] if rest else "")


# what they do -------------------------------------------------------------------------------------------


def help(session: Session, words: str) -> None:
    rows = [(f"{command.names[0]} {command.takes}".strip(), _about(command)) for command in COMMANDS]
    width = max(len(name) for name, _ in rows) + 2
    terminal.say("\n".join(f"{name:<{width}}{about}" for name, about in [*rows, *KEYS]))


def _about(command: Slash) -> str:
    others = ", ".join(command.names[1:])
    return f"{command.about} (also {others})" if others else command.about


def system(session: Session, words: str) -> None:
    if not words:
        terminal.say(session.chat.system or "(there is no system message; /system TEXT sets one)")
        return
    session.chat.system = None if words in ('""', "''") else words
    _tell(session, "the system message counts from the next message on")


def set_(session: Session, words: str) -> None:
    if not words:
        rows = [(name, str(row.show(session))) for name, row in settings().items()]
        terminal.say(terminal.table(("name", "value"), rows, left=2))
        return
    name, *value = words.split(maxsplit=1)
    if not value:
        terminal.say(f"{name} is {setting(name).show(session)}")
        return
    setting(name).change(session, value[0])


def show(session: Session, words: str) -> None:
    from edgeq.chat.plain import PLAIN_TEMPLATE

    chat = session.chat
    own = session.template == chat.model.chat_template
    rows = {
        "model": printable(str(chat.model.file.path)),
        "context": _used(session),
        "template": "the model's" if own else "plain" if session.template == PLAIN_TEMPLATE else "as given",
        "system": preview(chat.system) if chat.system else "none",
        "messages": len(chat.messages),
    }
    terminal.say("\n".join(f"{name:<10}{value}" for name, value in rows.items()))


def save(session: Session, words: str) -> None:
    path = transcript.path_of(words)
    transcript.save(path, session.chat.to_json())
    _tell(session, f"saved {len(session.chat.messages)} messages in {path}")


def load(session: Session, words: str) -> None:
    path = transcript.path_of(words)
    session.chat.restore(transcript.load(path))
    _tell(session, f"loaded {len(session.chat.messages)} messages from {path}")


def file(session: Session, words: str) -> None:
    found = PATH_AND_TEXT.fullmatch(words)
    assert found is not None  # it matches any words
    path, text = found.groups()
    content = transcript.read_text(transcript.path_of(path))
    if not content.strip():
        raise UsageError(f"{path} holds no text")
    session.ask(f"{content}\n\n{text}" if text else content)


def regen(session: Session, words: str) -> None:
    session.again()


def undo(session: Session, words: str) -> None:
    asked, *_ = session.chat.undo()
    _tell(session, f"forgotten: {preview(str(asked['content']))}")


def clear(session: Session, words: str) -> None:
    session.chat.clear()


def stats(session: Session, words: str) -> None:
    chat = session.chat
    if chat.last is not None:
        timings = chat.last.generation.timings
        terminal.say(engine.timings_line(timings, timings.prompt_seconds + timings.generate_seconds))
    terminal.say(f"{_used(session)}, {len(chat.messages)} messages")


def bye(session: Session, words: str) -> None:
    session.over = True


def _used(session: Session) -> str:
    return f"{len(session.chat.sequence.ids)} of {session.chat.model.context} tokens of context"


def _tell(session: Session, text: str) -> None:
    if not session.quiet:
        terminal.note(f"({text})", dim=True)


def preview(text: str) -> str:
    """The beginning of a text as a line."""
    line = terminal.one_line(text)
    return line if len(line) <= PREVIEW_CHARS else f"{line[:PREVIEW_CHARS]}…"


PATH_AND_TEXT = re.compile(r"(\"[^\"]*\"|'[^']*'|\S+)\s*(.*)", re.DOTALL)
COMMANDS = (
    Slash(("/help", "/?"), "", "these lines", help),
    Slash(("/system",), "[TEXT]", 'what the model is told before the conversation; "" takes it away', system),
    Slash(("/set",), "[NAME VALUE]", "how tokens are drawn and answers look; alone it lists all", set_),
    Slash(("/show",), "", "the model and the conversation in a few lines", show),
    Slash(("/file",), "PATH [TEXT]", "send a file's text, and TEXT behind it", file),
    Slash(("/save",), "FILE", "keep the conversation in a file", save),
    Slash(("/load",), "FILE", "go on with a conversation that was saved", load),
    Slash(("/regen",), "", "another answer to the last message", regen),
    Slash(("/undo",), "", "forget the last message and its answer", undo),
    Slash(("/clear",), "", "forget the conversation", clear),
    Slash(("/stats",), "", "what the last answer took", stats),
    Slash(("/bye", "/exit", "/quit"), "", "leave, as Ctrl-D does", bye),
)
KEYS = (
    ("//", "begins a message with one slash; /words that are not above are the model's, as /no_think"),
    ('"""', "begins and ends a message of several lines; pasted lines are one message without"),
    ("Ctrl-C", "stops the answer and keeps the chat"),
)
