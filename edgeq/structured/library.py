"""The library that turns grammars into masks, imported when the first grammar is given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from edgeq.errors import UsageError

COMPILE_SECONDS_MAX = 1.0  # of a processor's time, for one grammar
LEXER_STATES_MAX = 50_000  # about 1.5 kB each
LOOK_SECONDS = 0.02  # between two looks at the clock of a thread that compiles

T = TypeVar("T")
_within = threading.local()  # `limited`: whether this thread's time is limited


def library() -> Any:
    """The module llguidance. UsageError where it is not installed."""
    try:
        import llguidance
    except ImportError:
        raise UsageError(
            "an answer is held to a grammar by the package llguidance, which is not installed: "
            "pip install 'edgeq[grammar]'"
        ) from None
    return llguidance


def limits() -> Any:
    """What a grammar may cost while it is compiled and while a mask is made."""
    return library().LLParserLimits(max_lexer_states=LEXER_STATES_MAX, verbose_errors=False)


def limited(work: Callable[[], T], what: str, seconds: float = COMPILE_SECONDS_MAX) -> T:
    """What work() gives, done in a thread of its own; UsageError once that has had so much of a processor.

    Its own time counts and not the clock's, so that what else the machine does refuses no grammar. A thread
    that is given up goes on until the library's own limits end it. Within such work, more of it counts as a
    part.
    """
    if getattr(_within, "limited", False):
        return work()
    found: list[T] = []
    failed: list[BaseException] = []
    clocks: list[int] = []
    done = threading.Event()

    def run() -> None:
        _within.limited = True
        try:
            if hasattr(time, "pthread_getcpuclockid"):
                clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
            found.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    begun = time.monotonic()
    threading.Thread(target=run, name="edgeq-grammar", daemon=True).start()
    while not done.wait(LOOK_SECONDS):
        if _spent(clocks, begun) > seconds:
            raise UsageError(f"{what} takes more than {seconds:g} s to compile: a simpler one is needed")
    if failed:
        raise failed[0]
    return found[0]


def _spent(clocks: list[int], begun: float) -> float:
    """Seconds of a processor that a thread has had; the clock's, where the system has none for threads."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic() - begun
    try:
        return time.clock_gettime(clocks[0]) if clocks else 0.0
    except OSError:  # the thread ended meanwhile
        return 0.0
