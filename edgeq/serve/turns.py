"""The one thread in which all models step, and who of them is next.

Steps of two models at once would halve each other's processors and memory; so they take turns by the time
that their steps took. The threads of a model that does not step sleep.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol

IDLE_S = 0.25  # between looks at texts none of which can move


class Steps(Protocol):
    """A model's texts, as their turn sees them."""

    used: float  # seconds of steps, by which turns are given

    @property
    def idle(self) -> bool:
        """Whether there is nothing to step."""

    def step(self) -> bool:
        """One step; False where nothing can move."""


class Turns:
    """crashed(error) is called in the loop when a step fails as a whole, which is a fault: nothing is
    computed after it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        crashed: Callable[[BaseException], object] = lambda error: None,
    ) -> None:
        self._loop, self._crashed = loop, crashed
        self._all: list[Steps] = []
        self._awake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="edgeq-serve-engine", daemon=True)

    def join(self, steps: Steps) -> None:
        """Give turns to one more, before `start`."""
        self._all.append(steps)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be something to step. Any thread."""
        self._awake.set()

    def stop(self) -> None:
        """Wait for the step under way, which is the last."""
        self._stop = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Let the loop call a function."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has ended: nobody is there to hear of it
            self._stop = True

    def _run(self) -> None:
        try:
            while not self._stop:
                if all(steps.idle for steps in self._all):
                    self._awake.wait()
                self._awake.clear()
                if not self._next() and not all(steps.idle for steps in self._all):
                    self._awake.wait(IDLE_S)  # somebody has to move
        except BaseException as error:
            self.call(self._crashed, error)

    def _next(self) -> bool:
        """A step of the one with the least time, of those that can move; False where none can. Whoever had
        nothing to do saves up no time by that."""
        waited: list[Steps] = []
        for steps in sorted(self._all, key=lambda each: each.used):
            before = steps.used
            if steps.idle or not steps.step():
                waited.append(steps)
                continue
            for each in waited:
                each.used = max(each.used, before)
            return True
        return False
