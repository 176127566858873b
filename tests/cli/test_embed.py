"""edgeq embed and edgeq rerank on tiny models."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from edgeq.cli import run_command
from edgeq.converters import convert

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "vectors"
EXACT = ["--kv", "f32", "--act", "f32", "-t", "1", "-q"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("embedding", "reranker"):
        convert(GOLDEN / name, folder / f"{name}.edgeq", scheme="f32")
    (folder / "lines.txt").write_text("Explain gravity\n\nThe capital of China is Beijing.\n")
    return {name: str(folder / name) for name in ("embedding.edgeq", "reranker.edgeq", "lines.txt")}


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run_command(words) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_table(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "embed", files["embedding.edgeq"], "One\x1b text", "-f", files["lines.txt"], *EXACT)
    lines = out.splitlines()
    assert "64 numbers" in lines[0] and lines[2].startswith("2  Explain gravity")
    assert "\x1b" not in lines[1]
    assert lines[5].split() == ["similarity", "1", "2", "3"] and lines[6].split()[1] == "1.000"


def test_json_and_a_file_of_numpy(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    npy = tmp_path / "vectors.npy"
    words = ["-m", files["embedding.edgeq"], "What is the capital of China?", "--prompt", "query"]
    answer = json.loads(said(capsys, "embed", *words, "--json", "--npy", str(npy), *EXACT))
    vector = np.array(answer["embeddings"][0]["embedding"], np.float32)
    assert answer["width"] == 64 and (np.load(npy) == vector[None]).all()
    with np.load(GOLDEN / "embedding" / "expected.npz") as theirs:
        assert np.abs(vector - theirs["query"][0]).max() < 1e-5
    assert said(capsys, "embed", *words, "--raw", "--dimensions", "3", "--npy", str(npy), *EXACT) == ""
    assert np.load(npy).shape == (1, 3) and abs(np.linalg.norm(np.load(npy)) - 1) > 1e-3


def test_stdin(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\r\nb\n"), encoding="utf-8"))
    answer = json.loads(said(capsys, "embed", files["embedding.edgeq"], "-f", "-", "--json", *EXACT))
    assert [each["text"] for each in answer["embeddings"]] == ["a", "b"]


def test_documents_in_order(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rerank", files["reranker.edgeq"], "What is the capital of China?", "x"]
    words += ["-f", files["lines.txt"], *EXACT]
    answer = json.loads(said(capsys, *words, "--json"))
    assert [row["index"] for row in answer["results"]] == [1, 2, 0]
    assert answer["results"][0]["document"] == "Explain gravity"
    lines = said(capsys, *words, "--top", "2").splitlines()
    assert len(lines) == 3 and lines[1].split()[:3] == ["0.3463", "2", "Explain"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["embed", "MODEL"], "no text is given"),
        (["embed"], "no model is given"),
        (["embed", "MODEL", "a", "--prompt", "no"], "no prompt 'no'"),
        (["embed", "MODEL", "a" * 200], "--truncate"),
        (["rerank", "MODEL"], "no query is given"),
        (["rerank", "MODEL", "a"], "no document is given"),
        (["rerank", "MODEL", "a", "b"], "not made to rank"),
    ],
)
def test_wrong_usage(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    words = [files["embedding.edgeq"] if word == "MODEL" else word for word in words]
    assert run_command([*words, "-q"]) == 2
    assert told in capsys.readouterr().err
