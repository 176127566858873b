"""Gemma 4's words: which layers are what, and which tensors they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import models
from edgeq.cache import LayerShape
from edgeq.converters import convert
from edgeq.converters.huggingface import open_directory
from edgeq.errors import FormatError, UnsupportedError
from edgeq.models.gemma4 import Config
from edgeq.quantize.pipeline import quantize
from tests.converters.checkpoints import write_directory
from tests.golden import reference
from tests.models.test_refusals import FOLDERS, from_hf


def settled(name: str = "gemma4", **changes: Any) -> Config:
    found = from_hf(name, **changes)
    assert isinstance(found, Config)
    return found


def test_layers() -> None:
    """Each that keeps nothing reads what the last one of its kind keeps."""
    c = settled()
    assert (c.keeping, c.apart) == (4, False)
    sliding, whole = LayerShape(2, 24, 16), LayerShape(1, 40)
    owners = [sliding._replace(owner=2), sliding._replace(owner=2), whole._replace(owner=3)]
    assert list(c.cache_layers()) == [sliding, whole, sliding, whole, *owners]
    names = {want.name for want in models.expected("gemma4", c)}
    assert {f"blocks.{i}.{letter}" for i, letter in ((0, "v"), (1, "k"), (2, "k"), (4, "q"))} <= names
    assert not {f"blocks.{i}.{letter}" for i, letter in ((1, "v"), (4, "k"), (4, "v"), (6, "k_norm"))} & names
    shapes = {want.name: want.shape for want in models.expected("gemma4", c)}
    assert shapes["blocks.3.gate"] == (52, 40) and shapes["blocks.4.gate"] == (104, 40)
    assert shapes["blocks.3.q"] == (160, 40) and shapes["blocks.4.q"] == (96, 40)
    assert settled("gemma4-mixture").apart


def test_the_last_layer_sees_everything() -> None:
    kinds = ["sliding_attention", "full_attention"] * 3
    assert settled(layer_types=[*kinds, "sliding_attention"]).layer_types[-1] == "full_attention"


def test_frequencies() -> None:
    """Of a head's halves the first pairs turn, as they do where all do."""
    words = {"model_type": "gemma4_text"}
    ropes = Config.ropes(words)
    whole, sliding = ropes["rope"].inverse_frequencies(512), ropes["rope.sliding"].inverse_frequencies(256)
    np.testing.assert_allclose(whole[:64], 1e6 ** (-np.arange(64) / 256), rtol=1e-6)
    assert whole.shape == (256,) and not whole[64:].any()
    np.testing.assert_allclose(sliding, 1e4 ** (-np.arange(128) / 128), rtol=1e-6)


def test_frequencies_of_a_part_of_a_head() -> None:
    """Such a rotation is of whole heads, which other families have or not."""
    scaling = {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e4, "factor": 2.0}
    found = from_hf("llama", rope_scaling=None, rope_theta=None, rope_parameters=scaling)
    assert found.rotary_size == 8
    with pytest.raises(UnsupportedError, match="frequencies for a part of a head"):
        from_hf("glm4", rope_parameters=scaling)


def test_heads_layer_by_layer() -> None:
    """As transformers writes them, and as they are published."""
    full = {"1": {"head_dim": 40, "num_key_value_heads": 1}}
    full |= dict.fromkeys(("3", "06"), full["1"])
    assert settled(per_layer_config=full, global_head_dim=77) == settled()
    assert settled(attention_k_eq_v=False).num_global_key_value_heads == 2


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"per_layer_config": {"1": {"head_dim": 40}}}, "per_layer_config is"),
        ({"per_layer_config": {"0": {"head_dim": 40}}}, "per_layer_config is"),
        ({"per_layer_config": {"1": {"sliding_window": 4}}}, "per_layer_config is"),
        ({"per_layer_config": {"all": {}}}, "per_layer_config is"),
        ({"num_kv_shared_layers": 7}, "num_kv_shared_layers is 7, but of each kind in layer_types"),
        ({"num_kv_shared_layers": 6}, "num_kv_shared_layers is 6, but of each kind in layer_types"),
        ({"num_global_key_value_heads": 3}, "num_global_key_value_heads is 3, but it must divide"),
        ({"global_head_dim": 41}, "global_head_dim is 41, but an even number"),
        ({"vocab_size_per_layer_input": 95}, "vocab_size_per_layer_input is 95, but at least vocab_size 96"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention is 'all'"),
        ({"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
        ({"rope_parameters": {"rope_type": "default"}}, "an object for each kind of layers is needed"),
        ({"enable_moe_block": True, "num_experts": 0}, "num_experts is 0, but at least 1 is needed"),
        ({"enable_moe_block": True}, "num_experts is null"),
    ],
)
def test_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(UnsupportedError, match=what.replace("(", "\\(")):
        settled(**changes)


def test_a_header_that_has_layers_without_owners() -> None:
    words = settled().to_header()
    for changes in ({"num_kv_shared_layers": 6}, {"vocab_size_per_layer_input": 1}, {"num_experts": 3}):
        with pytest.raises(FormatError):
            Config.from_header({**words, **changes})


def test_tensors_that_nothing_is_computed_from(tmp_path: Path) -> None:
    """Keys and values of layers that keep none, which some checkpoints have."""
    whole = reference.load(FOLDERS["gemma4"])
    names = [f"model.layers.5.self_attn.{part}.weight" for part in ("k_proj", "v_proj", "k_norm")]
    more = {name: np.ones((3, 3), np.float32) for name in names}
    found = open_directory(write_directory(tmp_path / "more", whole.config, whole.weights | more))
    assert found.tensors.keys() == open_directory(FOLDERS["gemma4"]).tensors.keys()
    kept = {name.replace("layers.5", "layers.2"): x for name, x in more.items()}
    with pytest.raises(FormatError, match=r"'model\.layers\.2\.self_attn\.k_proj\.weight' has shape"):
        open_directory(write_directory(tmp_path / "kept", whole.config, whole.weights | kept))


def test_layers_that_read_others_are_not_quantized_one_by_one(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="layers of this gemma4 read what others made"):
        quantize(FOLDERS["gemma4"], tmp_path / "out.edgeq")
    convert(FOLDERS["gemma4"], tmp_path / "out.edgeq", scheme="q4")
