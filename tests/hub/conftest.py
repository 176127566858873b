"""A local hub with two repositories, and a cache of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.hub import client, reasons
from tests.hub.server import Hub, Repository, serving
from tests.patience import STUCK_S

GGUF = {
    f"m-{kind}.gguf": f"GGUF of type {kind} ".encode() * 40_000
    for kind in ("Q8_0", "Q4_K_M", "Q4_0", "UD-Q4_K_M")
}
PARTS = {f"Q6_K/m-Q6_K-0000{number}-of-00002.gguf": b"part %d" % number for number in (1, 2)}


@pytest.fixture(scope="session")
def session() -> Iterator[None]:
    """One session of the client for all tests, which asks no proxy: to make one takes a tenth of a second."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        huggingface_hub.close_session()
        huggingface_hub.get_session()
        yield
        huggingface_hub.close_session()


@pytest.fixture
def hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_checkpoint: Path, session: None
) -> Iterator[Hub]:
    """o/story is a checkpoint beside what nobody wants, o/story-GGUF has GGUF files only."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in (client.FACTS, client.BYTES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(reasons, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(client, "ANSWER_S", float(STUCK_S))
    monkeypatch.chdir(tmp_path)
    files = {path.name: path.read_bytes() for path in sorted(demo_checkpoint.iterdir())}
    files |= {"pytorch_model.bin": b"pickle", "onnx/model.json": b"{}", ".gitattributes": b""}
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.endpoint)
        found.repositories = {"o/story": Repository(files), "o/story-GGUF": Repository({**GGUF, **PARTS})}
        yield found
