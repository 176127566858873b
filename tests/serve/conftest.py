"""Servers in this process, on a free port, over the bundled model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra edgeq[serve] is not installed")

from tests.serve.live import TEMPLATE, Live  # noqa: E402

Start = Callable[..., Live]


@pytest.fixture(scope="session")
def served_file(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Path:
    """The stories260K model as an .edgeq file."""
    from edgeq.converters import convert

    path = tmp_path_factory.mktemp("served") / "stories.edgeq"
    convert(demo_checkpoint, path, scheme="q4")
    return path


@pytest.fixture(scope="session")
def model(served_file: Path) -> Iterator[Any]:
    import edgeq

    with edgeq.load(served_file, threads=1) as model:
        yield model


@pytest.fixture
def start(model: Any) -> Iterator[Start]:
    """start(**settings) is a server of the model; all are ended with the test."""
    servers: list[Live] = []

    def start(**settings: Any) -> Live:
        servers.append(Live(model, **{"template": TEMPLATE, **settings}))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def live(model: Any) -> Iterator[Live]:
    """One server for the tests of a module that leave it as it is."""
    server = Live(model, template=TEMPLATE)
    yield server
    server.stop()
