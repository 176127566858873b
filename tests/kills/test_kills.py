"""A few lives of a server, each ended by kill -9."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra edgeq[serve] is not installed")

from tests.kills.run import Lives  # noqa: E402
from tests.serve.spawned import demo  # noqa: E402


def test_killed_and_started_again(tmp_path: Path) -> None:
    lives = Lives(demo(tmp_path), tmp_path)
    for _ in range(3):
        lives.life()
    assert not lives.wrong
    assert lives.seen["streams broken off"] and lives.seen["tokens of the cache"]
