"""`async for` over what is computed: each step in a thread of its own, so that the event loop goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from asyncio import Future

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Steps(Protocol[T_co]):
    """An iterator that any thread can cancel."""

    def __next__(self) -> T_co: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


async def in_threads(steps: Steps[T]) -> AsyncGenerator[T, None]:
    """What the steps give. However it ends, they are closed; cancelled (by the task, a time limit, the end of
    the program), it waits until the step under way is broken off, a fraction of a second."""
    import asyncio  # 50 ms, which a program that does not use it saves

    loop = asyncio.get_running_loop()
    work: Future[T | None] | None = None
    try:
        while True:
            work = loop.run_in_executor(None, _next, steps)
            if (step := await asyncio.shield(work)) is None:
                return
            yield step
    finally:
        if work is None or work.done():
            steps.close()
        else:
            steps.cancel()
            work.add_done_callback(lambda work: _abandoned(work, steps))  # also where the wait is cancelled
            await asyncio.wait([work])


def _abandoned(work: Future[T | None], steps: Steps[T]) -> None:
    """After a step whose piece nobody takes."""
    work.exception()  # which nobody is left to hear of
    steps.close()


def _next(steps: Steps[T]) -> T | None:
    """None at the end: no future can hold a StopIteration."""
    try:
        return steps.__next__()
    except StopIteration:
        return None
