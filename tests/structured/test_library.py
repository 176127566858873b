"""Work that may take only so much of a processor."""

from __future__ import annotations

import threading
import time

import pytest

from edgeq.errors import UsageError
from edgeq.structured.library import limited


def test_work_without_end_is_given_up() -> None:
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            pass

    with pytest.raises(UsageError, match="a test takes more than 0.05 s to compile"):
        limited(work, "a test", 0.05)
    over.set()


def test_waiting_is_no_work() -> None:
    def waits() -> int:
        time.sleep(0.2)
        return 7

    assert limited(waits, "a test", 0.1) == 7


def test_errors_come_through_and_parts_of_work_count_as_a_part() -> None:
    def fails() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        limited(fails, "a test")
    threads = limited(lambda: limited(threading.get_ident, "a part") == threading.get_ident(), "a test")
    assert threads and limited(threading.get_ident, "a test") != threading.get_ident()
