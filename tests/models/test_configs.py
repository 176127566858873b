"""Configs: what is accepted with which defaults, and what is refused by key and value."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import pytest

from edgeq import models
from edgeq.errors import FormatError, UnsupportedError
from edgeq.models.rope import Rope
from tests.converters.checkpoints import config
from tests.models.bare import BARE

OTHERS = ("minicpm",)  # families whose classes are their authors'


def from_hf(words: dict[str, Any]) -> models.BaseConfig:
    result: models.BaseConfig = models.family(models.family_of(words)).Config.from_hf(words)
    return result


def without(*keys: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in config(**changes).items() if key not in keys}


@pytest.mark.parametrize(
    ("model_type", "family"),
    [("llama", "llama"), ("mistral", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")],
)
def test_family(model_type: str, family: str) -> None:
    words = config(model_type)
    assert models.family_of(words) == family
    assert models.family_of({"model_type": model_type}) == family
    assert models.family_of({"architectures": words["architectures"]}) == family
    settled = from_hf(words)
    assert models.family(family).Config.from_header(settled.to_header()) == settled


def test_defaults() -> None:
    settled = from_hf(
        without(
            "num_key_value_heads",
            "head_dim",
            "rms_norm_eps",
            "rope_theta",
            "tie_word_embeddings",
            "hidden_act",
        )
    )
    assert (settled.num_key_value_heads, settled.head_dim, settled.rms_norm_eps) == (4, 16, 1e-6)
    assert settled.tie_word_embeddings is False
    assert (settled.q_size, settled.kv_size, settled.rotary_size) == (64, 64, 8)
    nulls = from_hf(
        config(head_dim=None, num_key_value_heads=None, rope_scaling=None, quantization_config=None)
    )
    assert (nulls.num_key_value_heads, nulls.head_dim) == (4, 16)


def bare(model_type: str, **words: Any) -> dict[str, Any]:
    """A config.json with little but its model_type; numbers that checkpoints have as tensors are made up."""
    module = models.family(models.family_of({"model_type": model_type}))
    layers = module.Config.DEFAULTS[model_type]["num_hidden_layers"]
    numbers = {name: [0.5] * layers for name in getattr(module, "NUMBERS", {})}
    return {"model_type": model_type, **numbers, **words}


def pattern(layers: list[Any]) -> str:
    """What repeats, a letter for each layer."""
    letters = "".join({"sliding_attention": "L", "full_attention": "G"}.get(x, str(x)) for x in layers)
    repeats = (letters[:n] for n in range(1, len(letters) + 1))
    return next(part for part in repeats if letters == (part * len(letters))[: len(letters)])


def test_every_model_type_is_looked_at() -> None:
    assert {row[0] for row in models.huggingface_rows()} == BARE.keys()


BASE = [f.name for f in fields(models.BaseConfig) if f.name != "rope_factors"]


@pytest.mark.parametrize("model_type", BARE)
def test_an_absent_word_is_what_the_reference_takes(model_type: str) -> None:
    raw = bare(model_type)
    settled = from_hf(raw)
    words = {name: x for name, x in settled.to_header().items() if name not in raw}
    own = {name: pattern(x) if isinstance(x, list) else x for name, x in words.items() if name not in BASE}
    ropes = type(settled).ropes(raw)
    rotation = {name: r.theta if r.kind == "default" else (r.kind, r.theta) for name, r in ropes.items()}
    assert (tuple(words[name] for name in BASE), own, rotation) == BARE[model_type]


# Words beside which others may be absent, all of which the reference has a meaning for.
BESIDE: tuple[dict[str, Any], ...] = (
    {},
    {"rope_parameters": {"rope_type": "default"}},
    {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 3e5}},
    {"num_hidden_layers": 5},
    {"rms_norm_eps": 1e-3, "layer_norm_eps": 1e-3, "norm_eps": 1e-3, "vocab_size": 77},
)


@pytest.mark.parametrize("model_type", BARE)
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    """Held against the reference itself, where it is installed: what its class makes of some words means the
    same as these words alone.
    """
    transformers = pytest.importorskip("transformers")
    if model_type in OTHERS:
        pytest.skip("transformers has no class for it")
    config_class = type(transformers.AutoConfig.for_model(model_type))
    form = models.family(models.family_of({"model_type": model_type})).Config
    for beside in BESIDE:
        if "full_attention" in form.TABLES and "rope_parameters" in beside:
            kinds = ("full_attention", "sliding_attention")
            beside = {"rope_parameters": {kind: dict(beside["rope_parameters"]) for kind in kinds}}
        numbers = {name: x[: beside.get("num_hidden_layers")] for name, x in bare(model_type).items()}
        ours = numbers | beside | {"model_type": model_type}
        try:
            theirs = config_class(**copy.deepcopy(beside)).to_dict() | {**numbers, "model_type": model_type}
        except Exception:  # Phi-3 has no linear scaling
            assert model_type == "phi3" and "rope_parameters" in beside
            continue
        tied = from_hf(ours).tie_word_embeddings if form.WHOLE else from_hf(theirs).tie_word_embeddings
        assert from_hf(ours) == replace(from_hf(theirs), tie_word_embeddings=tied), beside
        assert form.ropes(ours) == form.ropes(theirs), beside


# Words that the reference's classes settle in their own way, or have no attribute for.
SETTLED = (
    "head_dim", "num_key_value_heads", "rope_theta", "rope_parameters", "partial_rotary_factor",
    "layer_types", "sliding_window", "sliding_window_pattern", "no_rope_layers", "mlp_only_layers",
    "max_window_layers", "global_head_dim", "num_global_key_value_heads", "mamba_d_head",
)  # fmt: skip


@pytest.mark.parametrize("model_type", BARE)
def test_no_default_is_made_up(model_type: str) -> None:
    """Every word with a default is one that the reference's class knows."""
    transformers = pytest.importorskip("transformers")
    if model_type in OTHERS:
        pytest.skip("transformers has no class for it")
    theirs = transformers.AutoConfig.for_model(model_type)
    form = models.family(models.family_of({"model_type": model_type})).Config
    own = {ours: own for own, ours in form.NAMES.items()}
    for word, value in form.DEFAULTS[model_type].items():
        if word not in SETTLED:
            assert getattr(theirs, own.get(word, word)) == value, word
    if not form.WHOLE:  # which has no head
        tied = form.DEFAULTS[model_type].get("tie_word_embeddings", False)
        assert theirs.to_dict().get("tie_word_embeddings", False) == tied


@pytest.mark.parametrize(
    ("model_type", "changes", "head"),
    [("qwen3", {}, 128), ("qwen2", {}, 16), ("mistral", {}, 16), ("mistral", {"head_dim": None}, 16)],
)
def test_head_that_is_not_named(model_type: str, changes: dict[str, Any], head: int) -> None:
    assert from_hf(without("head_dim", model_type=model_type) | changes).head_dim == head


def test_absent_and_null_key_heads_differ_where_they_do_in_the_reference() -> None:
    words = {"num_attention_heads": 16, "head_dim": 4}
    for model_type, absent in (("llama", 16), ("mistral", 8)):
        found = from_hf(without("num_key_value_heads", model_type=model_type) | words)
        assert found.num_key_value_heads == absent
        assert from_hf(config(model_type, num_key_value_heads=None) | words).num_key_value_heads == 16
    with pytest.raises(UnsupportedError, match="num_key_value_heads is 32, but it must divide"):
        from_hf(without("num_key_value_heads", model_type="qwen3") | words)


@pytest.mark.parametrize(
    ("model_type", "key"),
    [("qwen3", "head_dim"), ("llama", "rms_norm_eps"), ("qwen2", "max_position_embeddings"),
     ("mistral", "intermediate_size")],
)  # fmt: skip
def test_null_is_not_absence(model_type: str, key: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"{key} is (null|None)"):
        from_hf(config(model_type) | {key: None})


def test_a_head_need_not_be_hidden_over_heads() -> None:
    assert from_hf(config("qwen3", head_dim=32)).q_size == 128
    assert from_hf(config(num_attention_heads=3, num_key_value_heads=3, head_dim=16)).q_size == 48


FULL, SLIDING = ["full_attention"] * 2, ["sliding_attention"] * 2


@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    ("words", "windows"),  # of Mistral, of Qwen
    [
        ({}, (4096, None)),
        ({"sliding_window": None}, (None, None)),
        ({"sliding_window": 64}, (64, None)),
        ({"sliding_window": 64, "layer_types": FULL}, ("layer_types", None)),
        ({"sliding_window": 64, "use_sliding_window": False, "max_window_layers": 1}, (64, None)),
        ({"sliding_window": 64, "use_sliding_window": True}, (64, None)),  # from layer 28 on, of two
        ({"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 2}, (64, None)),
        ({"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0}, (64, 64)),
        ({"use_sliding_window": True, "max_window_layers": 0}, (4096, 4096)),
        ({"sliding_window": None, "use_sliding_window": True, "max_window_layers": 1}, (None, None)),
        ({"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1},
         (64, "max_window_layers")),
        ({"use_sliding_window": True, "max_window_layers": -1}, (4096, "max_window_layers")),
        ({"sliding_window": 64, "use_sliding_window": True, "layer_types": SLIDING}, (64, 64)),
        ({"sliding_window": 64, "use_sliding_window": True, "layer_types": FULL}, ("layer_types", None)),
        ({"sliding_window": 64, "layer_types": SLIDING}, (64, "layer_types")),
        ({"sliding_window": 64, "use_sliding_window": True, "layer_types": [*FULL[:1], *SLIDING[:1]]},
         ("layer_types", "layer_types")),
        ({"sliding_window": 64, "use_sliding_window": True, "layer_types": SLIDING[:1]},
         ("layer_types", "layer_types")),
    ],
)  # fmt: skip
def test_sliding_window(model_type: str, words: dict[str, Any], windows: tuple[Any, Any]) -> None:
    right = windows[0 if model_type == "mistral" else 1]
    if isinstance(right, str):
        with pytest.raises(UnsupportedError, match=f"config: {right} is"):
            from_hf(config(model_type) | words)
    else:
        assert from_hf(config(model_type) | words).sliding_window == right


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("llama", {"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": "x"}),
        ("qwen2", {"sliding_window": "4096", "max_window_layers": None}),  # while use_sliding_window is false
        ("qwen3", {"sliding_window": -1, "max_window_layers": -1, "use_sliding_window": False}),
        ("mistral", {"use_sliding_window": False, "max_window_layers": 0, "num_experts_per_tok": 2}),
        ("qwen2", {"rope_scaling": {"type": "default", "factor": "x"}, "pad_token_id": -1}),
    ],
)
def test_words_that_nothing_reads(model_type: str, words: dict[str, Any]) -> None:
    assert from_hf(config(model_type) | words) == from_hf(config(model_type))


REFUSED: list[tuple[str, str, Any]] = [
    ("llama", "model_type", "gptj"), ("llama", "model_type", None), ("llama", "model_type", 3),
    ("llama", "architectures", ["LlamaForSequenceClassification"]),
    ("llama", "architectures", ["Qwen2ForCausalLM"]),
    ("llama", "architectures", "LlamaForCausalLM"),
    ("llama", "hidden_act", "gelu"), ("llama", "attention_bias", True), ("llama", "mlp_bias", True),
    ("llama", "partial_rotary_factor", 0.5), ("llama", "quantization_config", {"quant_method": "gptq"}),
    ("llama", "num_local_experts", 8), ("llama", "rope_interleaved", True), ("qwen2", "use_mrope", True),
    ("llama", "layer_types", ["full_attention", "sliding_attention"]), ("mistral", "sliding_window", 0),
    ("mistral", "sliding_window", "4096"), ("mistral", "sliding_window", True),
    ("qwen2", "use_sliding_window", 1), ("qwen3", "use_sliding_window", "yes"),
    ("qwen3", "attention_bias", True),
    ("qwen2", "layer_types", ["sliding_attention"] * 2), ("qwen2", "layer_types", "full_attention"),
    ("llama", "rope_scaling", {"rope_type": "yarn", "factor": 0.5}),
    ("llama", "rope_scaling", {"type": "longrope", "short_factor": [1.0]}),
    ("llama", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
    ("llama", "rope_scaling", {"rope_type": ["linear"], "factor": 2.0}),
    ("llama", "rope_scaling", {"type": "linear", "factor": "2"}),
    ("llama", "rope_scaling", {"type": "linear", "factor": 0.5}), ("llama", "rope_scaling", "linear"),
    ("llama", "rope_parameters", {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}),
    ("llama", "rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}),
    ("llama", "rope_theta", 0), ("llama", "rope_theta", True), ("llama", "rope_theta", "1e4"),
    ("llama", "rope_theta", 10**400),
    ("llama", "rms_norm_eps", 0), ("llama", "rms_norm_eps", "1e-5"), ("llama", "rms_norm_eps", 10**400),
    ("llama", "tie_word_embeddings", 1), ("llama", "tie_word_embeddings", "yes"),
    ("llama", "head_dim", 15), ("llama", "head_dim", 0), ("llama", "head_dim", 1 << 62),
    ("llama", "head_dim", 16.0),
    ("llama", "num_key_value_heads", 3), ("llama", "num_key_value_heads", -1),
    ("llama", "num_hidden_layers", 1 << 63),
    ("llama", "vocab_size", 0), ("llama", "vocab_size", True), ("llama", "vocab_size", "50"),
    ("llama", "vocab_size", None),
    ("llama", "hidden_size", [64]), ("llama", "intermediate_size", 10**400),
    ("llama", "max_position_embeddings", None),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "key", "value"), REFUSED, ids=lambda value: f"{value!r:.40}")
def test_refused_by_key_and_value(model_type: str, key: str, value: Any) -> None:
    words = config(model_type) | {key: value}
    if (key, value) == ("model_type", None):
        words["architectures"] = None
    with pytest.raises(UnsupportedError) as caught:
        from_hf(words)
    sentence = str(caught.value)
    assert key in sentence and "\n" not in sentence and len(sentence) < 600
    if isinstance(value, dict):
        assert any(repr(inner)[:60] in sentence or name in sentence for name, inner in value.items())
    elif value is not None:
        assert repr(value)[:60] in sentence


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize("missing", [key for key in LLAMA3 if key != "rope_type"])
def test_rope_scaling_has_no_defaults(missing: str) -> None:
    assert from_hf(config(rope_scaling=LLAMA3))
    words = config(rope_scaling={key: value for key, value in LLAMA3.items() if key != missing})
    with pytest.raises(UnsupportedError, match=rf"rope_scaling\.{missing} is missing"):
        from_hf(words)


LINEAR = {"type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}},
         r"rope_parameters\.rope_theta is 1000000\.0, but rope_theta is 10000\.0; the two must agree"),
        ({"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
         "rope_parameters means kind 'default', but rope_scaling 'linear'; the two must agree"),
        ({"rope_scaling": LINEAR, "rope_parameters": LINEAR | {"factor": 4.0}},
         r"rope_parameters means factor 4\.0, but rope_scaling 2\.0"),
        ({"rope_scaling": LINEAR | {"rope_type": "llama3"}},
         r"rope_scaling\.rope_type is 'llama3', but rope_scaling\.type is 'linear'"),
        ({"rope_scaling": LLAMA3, "original_max_position_embeddings": 128},
         r"original_max_position_embeddings is 64, but original_max_position_embeddings is 128"),
    ],
)  # fmt: skip
def test_two_places_that_disagree(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnsupportedError, match=sentence):
        from_hf(config() | words)


@pytest.mark.parametrize(
    "words",
    [
        {"rope_theta": 1e6, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000}},
        {"rope_theta": 1e6, "rope_scaling": {}, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 1e6, "rope_scaling": {"type": "default", "rope_type": "default"}},
        {"rope_theta": 1e6, "rope_scaling": {"type": "default"}, "rope_parameters": {"rope_theta": 1e6}},
        {"rope_theta": 1e6, "rope_scaling": {"type": "default", "factor": 2.0}},  # which no default reads
        {"rope_theta": 1e6, "original_max_position_embeddings": 64},  # nor this
    ],
)  # fmt: skip
def test_two_places_that_agree(words: dict[str, Any]) -> None:
    assert Rope.from_hf(config() | words) == Rope(theta=1e6)


def test_the_original_context_may_stand_beside_the_rotation() -> None:
    """Where the reference and llama.cpp read it too."""
    inner = {key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"}
    beside = Rope.from_hf(config(rope_scaling=inner, original_max_position_embeddings=64))
    assert beside == Rope.from_hf(config(rope_scaling=LLAMA3))


def test_llama3_factors_must_be_in_order() -> None:
    with pytest.raises(UnsupportedError, match=r"high_freq_factor is 1\.0, but more than 1\.0 is needed"):
        from_hf(config(rope_scaling=LLAMA3 | {"high_freq_factor": 1.0}))


def test_heads_must_divide_when_the_head_is_not_named() -> None:
    with pytest.raises(UnsupportedError, match="num_attention_heads is 3, but it must divide hidden_size 64"):
        from_hf(without("head_dim", "num_key_value_heads") | {"num_attention_heads": 3})


@pytest.mark.parametrize("key", list(from_hf(config()).to_header()))
def test_a_header_has_no_defaults(key: str) -> None:
    words = from_hf(config()).to_header()
    del words[key]
    if key == "sliding_window":
        assert models.family("llama").Config.from_header(words).sliding_window is None
        return
    with pytest.raises(FormatError, match=key):
        models.family("llama").Config.from_header(words)


def test_unknown_family() -> None:
    with pytest.raises(UnsupportedError, match="family 'os' is unknown; this version knows .*, llama"):
        models.family("os")


def test_patterns_of_exaone() -> None:
    def letters(**words: Any) -> Any:
        found = from_hf({"model_type": "exaone4", "num_hidden_layers": 5, **words}).to_header()["layer_types"]
        return "".join("L" if kind == "sliding_attention" else "G" for kind in found)

    assert letters() == "LLLGL" and letters(sliding_window_pattern=2) == "LGLGL"
    assert letters(sliding_window_pattern="LG") == "LGLGG" and letters(sliding_window=None) == "GGGGG"


def test_nested_rotations() -> None:
    """Words beside objects for each kind of layers are what these lack, or refused."""
    nested = {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}
    bases = {"rope_theta": 5e5, "rope_local_base_freq": 2e4}

    def thetas(**words: Any) -> list[float]:
        raw = {"model_type": "gemma3_text", **words}
        return [rope.theta for rope in models.family("gemma3").Config.ropes(raw).values()]

    assert thetas() == thetas(**nested) == [1e6, 1e4]
    assert thetas(**nested, **bases) == thetas(**bases) == [5e5, 2e4]
    with pytest.raises(UnsupportedError, match="rope_scaling is .* an object for each kind of layers"):
        from_hf(
            {"model_type": "gemma3_text", **nested, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
        )
