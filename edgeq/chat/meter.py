"""How much a template may do in one rendering, and how the sandbox counts it.

A template comes from a stranger's model file. Jinja's sandbox keeps it away from Python; it does not keep it
from using all memory or time. So everything that makes a value goes through `Meter`: it charges what was
made, and before an operation that multiplies (`'a' * n`, replace, join) it charges what will be made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from edgeq.chat.provenance import FORGETFUL, Text
from edgeq.errors import UnsupportedError

LOOPS_MAX = 100_000  # turns of all loops, and calls, in one rendering
OUTPUT_CHARS_MAX = 4 << 20
MADE_BYTES_MAX = 32 << 20  # of all strings and lists that operations made
WEIGHT_MAX = 16 << 20  # of one value: its characters and elements, shared ones counted every time they occur
TEXT_CHARS_MAX = 8 << 20  # of one text
NODES_MAX = 1 << 20  # values looked at to weigh lists and dicts
ELEMENTS_MAX = 1 << 17  # of one list
TEXT_BYTES = 192  # of a small Text
INT_MAX = 1 << 128
ARGUMENT_MAX = 10_000  # an integer given to a filter or a text method: a width, a count
SECONDS_MAX = 0.5  # of this thread's CPU time


def too_much(what: str) -> UnsupportedError:
    return UnsupportedError(f"the chat template {what}, which no honest one does")


class Meter:
    """The counts of one rendering. Every method raises UnsupportedError past its limit."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[str, Text]] = []  # (name, text it was given): see `forget`
        self._loops = LOOPS_MAX
        self._made = MADE_BYTES_MAX
        self._nodes = NODES_MAX
        self._deadline = time.thread_time() + SECONDS_MAX

    def tick(self) -> None:
        """One turn of a loop or one call."""
        self._loops -= 1
        if self._loops < 0:
            raise too_much(f"loops more than {LOOPS_MAX} times")
        self.clock()

    def clock(self) -> None:
        """Called before and after whatever may take long."""
        if time.thread_time() > self._deadline:
            raise too_much(f"computes for more than {SECONDS_MAX} seconds")

    def make(self, count: int) -> None:
        """Bytes that are about to be made, or just were."""
        self._made -= count
        if self._made < 0:
            raise too_much(f"makes more than {MADE_BYTES_MAX >> 20} MiB of text")

    def keep(self, value: Any) -> Any:
        """A value that an operation made, charged; too heavy ones are refused."""
        if isinstance(value, str):
            if len(value) > TEXT_CHARS_MAX:
                raise too_much(f"makes a text of more than {TEXT_CHARS_MAX >> 20} MiB")
            self.make(len(value) if value.isascii() else 2 * len(value))
            self.make(len(value.own) if isinstance(value, Text) else 0)
        elif isinstance(value, bool) or value is None:
            pass
        elif isinstance(value, int):
            if not -INT_MAX <= value <= INT_MAX:
                raise too_much("makes an integer of more than 128 bits")
        elif isinstance(value, list | tuple | dict):
            self.make(8 * len(value))
            self.weigh(value)
        elif isinstance(value, bytes | bytearray | memoryview):
            raise too_much("makes bytes")
        return value

    def weigh(self, value: Any) -> int:
        """Characters and elements of a value, as often as printing it would show them."""
        if isinstance(value, str):
            return len(value)
        weight, waiting = 1, [value]
        while waiting:
            item = waiting.pop()
            self._nodes -= 1
            if isinstance(item, str):
                weight += len(item)
            elif isinstance(item, list | tuple):
                weight += len(item)
                waiting += item
            elif isinstance(item, dict):
                weight += 2 * len(item)
                waiting += item.keys()
                waiting += item.values()
            if len(waiting) > NODES_MAX or self._nodes < 0 or weight > WEIGHT_MAX:
                raise too_much("builds lists without measure")
        return weight

    def forget(self, name: str, value: Any, result: Any) -> None:
        """Called after a filter, method or operator: keeps in `forgotten` what the template wrote, where the
        result does not tell it any more."""
        if name in FORGETFUL and isinstance(value, Text) and not isinstance(result, Text):
            self.forgotten.append((name, value))

    # operations that multiply ----------------------------------------------------------------------------

    def times(self, left: Any, right: Any) -> None:
        """Before left * right."""
        for value, count in ((left, right), (right, left)):
            if isinstance(count, int) and isinstance(value, str):
                self.make(max(0, count) * len(value))
            elif isinstance(count, int) and isinstance(value, list | tuple):
                self.elements(max(0, count) * len(value))

    def power(self, left: Any, right: Any) -> None:
        """Before left ** right."""
        if isinstance(left, int) and isinstance(right, int) and abs(left) > 1 and right > 128:
            raise too_much("raises to a power above 128")

    def formats(self, text: str, field: re.Pattern[str], opening: str, values: Any) -> None:
        """Before text % values or text.format(*values)."""
        fields = field.findall(text)
        if field.sub("", text).count(opening) or any(re.search(r"[0-9]{4}|\*", word) for word in fields):
            raise too_much("formats with a field that is not a plain one")
        self.make(len(text) + 512 * len(fields) + len(fields) * self.weigh(values))

    def method(self, text: str, name: str, args: tuple[Any, ...]) -> None:
        """Before a method of a string."""
        self.arguments(args)
        if name == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
            count = text.count(args[0])
            self.make(len(text) + count * len(args[1]))
            if isinstance(text, Text):
                self.elements(count)
        elif name == "join" and args:
            if not isinstance(args[0], list | tuple | dict | str):
                raise too_much("joins what is no list")
            self.make(self.weigh(args[0]) + len(args[0]) * len(text))
        elif name in ("split", "rsplit", "splitlines"):
            separator = args[0] if args and isinstance(args[0], str) and args[0] else None
            count = text.count(separator) if separator else _breaks(text)
            count = lines(text) if name == "splitlines" else count
            self.elements(count, TEXT_BYTES if isinstance(text, Text) else 64)

    def arguments(self, args: Iterable[Any]) -> None:
        """Integers given to a filter or a method: none may be an amount of memory."""
        for value in args:
            if isinstance(value, int) and not -ARGUMENT_MAX <= value <= ARGUMENT_MAX:
                raise too_much(f"uses the number {str(value)[:40]} as an argument")

    def elements(self, count: int, size: int = 64) -> None:
        """Elements of a list that is about to be made, with the bytes that each one takes."""
        if count > ELEMENTS_MAX:
            raise too_much(f"makes a list of more than {ELEMENTS_MAX} elements")
        self.make(size * count)


def lines(text: str) -> int:
    """No fewer pieces than splitting at line ends gives."""
    return 1 + sum(map(text.count, "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"))


def _breaks(text: str) -> int:
    """No fewer pieces than splitting at whitespace gives; counting ends past ELEMENTS_MAX."""
    count = 0
    for _ in re.finditer(r"\s+", text):
        count += 1
        if count > ELEMENTS_MAX:
            break
    return count + 1


METER: ContextVar[Meter] = ContextVar("METER")


def current() -> Meter:
    """The meter of the rendering that runs now in this thread."""
    return METER.get()
