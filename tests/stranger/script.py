"""The kinds of steps, and how each is run: whatever is not as it should be becomes a line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.person import Person
from tests.patience import STUCK_S
from tests.stranger import pages

NOTHING = r"\A\Z"
COMPILED = r"\A(compil(ing|ed) \d+ kernels? .*\n)*\Z"  # where no other test asked for the kernels before
ERROR = "edgeq: error: "


@dataclass(frozen=True)
class Ended:
    """How a command ended; code: 128 and the signal where one ended it, as a shell says it."""

    code: int
    out: str
    err: str


def unlike(ended: Ended, out: Iterable[str], err: Iterable[str]) -> Iterator[str]:
    """Which of the regular expressions are not found, and that Python ended it."""
    yield from (f"stdout has no {found!r}" for found in out if not re.search(found, ended.out, re.M))
    yield from (f"stderr has no {found!r}" for found in err if not re.search(found, ended.err, re.M))
    if "Traceback" in ended.out + ended.err:
        yield "there is a traceback"


def printed(ended: Ended) -> str:
    return f"stdout: {ended.out[-2000:]!r}\nstderr: {ended.err[-2000:]!r}"


@dataclass(frozen=True)
class Step:
    """A command of a page, in the words that stand there.

    out, err: regular expressions that must be found in what is printed. but: words of the command, and what
    is typed in their place. also: what is typed behind it. check: what else is wrong, by the folder too.
    """

    want: str
    page: str
    command: str
    out: tuple[str, ...] = ()
    err: tuple[str, ...] = ()
    code: int = 0
    but: Mapping[str, str] = field(default_factory=dict)
    also: str = ""
    told_on_stdout: bool = False  # what is wrong is the result that was asked for
    check: Callable[[Ended, Path], Iterator[str]] = lambda ended, home: iter(())

    def line(self) -> str:
        """What is typed."""
        line = self.command
        for old, new in self.but.items():
            assert old in line, f"{old!r} does not stand in {line!r}"
            line = line.replace(old, new)
        return f"{line} {self.also}".strip()

    def told(self) -> Iterator[str]:
        """What no page tells of."""
        if self.command not in pages.commands(self.page):
            yield f"{self.page} does not have the command {self.command!r}"
        added = [word for text in (self.also, *self.but.values()) for word in text.split()]
        options = [word for word in added if re.match(r"--?[a-z]", word) and self.code == 0]
        yield from (f"no page tells of {word}" for word in options if not pages.has_option(word))

    def run(self, home: Path, env: Mapping[str, str]) -> Iterator[str]:
        yield from self.told()
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", self.line()],
            stdin=subprocess.DEVNULL, capture_output=True, cwd=home, env=env, timeout=STUCK_S,
        )  # fmt: skip
        yield from self.judged(Ended(done.returncode, done.stdout.decode(), done.stderr.decode()), home)

    def judged(self, ended: Ended, home: Path) -> Iterator[str]:
        """What is wrong with how it ended, and then what it printed."""
        wrong = [f"exit code {ended.code}, not {self.code}"] if ended.code != self.code else []
        wrong += unlike(ended, self.out, self.err)
        errors = sum(line.startswith(ERROR) for line in ended.err.splitlines())
        if errors != (self.code in range(1, 6) and not self.told_on_stdout):
            wrong.append(f"{errors} lines of stderr are errors")
        wrong += [] if wrong else self.check(ended, home)
        yield from wrong
        if wrong:
            yield printed(ended)


@dataclass(frozen=True)
class Interrupted(Step):
    """A command that is at work on its answer when Ctrl-C is pressed."""

    def run(self, home: Path, env: Mapping[str, str]) -> Iterator[str]:
        yield from self.told()
        with subprocess.Popen(
            shlex.split(self.line()),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home, env=env,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            begun = os.read(process.stdout.fileno(), 8)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=STUCK_S)
        yield from self.judged(Ended(process.returncode, (begun + out).decode(), err.decode()), home)


@dataclass(frozen=True)
class Snippet:
    """Pieces of Python from a page, by how they begin, as one program."""

    want: str
    page: str
    beginnings: tuple[str, ...]
    out: tuple[str, ...] = ()

    def run(self, home: Path, env: Mapping[str, str]) -> Iterator[str]:
        sources = {beginning: pages.python(self.page, beginning) for beginning in self.beginnings}
        yield from (f"{self.page} lacks a piece {name!r}" for name, source in sources.items() if not source)
        (home / "mine.py").write_text("\n".join(filter(None, sources.values())), encoding="utf-8")
        done = subprocess.run(
            [home / ".venv/bin/python", "mine.py"],
            stdin=subprocess.DEVNULL, capture_output=True, cwd=home, env=env, timeout=STUCK_S,
        )  # fmt: skip
        ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
        wrong = list(unlike(ended, self.out, (NOTHING,)))
        if ended.code or wrong:
            yield from [f"exit code {ended.code}", *wrong, printed(ended)]


@dataclass(frozen=True)
class Turn:
    """What is done at a chat's prompt: a line or, pasted, several; what must appear before the next prompt.

    stop_at: what appears of an answer before Ctrl-C is pressed.
    """

    want: str
    keys: str
    sees: str = ""
    pasted: bool = False
    stop_at: str = ""
    check: Callable[[Path], Iterator[str]] = lambda home: iter(())


PROMPT = ">>> "


@dataclass(frozen=True)
class Talk:
    """A chat at a pseudo-terminal, which Ctrl-D leaves."""

    want: str
    page: str
    command: str
    turns: tuple[Turn, ...]
    sees: str = ""
    but: Mapping[str, str] = field(default_factory=dict)
    also: str = ""

    def run(self, home: Path, env: Mapping[str, str]) -> Iterator[str]:
        """The first thing that does not appear ends the chat."""
        begin = Step(self.want, self.page, self.command, but=self.but, also=self.also)
        yield from begin.told()
        words = [turn.keys.split()[0] for turn in self.turns if turn.keys.startswith("/")]
        yield from (f"no page tells of {word}" for word in words if not pages.has_word(word))
        with Person(shlex.split(begin.line()), env, folder=home) as person:
            try:
                person.wait_for(self.sees)
                person.wait_for(PROMPT)
                for turn in self.turns:
                    take(person, turn)
                    yield from (f"{turn.want}: {problem}" for problem in turn.check(home))
                person.leaves()
            except AssertionError as error:
                yield str(error)


def take(person: Person, turn: Turn) -> None:
    if turn.pasted:
        person.paste(turn.keys)
    else:
        person.type(turn.keys)
    if turn.keys:
        person.type("\n")
    if turn.stop_at:
        person.wait_for(turn.stop_at)
        person.process.send_signal(signal.SIGINT)  # it computes, and waits for nothing
    person.wait_for(turn.sees)
    person.wait_for(PROMPT)
