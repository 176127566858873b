"""The kind of KV cache that a file names: who writes it there, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.cli import cachekind as command
from edgeq.errors import EdgeqError
from edgeq.evaluate import cachekind
from edgeq.formats import open_model, verify
from tests.cli.conftest import Call


def named(path: Path) -> object:
    with open_model(path) as file:
        return file.header.get("cache")


def test_convert_writes_the_kind_that_is_asked_for(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.edgeq"
    words = "convert", str(demo_checkpoint), "-o", str(path), "--json"
    result = call(*words, "--kv", "q8_0", "--kv", "v=q4_0")
    assert result.code == 2 and "one kind of KV cache is needed, but q8 and q4" in result.err
    result = call(*words, "--kv", "k8v4")
    assert result.code == 0 and json.loads(result.out)["kv"] == "k8v4"
    assert named(path) == {"kind": "k8v4"} and verify(path) == []
    assert "k8v4, " in call("show", str(path)).out
    assert json.loads(call("show", str(path), "--json").out)["cache"]["kind"] == "k8v4"


def test_a_model_with_plain_keys_is_not_asked(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.edgeq"
    result = call("convert", str(demo_checkpoint), "-o", str(path), "--json")
    assert json.loads(result.out)["kv"] == "q8" and named(path) is None


def test_what_keys_need_is_told_and_written(
    call: Call, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cachekind.Choice("f16", {"q8": 0.5, "f16": 0.00012345}, 256, "00")
    asked = []

    def choose(path: Path, text: str, load: object) -> cachekind.Choice:
        asked.append(text)
        return found

    monkeypatch.setattr(cachekind, "choose", choose)
    monkeypatch.setattr(cachekind, "asks", lambda file: True)
    path = tmp_path / "m.edgeq"
    result = call("convert", str(demo_checkpoint), "-o", str(path))
    assert result.code == 0 and len(asked) == 1 and asked[0] == command.text()
    assert "the KV cache is f16 unless --kv is given, q8 0.5000 nats, f16 0.0001 nats from" in result.err
    assert named(path) == {
        "kind": "f16", "divergence": {"q8": 0.5, "f16": 0.000123}, "bound": cachekind.BOUND, "tokens": 256,
        "text_sha256": "00",
    }  # fmt: skip


def test_the_text_is_long_enough_and_of_several_domains() -> None:
    assert 4000 < len(command.text().encode()) < 9000


def test_nothing_has_the_name_before_it_is_settled(
    call: Call, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays where keys cannot be tried, or the word that they need cannot be written."""
    path = tmp_path / "m.edgeq"
    path.write_bytes(b"old")
    words = "convert", str(demo_checkpoint), "-o", str(path), "--force"
    seen = []

    def choose(whole: Path, text: str, load: object) -> cachekind.Choice:
        seen.append((path.read_bytes(), verify(whole)))
        if len(seen) == 1:
            raise EdgeqError("not enough memory")
        return cachekind.Choice("not a kind" * (2 << 20), {}, 256, "00")

    monkeypatch.setattr(cachekind, "choose", choose)
    monkeypatch.setattr(cachekind, "asks", lambda file: True)
    assert "not enough memory" in call(*words).err
    assert "header needs 2" in call(*words).err
    assert seen == [(b"old", [])] * 2
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
