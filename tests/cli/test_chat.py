"""edgeq chat: lines, commands, and Ctrl-C at a real terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.cli import fakes
from tests.cli.conftest import Call
from tests.patience import STUCK_S, until

ROOT = Path(__file__).resolve().parents[2]


def test_lines_on_stdin(call: Call, model: str) -> None:
    lines = b'Hi\n\n"""a\nb"""\n/stats\n/regen\n/clear\n/nonsense\n/help\n/bye\nnot read\n'
    result = call("chat", model, "--temp", "0", stdin=lines)
    assert result.code == 0
    assert result.out.count(fakes.SONG) == 4
    assert "tokens of context, 4 messages" in result.out
    assert "/regen" in result.out
    assert "/nonsense is unknown to edgeq" in result.err
    assert ">>>" not in result.out
    (made,) = result.models
    assert b"User: a\nb\n" in bytes(id for id in made.fed_ids if id < 256)


def test_a_full_context_is_told_of(call: Call, model: str) -> None:
    lines = b"".join(b"question %d\n" % turn for turn in range(6))
    result = call("chat", model, "-q", "-c", "200", stdin=lines)
    assert result.code == 0 and result.out.count(fakes.SONG) == 6
    assert "the beginning of the conversation is forgotten" in result.err


def test_the_end_of_input_leaves(call: Call, model: str) -> None:
    assert call("chat", model, stdin=b"Hi").code == 0


class Person:
    """Someone at a terminal: types, reads what appears, presses Ctrl-C."""

    def __init__(self, *arguments: str) -> None:
        self.end, other = pty.openpty()
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", fakes.program("chatty", *arguments)],
            stdin=other, stdout=other, stderr=other, cwd=ROOT, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.seen = self.unread = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until `text` appears after what was read before."""
        while text not in self.unread:
            appears = select.select([self.end], [], [], STUCK_S)[0]
            assert appears, f"{text!r} did not appear after {self.seen!r}, but {self.unread!r}"
            self.unread += os.read(self.end, 4096).decode(errors="replace")
        at = self.unread.index(text) + len(text)
        self.seen, self.unread = self.seen + self.unread[:at], self.unread[at:]

    def interrupt(self) -> None:
        """Press Ctrl-C once the process waits: between a prompt and its wait for a key, one would be noticed
        with the next key only."""
        status = psutil.Process(self.process.pid).status
        until(lambda: status() == psutil.STATUS_SLEEPING, "that the process waits")
        self.process.send_signal(signal.SIGINT)


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(model: str) -> None:
    person = Person("chat", model, "--temp", "0")
    try:
        person.wait_for(">>> ")
        person.type("Hi\n")
        person.wait_for("one, t")
        person.interrupt()
        person.wait_for(">>> ")
        person.interrupt()  # at the prompt, it only begins a new line
        person.wait_for(">>> ")
        person.type("/stats\n")
        person.wait_for("2 messages")
        person.wait_for(">>> ")
        person.type("More\n")
        person.wait_for("two")
        person.interrupt()
        person.wait_for(">>> ")
        person.type("\x04")
        assert person.process.wait(STUCK_S) == 0
        assert "Traceback" not in person.seen
    finally:
        person.process.kill()
        person.process.wait()
        os.close(person.end)
