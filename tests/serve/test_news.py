"""The wait of a stream, on a loop whose clock the tests move."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

from edgeq.serve.news import News


class Still(selectors.DefaultSelector):
    """Where the loop would wait, its clock goes on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


def run(test: Callable[[asyncio.AbstractEventLoop, News], Awaitable[None]]) -> None:
    selector = Still()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(test(loop, News()))
    finally:
        loop.close()


def test_a_wait_ends_with_news_or_with_its_time() -> None:
    async def test(loop: asyncio.AbstractEventLoop, news: News) -> None:
        assert not await news.wait(5.0) and loop.time() == 5.0
        loop.call_at(7.0, news.set)
        assert await news.wait(10.0) and loop.time() == 7.0
        assert await news.wait(10.0) and loop.time() == 7.0  # they are there until they are cleared
        news.clear()
        assert not await news.wait(10.0) and loop.time() == 10.0

    run(test)


def test_an_end_may_move_either_way() -> None:
    async def test(loop: asyncio.AbstractEventLoop, news: News) -> None:
        for n in range(100):  # each wait ends later than the one before
            loop.call_at(n + 1.0, news.set)
            assert await news.wait(loop.time() + 15.0)
            news.clear()
        assert loop.time() == 100.0
        assert not await news.wait(115.0) and loop.time() == 115.0
        loop.call_at(116.0, news.set)
        assert await news.wait(1000.0)
        news.clear()
        assert not await news.wait(120.0) and loop.time() == 120.0

    run(test)


def test_whoever_is_cancelled_leaves_nothing_behind() -> None:
    async def test(loop: asyncio.AbstractEventLoop, news: News) -> None:
        waiting = asyncio.ensure_future(news.wait(5.0))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        news.set()
        assert await news.wait(9.0) and loop.time() == 1.0
        news.close()
        await asyncio.sleep(50)

    run(test)
