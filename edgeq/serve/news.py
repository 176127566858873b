"""A wait that many short ones are made of: for what comes with each step of the model, or for a time."""

from __future__ import annotations

import asyncio


class News:
    """As an `asyncio.Event` with one waiter, whose waits may have an end. An end that moves on with each wait
    moves no timer: the one there is looks, when its time has come, whether it is still wanted then.
    """

    def __init__(self) -> None:
        self.there = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end: float | None = None  # of the wait under way

    def set(self) -> None:
        self.there = True
        self._wake()

    def clear(self) -> None:
        self.there = False

    async def wait(self, end: float | None = None) -> bool:
        """Until there are news, or until a time of the loop's clock; whether there are."""
        if not self.there:
            loop = asyncio.get_running_loop()
            self._waiter, self._end = loop.create_future(), end
            if end is not None and (self._timer is None or self._timer.when() > end):
                self.close()
                self._timer = loop.call_at(end, self._look)
            try:
                await self._waiter
            finally:
                self._waiter = self._end = None
        return self.there

    def close(self) -> None:
        """No timer is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        assert self._timer is not None
        due, self._timer = self._timer.when(), None
        if self._end is not None and self._end > due:
            self._timer = asyncio.get_running_loop().call_at(self._end, self._look)
        elif self._end is not None:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
