"""llama.cpp's notation of grammars (GBNF), in that of the library.

Every character class is a terminal of one character, so that the grammar derives what it does in llama.cpp:
the library takes the longest match of a longer terminal, after which `[a-z]+ "x"` would derive nothing.
"""

from __future__ import annotations

import json
import re

from edgeq.errors import UsageError

DEPTH_MAX = 64  # of groups in groups
NAME = re.compile(r"[A-Za-z0-9_-]+")
SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)+")
LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
COUNT = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
HEX = {"x": 2, "u": 4, "U": 8}
PLAIN = {"n": "\n", "r": "\r", "t": "\t"}


def lark_of(text: str) -> str:
    """A GBNF grammar in Lark's notation. UsageError, with the line, for what is none."""
    return _Grammar(text).read()


class _Grammar:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._names: dict[str, str] = {}
        self._used: dict[str, int] = {}

    def read(self) -> str:
        rules: dict[str, str] = {}
        self._skip(LINES)
        while self._at < len(self._text):
            name = self._name("the name of a rule")
            self._skip(SPACE)
            if not self._take("::="):
                raise self._wrong("::=")
            self._skip(LINES)
            if name in rules:
                raise UsageError(f"the grammar has two rules {name!r}")
            rules[name] = self._alternatives(0)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._wrong("the end of the line")
            self._skip(LINES)
        if "root" not in rules:
            raise UsageError("the grammar has no rule 'root', with which an answer begins")
        for name, line in self._used.items():
            if name not in rules:
                raise UsageError(f"the grammar has no rule {name!r}, which line {line} names")
        written = [f"{self._spelled(name)}: {body}" for name, body in rules.items()]
        return "\n".join([f"start: {self._spelled('root')}", *written])

    def _alternatives(self, depth: int) -> str:
        if depth > DEPTH_MAX:
            raise UsageError(f"the grammar has groups nested more than {DEPTH_MAX} deep")
        found = [self._sequence(depth)]
        while self._take("|"):
            self._skip(LINES)
            found.append(self._sequence(depth))
        return " | ".join(found)

    def _sequence(self, depth: int) -> str:
        parts: list[str] = []
        while (part := self._part(depth)) is not None:
            self._skip(LINES if depth else SPACE)
            parts.append(part + self._repetition(depth))
        return " ".join(parts) if parts else '""'

    def _part(self, depth: int) -> str | None:
        """A literal, a class, a group or a rule's name; None where none of them follows."""
        head = self._text[self._at : self._at + 1]
        if head == '"':
            self._at += 1
            return json.dumps(self._until('"'), ensure_ascii=False)
        if head == "[":
            self._at += 1
            return self._class()
        if head == "(":
            self._at += 1
            self._skip(LINES)
            inner = self._alternatives(depth + 1)
            if not self._take(")"):
                raise self._wrong("')'")
            return f"({inner})"
        if head == ".":
            self._at += 1
            return "/(?s:.)/"
        if not NAME.match(self._text, self._at):
            return None
        line = self._line()
        name = self._name("a name")
        self._used.setdefault(name, line)
        return self._spelled(name)

    def _repetition(self, depth: int) -> str:
        found = ""
        head = self._text[self._at : self._at + 1]
        if head and head in "*+?":
            self._at += 1
            found = head
        elif match := COUNT.match(self._text, self._at):
            self._at = match.end()
            least, comma, most = match.groups()
            if most is not None and int(most) < int(least):
                raise self._wrong("a number of at least " + least)
            found = f"{{{least},{most or ''}}}" if comma else f"{{{least}}}"
        if found:
            self._skip(LINES if depth else SPACE)
        return found

    def _class(self) -> str:
        """[a-z], [^"\\], of one character each, as a regular expression."""
        negated = self._take("^")
        parts: list[str] = []
        while not self._take("]"):
            first = self._char()
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._char()
                if last < first:
                    raise self._wrong(f"a character from {first!r} on")
                parts.append(f"{_in_class(first)}-{_in_class(last)}")
            else:
                parts.append(_in_class(first))
        if not parts:
            return "/(?s:.)/" if negated else "/[a&&b]/"
        return f"/[{'^' if negated else ''}{''.join(parts)}]/"

    def _until(self, end: str) -> str:
        found = ""
        while not self._take(end):
            found += self._char()
        return found

    def _char(self) -> str:
        """The next character of a literal or a class, its escape read."""
        head = self._text[self._at : self._at + 1]
        if not head:
            raise self._wrong("its end")
        self._at += 1
        if head != "\\":
            return head
        kind = self._text[self._at : self._at + 1]
        self._at += 1
        if kind in HEX:
            digits = self._text[self._at : self._at + HEX[kind]]
            if len(digits) < HEX[kind] or not re.fullmatch("[0-9A-Fa-f]+", digits):
                raise self._wrong(f"{HEX[kind]} hexadecimal digits")
            self._at += len(digits)
            code = int(digits, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise self._wrong("the number of a character")
            return chr(code)
        if kind in PLAIN:
            return PLAIN[kind]
        if kind and kind in '"\\[]-^':
            return kind
        raise self._wrong('one of n r t " \\ [ ] x u U behind a backslash')

    # the text -------------------------------------------------------------------------------------------

    def _spelled(self, name: str) -> str:
        """A rule's name in the library's notation, which has rules in small letters."""
        return self._names.setdefault(name, f"r{len(self._names)}")

    def _name(self, what: str) -> str:
        match = NAME.match(self._text, self._at)
        if match is None:
            raise self._wrong(what)
        self._at = match.end()
        return match[0]

    def _take(self, word: str) -> bool:
        if self._text.startswith(word, self._at):
            self._at += len(word)
            return True
        return False

    def _skip(self, what: re.Pattern[str]) -> None:
        if match := what.match(self._text, self._at):
            self._at = match.end()

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _wrong(self, wanted: str) -> UsageError:
        found = self._text[self._at : self._at + 12]
        return UsageError(f"line {self._line()} of the grammar has {found!r} where {wanted} should be")


def _in_class(char: str) -> str:
    """A character in a class of a regular expression."""
    return f"\\x{{{ord(char):x}}}" if not char.isalnum() or not char.isascii() else char
