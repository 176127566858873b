"""What comes between two instructions of Python's, as a signal's handler does: put there on purpose."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any


def interfere(
    work: Callable[[], object],
    files: Collection[str | None],
    at: int,
    come: Callable[[], object],
    counts: Callable[[FrameType], bool] = lambda frame: True,
) -> int:
    """Do `work`, with come() before its at-th instruction in the code of those files; how many there were.

    counts(frame), asked before each, says which are counted. No more are once it has come.
    """
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and counts(frame):
            seen += 1
            if seen == at + 1:
                sys.settrace(None)
                come()
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return seen
