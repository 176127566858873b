"""The engine against transformers: tiny random checkpoints of every family, and a trained model's words."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import reference

HERE = Path(__file__).parent
FAMILIES = sorted(path.name for path in (HERE / "families").iterdir())
BY_HAND = ("llama", "llama-tied", "llama-3-rope", "mistral", "qwen2", "qwen3")  # in reference.py, too
TOLERANCE = 1e-4  # of the largest logit
STORY_IDS = [1, 403, 407, 261, 378]  # "Once upon a time"
STORY_NEXT = [432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338,
              401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265, 282]  # fmt: skip


def golden(name: str) -> tuple[list[int], Any]:
    """(ids, logits [len(ids), vocab]) that transformers gave."""
    directory = HERE / "families" / name
    return np.load(directory / "ids.npy").tolist(), np.load(directory / "logits.npy")


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference, as a fraction of the largest logit."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", BY_HAND)
def test_reference(name: str) -> None:
    ids, logits = golden(name)
    assert distance(reference.logits(reference.load(HERE / "families" / name), ids), logits) < 1e-5


# What each golden must notice: (family, changed config keys, tensors left out).
DETAILS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "the base of the rotation": ("llama", {"rope_theta": 2e4}, None),
    "the slowed frequencies": ("llama-3-rope", {"rope_scaling": None}, None),
    "the window": ("mistral", {"sliding_window": None}, None),
    "the window's first position": ("mistral", {"sliding_window": 17}, None),
    "the biases": ("qwen2", {}, "v_proj.bias"),
    "the window that is switched off": ("qwen2", {"use_sliding_window": True}, None),
    "the query's norm": ("qwen3", {}, "q_norm.weight"),
    "the key's norm": ("qwen3", {}, "k_norm.weight"),
    "epsilon": ("llama-tied", {"rms_norm_eps": 1e-3}, None),
}


@pytest.mark.parametrize("detail", DETAILS)
def test_golden_notices(detail: str) -> None:
    """A wrong detail moves the logits well past the tolerance, so that passing means something."""
    family, changed, left_out = DETAILS[detail]
    ids, logits = golden(family)
    model = reference.load(HERE / "families" / family)
    weights = {name: x for name, x in model.weights.items() if not (left_out and name.endswith(left_out))}
    assert len(weights) < len(model.weights) or any(model.config[key] != changed[key] for key in changed)
    wrong = dataclasses.replace(model, config=model.config | changed, weights=weights)
    assert distance(reference.logits(wrong, ids), logits) > 10 * TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_engine(name: str, tmp_path: Path) -> None:
    import edgeq
    from edgeq.converters import convert

    ids, logits = golden(name)
    convert(HERE / "families" / name, tmp_path / "model.edgeq", scheme="f32")
    with edgeq.load(tmp_path / "model.edgeq", kv="f32", act="f32") as model:
        ours = model.logits(ids)
    assert ours.shape == logits.shape and ours.dtype == np.float32
    assert distance(ours, logits) < TOLERANCE


def test_reference_story(demo_checkpoint: Path) -> None:
    assert reference.greedy(reference.load(demo_checkpoint), STORY_IDS, len(STORY_NEXT)) == STORY_NEXT


def test_engine_story(tmp_path: Path, demo_checkpoint: Path) -> None:
    import edgeq
    from edgeq.converters import convert

    convert(demo_checkpoint, tmp_path / "model.edgeq", scheme="f32")
    with edgeq.load(tmp_path / "model.edgeq", kv="f32", act="f32") as model:
        assert model.tokenizer.encode("Once upon a time") == STORY_IDS
        sequence, ids = model.sequence(), list(STORY_IDS)
        logits = sequence.feed(ids)
        for _ in STORY_NEXT:
            ids.append(int(logits.argmax()))
            logits = sequence.feed(ids[-1:])
        assert ids[len(STORY_IDS) :] == STORY_NEXT
        assert distance(logits, model.logits(ids)[-1]) == 0  # a token at a time is the same as all at once


def test_what_turned_otherwise_is_not_taken_for_the_same(tmp_path: Path) -> None:
    """Phi-3's frequencies go by how long a context is; so do the keys of a prompt kept in a folder."""
    from edgeq.converters import convert
    from edgeq.engine import Model
    from edgeq.reuse import prefixes_of

    convert(HERE / "families" / "phi3", tmp_path / "model.edgeq", scheme="f32")
    told = []
    for context in (20, 32, 33, 128):
        with Model(tmp_path / "model.edgeq", context=context, threads=1) as model:
            assert model.config.table(context) == ("rope" if context <= 32 else "rope.long")
            told.append(prefixes_of(model, tmp_path / "kept", None, True).folder)
    identities = [folder.identity for folder in told if folder is not None]
    assert identities[0] == identities[1] != identities[2] == identities[3]
