"""Every piece of Python in docs/python.md and README.md runs, from top to bottom, as a reader would."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq import errors
from edgeq.converters import convert
from tests.golden import gguf_checkpoint, reference

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = (
    "{% for m in messages %}"
    "{{ 'Once upon a time' if m['role'] == 'assistant' }}{{ m['content'] }}\n"
    "{% endfor %}Once upon a time"
)


def blocks(name: str) -> Iterator[tuple[int, str]]:
    """(line, source) of each piece of Python in a document."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S):
        yield text.count("\n", 0, match.start(1)), match[1]


@pytest.fixture
def folder(tmp_path: Path, demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page says is there: the bundled model as a chat model, a text, models that give vectors."""
    checkpoint = tmp_path / "checkpoint-dir"
    shutil.copytree(demo_checkpoint, checkpoint)
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    convert(checkpoint, tmp_path / "model.edgeq", scheme="q8")
    shutil.copy(tmp_path / "model.edgeq", tmp_path / "qwen3.edgeq")
    model = reference.load(demo_checkpoint)
    words = gguf_checkpoint.vocabulary(demo_checkpoint, model.config["vocab_size"])
    rounded = gguf_checkpoint.rounded("q8_0")
    gguf_checkpoint.write(tmp_path / "model-Q8_0.gguf", model, rounded, words, TEMPLATE)
    for name in ("embedding", "reranker"):
        convert(ROOT / "tests/golden/vectors" / name, tmp_path / f"{name}.edgeq", scheme="q8")
    (tmp_path / "text.txt").write_text((ROOT / "edgeq/calibrate/text/stories.txt").read_text()[:20_000])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_every_piece_of_python_runs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    found = list(blocks(name))
    for line, source in found:
        if "tool_choice=" in source or "schema=" in source:
            pytest.importorskip("llguidance", reason=f"{name}:{line} needs edgeq[grammar]")
        exec(compile("\n" * line + source, str(ROOT / name), "exec"), names)
    assert found and capsys.readouterr().out


def test_every_kind_of_error_is_told_of() -> None:
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    kinds = {
        kind.__name__ for kind in errors.EdgeqError.__subclasses__() if kind.__module__ == errors.__name__
    }
    assert kinds <= set(re.findall(r"^\| `(\w+Error)` \|", text, re.M))
