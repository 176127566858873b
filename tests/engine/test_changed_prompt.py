"""The cache after a prompt that changed in its middle, or was cut: the bits of a fresh start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.converters import convert
from edgeq.generate import remaining
from tests.converters.checkpoints import config, weights, write_directory

# with and without a sliding window: far smaller than the prompt, its exact size, and one less
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen3": ("qwen3", {}),
    "window-8": ("mistral", {"sliding_window": 8}),
    "window-119": ("mistral", {"sliding_window": 119}),
    "window-120": ("mistral", {"sliding_window": 120}),
}


@pytest.mark.parametrize("kv", ["q8", "f32"])
@pytest.mark.parametrize("name", MODELS)
def test_a_changed_prompt_and_a_cut_one(tmp_path: Path, name: str, kv: str) -> None:
    kind, words = MODELS[name]
    settings = config(kind, **words)
    source = write_directory(tmp_path / name, settings, weights(settings))
    convert(source, tmp_path / "model.edgeq", scheme="q8")
    first = np.random.default_rng(9).integers(3, 50, 120).tolist()
    second = [*first[:37], 5, *first[40:110]]
    with engine.load(tmp_path / "model.edgeq", threads=2, kv=kv) as model:
        sequence, fresh = model.sequence(), model.sequence()
        sequence.feed(first)
        changed = sequence.feed(remaining(sequence, second))
        assert sequence.ids == second
        np.testing.assert_array_equal(changed.view(np.uint32), fresh.feed(second).view(np.uint32))
        sequence.truncate(3)
        cut = sequence.feed(second[3:9])
        fresh.truncate(0)
        np.testing.assert_array_equal(cut.view(np.uint32), fresh.feed(second[:9]).view(np.uint32))
