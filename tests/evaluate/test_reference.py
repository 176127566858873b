"""A reference that a file keeps: the same figures as its model's, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgeq.errors import EdgeqError, FormatError, UsageError
from edgeq.evaluate import Saved, divergence
from tests.fake_model import VOCAB, FakeModel

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 3
FILE = "a.reference"


def saved(folder: Path, text: str = TEXT, context: int = 64) -> Path:
    path = folder / FILE
    divergence(FakeModel(noise=0.3), FakeModel(), text, context=context, save=path)
    return path


def test_it_says_what_its_model_says(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert Saved.is_one(path) and not list(tmp_path.glob("*.partial"))
    for noise in (0.0, 0.3):
        kept = divergence(FakeModel(noise=noise), Saved(path), TEXT).to_json()
        fresh = divergence(FakeModel(noise=noise), FakeModel(), TEXT, context=64).to_json()
        floor = kept.pop("reference_floor")
        assert fresh.pop("reference_floor") is None and 0 < floor < 1e-6
        for name, wanted in fresh.items():
            if name == "seconds":
                continue
            if isinstance(wanted, float):
                bound = 1e-3 if name.startswith("difference") else 20 * floor
                assert kept[name] == pytest.approx(wanted, rel=2e-3, abs=bound), name
            else:
                assert kept[name] == wanted
        for exact in ("perplexity", "reference_perplexity", "perplexity_ratio", "agreement"):
            assert kept[exact] == fresh[exact]
        if not noise:
            assert kept["kld_mean"] == pytest.approx(floor, rel=1e-3)


def test_its_size_and_that_others_read_it(tmp_path: Path) -> None:
    path = saved(tmp_path)
    arrays = load_file(path)
    tokens = 3 * 31
    assert arrays["logprobs"].shape == (tokens, VOCAB) and arrays["logprobs"].dtype == np.float16
    assert arrays["ids"].shape == (3, 64) and len(arrays["loss"]) == len(arrays["likeliest"]) == tokens
    assert np.allclose(np.exp(arrays["logprobs"].astype(float)).sum(1), 1, atol=1e-2)


@pytest.mark.parametrize(("text", "context"), [(TEXT + " ", 63), (TEXT[1:], 64), (TEXT[:150], 64)])
def test_other_windows_are_refused(tmp_path: Path, text: str, context: int) -> None:
    with pytest.raises(UsageError, match="keeps what was said of 3 windows of 64 tokens"):
        divergence(FakeModel(), Saved(saved(tmp_path)), text, context=context)


def test_protocols(tmp_path: Path) -> None:
    path = tmp_path / FILE
    fresh = divergence(FakeModel(noise=0.3), FakeModel(), TEXT, context=64, protocol="gptq", save=path)
    kept = divergence(FakeModel(noise=0.3), Saved(path), TEXT, protocol="gptq")
    assert kept.tokens == fresh.tokens == 3 * 63 and kept.protocol == fresh.protocol
    assert kept.perplexity_ratio == fresh.perplexity_ratio
    with pytest.raises(UsageError, match="is of the protocol gptq, not llama.cpp"):
        divergence(FakeModel(), Saved(path), TEXT)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(UsageError, match="is a kept reference already"):
        divergence(FakeModel(), Saved(path), TEXT, save=tmp_path / "b")
    with pytest.raises(EdgeqError, match="cannot be written: No such file"):
        divergence(FakeModel(), FakeModel(), TEXT, context=64, save=tmp_path / "none" / "b")
    reference = FakeModel()
    reference.next_logits = lambda ids: np.full(VOCAB, np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(FormatError):
        divergence(FakeModel(), reference, TEXT, context=64, save=tmp_path / "b")
    assert [found.name for found in tmp_path.iterdir()] == [FILE]


def changed(raw: bytes, change: dict[str, Any] | None = None, about: dict[str, Any] | None = None) -> bytes:
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["__metadata__"] |= about or {}
    text = json.dumps(header | (change or {})).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


def entry(dtype: str, *shape: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [*shape], "data_offsets": [0, 1]}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: b"", "its header would have 0 bytes"),
        (lambda raw: raw[:4], "its header would have"),
        (lambda raw: raw[:100], "its header would have"),
        (lambda raw: b"\xff" * 8 + raw[8:], "its header would have 18446744073709551615 bytes"),
        (lambda raw: raw[:-1], "bytes are not what 3 windows of 64 take"),
        (lambda raw: raw + b"\0", "bytes are not what 3 windows of 64 take"),
        (lambda raw: raw.replace(b"{", b"[", 1), "the header of"),
        (lambda raw: changed(raw, about={"format": "edgeq reference 2"}), "its header does not say"),
        (lambda raw: changed(raw, about={"floor": 1}), "its metadata are not all texts"),
        (lambda raw: changed(raw, about={"protocol": "mine"}), "it does not say by which protocol"),
        (lambda raw: changed(raw, about={"protocol": "gptq"}), "bytes are not what 3 windows of 64 take"),
        (lambda raw: changed(raw, about={"floor": "low"}), "says 'low' of its floor"),
        (lambda raw: changed(raw, {"ids": 7}), "its arrays have no shapes"),
        (lambda raw: changed(raw, {"ids": entry("I64", 3, -64)}), "its arrays have no shapes"),
        (lambda raw: changed(raw, {"ids": entry("I64", 3, 1 << 60)}), "its arrays have no shapes"),
        (lambda raw: changed(raw, {"ids": entry("I64", 3)}), "its arrays are not those of windows"),
        (lambda raw: changed(raw, {"ids": entry("I64", 1 << 39, 1 << 39)}), "bytes are not what"),
        (lambda raw: changed(raw, {"ids": entry("F16", 3, 64)}), "bytes are not what 3 windows"),
        (lambda raw: changed(raw, {"more": entry("F16", 3, 64)}), "bytes are not what 3 windows"),
    ],
)
def test_files_that_are_none(tmp_path: Path, damage: Any, words: str) -> None:
    path = saved(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FormatError, match=words):
        Saved(path)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    path = saved(tmp_path)
    raw = path.read_bytes()
    for number in (np.nan, 1.0, -np.inf):
        path.write_bytes(raw[:-2] + np.float16(number).tobytes())
        with pytest.raises(FormatError, match="it has probabilities that are none"):
            divergence(FakeModel(), Saved(path), TEXT)
    path.unlink()
    assert not Saved.is_one(path)
    with pytest.raises(EdgeqError, match="cannot be read: No such file"):
        Saved(path)
