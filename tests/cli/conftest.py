"""A command in this process with a fake model, or in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.cli import run_command
from tests.cli import fakes


@dataclass
class Result:
    code: int
    out: str
    err: str
    models: list[fakes.Model]


Call = Callable[..., Result]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """call("run", "-p", ...) runs a command line; `edgeq.load` gives fake models, which the result lists."""
    models: list[fakes.Model] = []

    def load(path: Path, **options: Any) -> fakes.Model:
        assert callable(options.pop("progress"))
        models.append(fakes.Model(path, **options))
        return models[-1]

    def call(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = run_command(arguments)
        out, err = capsys.readouterr()
        return Result(code, out, err, models)

    monkeypatch.setattr(edgeq, "load", load, raising=False)
    return call


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that stands for a model; only the fake engine opens it."""
    path = tmp_path / "fake.edgeq"
    path.write_bytes(b"not read")
    return str(path)


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Path:
    """The demo checkpoint as a real q8 .edgeq file."""
    from edgeq.converters import convert

    path = tmp_path_factory.mktemp("story") / "story.edgeq"
    convert(demo_checkpoint, path, scheme="q8")
    return path
