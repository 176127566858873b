"""What reaches a terminal: no control character of any kind, however it is cut; pipes get the bytes as they
are."""

from __future__ import annotations

import io
import json
import sys

import pytest

from edgeq.cli import terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


C0 = [chr(c) for c in range(0x20) if chr(c) not in "\t\n"] + ["\x7f"]
C1 = [chr(c) for c in range(0x80, 0xA0)]
DIRECTION = [chr(c) for c in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
SEQUENCES = [
    "\x1b[2J",
    "\x1b[31;1m",
    "\x1b]0;title\x07",
    "\x1b]52;c;cHduZWQ=\x1b\\",
    "\x1bP1$r\x1b\\",
    "\x9b2J",
    "\x9d0;t\x9c",
    "\x1b_Gf=100\x1b\\",
    "a\rb",
    "a\x08b",
    "\x1b[>0q",
]


def raw_controls(text: str) -> list[str]:
    return [c for c in text if c in [*C0, *C1, *DIRECTION]]


@pytest.mark.parametrize("control", [*C0, *C1, *DIRECTION])
def test_no_control_reaches_a_terminal(control: str) -> None:
    out = Terminal()
    terminal.write(f"a{control}b", out)
    assert out.getvalue() == "ab"


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_sequences_cut_anywhere_are_harmless(sequence: str) -> None:
    for cut in range(len(sequence) + 1):
        out = Terminal()
        terminal.write(sequence[:cut], out)
        terminal.write(sequence[cut:], out)
        assert not raw_controls(out.getvalue())


def test_text_stays_as_it_is() -> None:
    text = "Straße\tΩ ✓ 👩‍👩‍👧 שלום مرحبا 你好\n"
    assert terminal.clean(text) == text


def test_a_pipe_gets_every_byte() -> None:
    out = io.StringIO()
    terminal.write("a\x1b[2Jb", out)
    assert out.getvalue() == "a\x1b[2Jb"


def test_json_is_escaped_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    terminal.say_json({"text": "a\x9b2J\u202e\x1bé"})
    assert not raw_controls(out.getvalue().rstrip("\n"))
    assert json.loads(out.getvalue()) == {"text": "a\x9b2J\u202e\x1bé"}


def test_table_and_sizes() -> None:
    assert terminal.table(("name", "n"), [("a", 1), ("bb\x1b", 22)]) == "name   n\na      1\nbb    22"
    sizes = [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1536, "1.54 kB"),
        (986_000_000, "986 MB"),
        (7 * 10**12, "7 TB"),
    ]
    assert [terminal.size(count) for count, _ in sizes] == [text for _, text in sizes]
