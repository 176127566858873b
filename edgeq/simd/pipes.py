"""Pipes to a process that this one starts: what they must not take, and what their end must not do."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def standard_descriptors_taken() -> Iterator[None]:
    """No pipe that is made meanwhile gets the number 0, 1 or 2 where these are closed: others would read and
    write there.
    """
    taken: list[int] = []
    try:
        while not taken or taken[-1] < 3:
            taken.append(os.open(os.devnull, os.O_RDWR))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


@contextlib.contextmanager
def no_signal_of_pipes() -> Iterator[None]:
    """No SIGPIPE ends this process, as programs want it of their own output, when a compiler has ended."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            if signal.SIGPIPE in signal.sigpending():
                signal.sigwait({signal.SIGPIPE})
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
