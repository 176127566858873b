"""A line on stderr that moves while a model is silent, so that nobody takes it for dead."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from edgeq.cli import terminal

PATIENCE_S = 0.4  # of silence, before there is a line
TICK_S = 0.2


class Working:
    """A context: what `says` was told last stands on the line, with the seconds since, until `hide`.

    Nothing is shown where stderr is no terminal.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._status = terminal.Status(quiet)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._text = ""
        self._since = time.monotonic()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Working:
        if not self._text:
            self.says("waiting for the model")
        if self._status.moves:
            self._thread = threading.Thread(target=self._tick, name="edgeq-working", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self.hide()

    def says(self, text: str) -> None:
        """What the model is doing; shown with the next tick."""
        with self._lock:
            if not self._text:
                self._since = time.monotonic()
            self._text = text

    def reads(self, done: int, total: int) -> None:
        """The progress of a prompt, in tokens."""
        self.says(f"reading: {done} of {total} tokens")

    def hide(self) -> None:
        """Something else is about to be written."""
        with self._lock:
            if self._text:
                self._status.clear()
            self._text = ""

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            with self._lock:
                seconds = time.monotonic() - self._since
                if self._text and seconds >= PATIENCE_S:
                    self._status.show(f"{self._text}... {seconds:.0f} s")
