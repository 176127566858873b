"""Links that lead outside a checkpoint's directory are refused, in every file of it, with a way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.converters import convert
from edgeq.errors import FormatError
from edgeq.formats import open_model
from edgeq.hub.choice import WANTED
from tests.converters.checkpoints import config, weights, write_directory


@pytest.fixture
def checkpoint(tmp_path: Path, demo_checkpoint: Path) -> Path:
    """A checkpoint with every kind of file."""
    words = config(vocab_size=512)
    folder = write_directory(tmp_path / "in", words, weights(words))
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (folder / name).write_bytes((demo_checkpoint / name).read_bytes())
    (folder / "added_tokens.json").write_text("{}")
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "generation_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


FILES = [
    "config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json", "added_tokens.json",
    "special_tokens_map.json", "generation_config.json", "chat_template.jinja",
]  # fmt: skip


def moved(checkpoint: Path, name: str) -> Path:
    """Move a file of the checkpoint out and leave a link; where it went."""
    outside = checkpoint.parent / "blobs" / "0" / name
    outside.parent.mkdir(parents=True, exist_ok=True)
    (checkpoint / name).rename(outside)
    (checkpoint / name).symlink_to(outside)
    return outside


@pytest.mark.parametrize("name", FILES)
def test_a_link_that_leads_outside_is_refused(name: str, checkpoint: Path, tmp_path: Path) -> None:
    outside = moved(checkpoint, name)
    with pytest.raises(FormatError, match=f"'{name}' is a link .*copy the file.*--follow-links"):
        convert(checkpoint, tmp_path / "out.edgeq")
    with pytest.raises(FormatError, match="--follow-links"):
        convert(checkpoint, tmp_path / "out.edgeq", follow_links=tmp_path / "other")
    convert(checkpoint, tmp_path / "out.edgeq", follow_links=outside.parent.parent)


def test_tokenizer_json_and_shards(checkpoint: Path, tmp_path: Path) -> None:
    from tests.tokenizer.test_splitting import blob

    (checkpoint / "tokenizer.json").write_bytes(blob())
    moved(checkpoint, "tokenizer.json")
    with pytest.raises(FormatError, match="'tokenizer.json' is a link"):
        convert(checkpoint, tmp_path / "out.edgeq")
    shard = "model-00001-of-00001.safetensors"
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "model.safetensors").rename(checkpoint / shard)
    words = config(vocab_size=512)
    places = dict.fromkeys(weights(words), shard)
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    convert(checkpoint, tmp_path / "out.edgeq")
    moved(checkpoint, shard)
    with pytest.raises(FormatError, match=f"'{shard}' is a link"):
        convert(checkpoint, tmp_path / "no.edgeq")


def test_a_hub_cache_links_to_its_blobs(checkpoint: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0abc"
    snapshot.parent.mkdir(parents=True)
    checkpoint.rename(snapshot)
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("../../blobs") / str(number))
    convert(snapshot, tmp_path / "out.edgeq")
    assert open_model(tmp_path / "out.edgeq").header["tokenizer"]["kind"] == "sentencepiece"


def test_every_file_that_the_hub_is_asked_for_is_covered() -> None:
    """A new kind of file comes with a line above."""
    assert set(WANTED) == {
        "*.safetensors", "*.json", "tokenizer.model", "tokenizer.model.v*", "*.jinja", "merges.txt",
        "vocab.txt", "README.md", "LICENSE*",
    }  # fmt: skip
