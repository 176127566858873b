"""A short soak: every kind of request once and more, each judged, and nothing but memory grows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra edgeq[serve] is not installed")

from tests.serve.spawned import Spawned, demo  # noqa: E402
from tests.soak.run import CACHE, WORDS, Held, Soak, judged, slope  # noqa: E402

ROUND = 60  # requests


def test_a_few_rounds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cache = ("--prompt-cache", str(tmp_path / "cache"), *CACHE)
    server = Spawned(demo(tmp_path), log, *WORDS, *cache)
    try:
        soak = Soak(server, clients=4)
        for _ in range(2):
            held = soak.round(lambda done: done < ROUND)
        assert not soak.wrong and not soak.faults(log)
        assert held.requests == 2 * ROUND and held.cache <= 6_000_000
        assert server.end() == 0
    finally:
        server.kill()


def test_what_grows_is_told() -> None:
    still = [Held(1000 * n, 50_000_000 + n % 3, 100, 9 + n % 2, 5) for n in range(20)]
    assert judged(still) == []
    grows = [Held(1000 * n, 2_000_000 * n, 100 * n, 9 + n, 5 + n) for n in range(20)]
    assert slope(grows) == pytest.approx(2000)
    assert [problem.split()[0] for problem in judged(grows)] == ["each", "descriptors", "threads", "pages"]
