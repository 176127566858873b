"""Evaluation and generation on the engine: the bundled checkpoint against plain NumPy, a larger one where
there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.converters import convert
from edgeq.errors import UsageError
from edgeq.evaluate import divergence, measure, perplexity
from edgeq.evaluate.windows import cut, log_softmax
from edgeq.generate import remaining, stream
from edgeq.sampling import SamplingOptions
from tests.golden import reference

TEXT = (
    "Once upon a time there was a small boat. It lived by the big sea with a red bird. One day the bird "
    'said, "Let us go and see the sun." The boat was happy, and they went out to play in the water all day '
    "long. Then it began to rain. The bird was sad. They went home, and the next day the sun was back again. "
    'The bird and the boat were happy, and the bird said, "You are my best friend." They played every day.'
)
GREEDY = SamplingOptions(temperature=0)


@pytest.fixture(scope="module")
def demo(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The bundled checkpoint, everything in float32."""
    path = tmp_path_factory.mktemp("demo") / "demo.edgeq"
    convert(demo_checkpoint, path, scheme="f32")
    with edgeq.load(path, kv="f32", act="f32") as model:
        yield model


def test_perplexity_is_that_of_plain_numpy(demo: Any, demo_checkpoint: Path) -> None:
    found = perplexity(demo, TEXT, context=64)
    weights = reference.load(demo_checkpoint)
    losses = []
    for window in cut(demo, TEXT, 64).ids.tolist():
        rows = log_softmax(reference.logits(weights, window))
        losses += [-rows[place - 1, window[place]] for place in range(33, 64)]
    assert found.tokens == len(losses) > 50
    assert math.isclose(found.nll, float(np.mean(losses)), rel_tol=1e-5)
    assert 1 < found.perplexity < 100  # the text is of the kind that it was trained on


def test_the_model_does_not_diverge_from_itself_and_its_cache_little(demo: Any) -> None:
    same = divergence(demo, demo, TEXT, context=64)
    assert (same.kld_max, same.agreement) == (0, 1)
    with edgeq.load(demo.file.path, kv="q8", act="f32") as rounded:
        near = divergence(rounded, demo, TEXT, context=64)
    assert 0 < near.kld_mean < 5e-3 and abs(near.perplexity_ratio - 1) < 0.02  # heads of 8 are hard


def test_a_conversation_goes_on_in_its_cache(demo: Any) -> None:
    """Feeding what is new after what is held gives the ids of feeding everything."""
    with stream(demo, "Once upon a time", options=GREEDY, max_tokens=12) as first:
        list(first)
    own = demo.sequence()
    half = stream(demo, "Once upon a time", options=GREEDY, max_tokens=6, sequence=own)
    list(half)
    new = remaining(own, half.prompt_ids + half.ids)
    rest = stream(demo, new, options=GREEDY, max_tokens=6, sequence=own)
    list(rest)
    own.close()
    assert half.ids + rest.ids == first.ids
    assert first.text.startswith(half.text)


def test_text_ends_with_the_context_and_stop_strings_are_found(demo: Any) -> None:
    with edgeq.load(demo.file.path, context=24) as small:
        generation = stream(small, "Once upon a time", options=GREEDY)
        list(generation)
        assert generation.finish_reason == "length"
        assert len(generation.prompt_ids) + len(generation.ids) == 25
        with pytest.raises(UsageError, match="context holds 24"):
            stream(small, TEXT)
    whole = "".join(stream(demo, "Once upon a time", options=GREEDY, max_tokens=24))
    cut_off = stream(demo, "Once upon a time", options=GREEDY, max_tokens=24, stop="girl")
    assert "".join(cut_off) == whole[: whole.index("girl")] and cut_off.finish_reason == "stop"


def test_measure_on_a_real_model(demo: Any) -> None:
    row = measure(demo, prefill=32, decode=8, depth=16, repetitions=2)
    assert row.prefill and row.decode and row.decode.median > 1 and row.threads == demo.threads
    tensors = demo.file.tensors
    assert row.weight_bytes == sum(t.nbytes for name, t in tensors.items() if name != "tokenizer")  # tied


def test_the_int8_cache_costs_little_perplexity(data_dir: Path, tmp_path: Path) -> None:
    text = (data_dir / "text/wikitext-2-raw/wiki.test.raw").read_text(encoding="utf-8")[:20_000]
    path = tmp_path / "gutenberg.edgeq"
    convert(data_dir / "models/gutenberg-7m", path, scheme="q4")
    found = {}
    for kv in ("f32", "q8"):
        with edgeq.load(path, kv=kv) as model:
            found[kv] = perplexity(model, text)
    assert found["f32"].context == 512 and found["f32"].tokens == 13 * 255
    assert abs(found["q8"].perplexity / found["f32"].perplexity - 1) < 0.002
