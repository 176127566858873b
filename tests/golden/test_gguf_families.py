"""GGUF files of the families: the same as their checkpoints, and like llama.cpp on the same files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.converters import convert
from edgeq.converters.gguf import open_file
from edgeq.errors import EdgeqError, UnsupportedError
from edgeq.formats import open_model
from edgeq.models.experts import gguf_widths
from edgeq.models.families.gemma2 import scale_of_scores

from . import gguf_families, reference
from .gguf_families import CASES, NOT_IN_FILES, write, write_case
from .test_families import distance, golden

HERE = Path(__file__).parent
NAMES = [
    path.name
    for path in sorted((HERE / "families").iterdir())
    if json.loads((path / "config.json").read_text())["model_type"] in gguf_families.FAMILIES
]
# Of the largest logit; llama.cpp reads GELU from a table of float16, which GPT-NeoX's is another than.
TOLERANCE = 2e-5
GELU = ("gemma2", "gemma3", "gemma4", "gpt_neox")
TOLERANCE_GELU = 4e-3


def logits(path: Path, ids: list[int]) -> Any:
    """With nothing rounded but by float32."""
    import edgeq

    with edgeq.load(path, kv="f32", act="f32") as model:
        return model.logits(ids)


def checkpoint(folder: Path, name: str) -> Path:
    """The checkpoint, with what a GGUF file of it cannot say as readers take it."""
    path = folder / name
    shutil.copytree(HERE / "families" / name, path)
    words = json.loads((path / "config.json").read_text()) | NOT_IN_FILES.get(name, {})
    (path / "config.json").write_text(json.dumps(words))
    return path


def same_words(ours: Any, theirs: Any) -> bool:
    """Whether two values of a config are equal, numbers as float32, which is what GGUF files have."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same_words(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return bool(np.float32(ours) == np.float32(theirs))
    return bool(ours == theirs)


def same_file(one: Path, other: Path, frequencies: float = 0) -> None:
    """Both have the same config and tensors; frequencies: by how much those of rotations may differ."""
    with open_model(one) as a, open_model(other) as b:
        assert {key for key in a.config if not same_words(a.config[key], b.config.get(key))} == set()
        assert a.config.keys() == b.config.keys()
        assert a.tensors.keys() - {"tokenizer"} == b.tensors.keys() - {"tokenizer"}
        for name in a.tensors.keys() - {"tokenizer"}:
            allowed = frequencies if name.endswith("frequencies") else 0
            ours, theirs = b.tensors[name].array(), a.tensors[name].array()
            np.testing.assert_allclose(ours, theirs, rtol=allowed, atol=0, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_as_the_checkpoint(name: str, tmp_path: Path) -> None:
    """Bit for bit, but for frequencies that a file has as divisors, which are rounded once more."""
    divided = name == "exaone4-full"
    path = write(tmp_path / "model.gguf", HERE / "families" / name, kind="BF16")
    convert(checkpoint(tmp_path, name), tmp_path / "a.edgeq", scheme="f32")
    convert(path, tmp_path / "b.edgeq", scheme="f32")
    same_file(tmp_path / "a.edgeq", tmp_path / "b.edgeq", 2e-7 if divided else 0)
    ids, theirs = golden(name)
    ours = logits(tmp_path / "b.edgeq", ids)
    if name not in NOT_IN_FILES or name in ("granitemoehybrid", "hunyuan"):
        assert distance(ours, theirs) < TOLERANCE
    if not divided:
        np.testing.assert_array_equal(ours, logits(tmp_path / "a.edgeq", ids))


@pytest.mark.parametrize(
    "name", ["granite", "glm4", "stablelm", "qwen3_moe", "granitemoe", "gpt_oss", "gemma4-mixture"]
)
def test_fused(name: str, tmp_path: Path) -> None:
    """Queries, keys and values, and their biases, in one tensor: rows in pairs and not. Of experts two in
    one.
    """
    for fused in (False, True):
        path = write(tmp_path / "model.gguf", HERE / "families" / name, fused=fused)
        convert(path, tmp_path / f"{fused}.edgeq", scheme="f32")
    same_file(tmp_path / "False.edgeq", tmp_path / "True.edgeq")


def test_mxfp4(tmp_path: Path) -> None:
    """Matrices of experts whose bytes are arranged otherwise are kept as the checkpoint's are."""
    directory = HERE / "families" / "gpt_oss-mxfp4"
    convert(directory, tmp_path / "a.edgeq", scheme="keep")
    convert(write(tmp_path / "model.gguf", directory, kind="BF16"), tmp_path / "b.edgeq", scheme="keep")
    same_file(tmp_path / "a.edgeq", tmp_path / "b.edgeq")
    with open_model(tmp_path / "b.edgeq") as file:
        schemes = {name: tensor.scheme.name for name, tensor in file.tensors.items()}
    assert {scheme for name, scheme in schemes.items() if ".experts_" in name} == {"mx4", "f32"}


@pytest.mark.parametrize("case", CASES)
def test_like_llamacpp(case: str, tmp_path: Path) -> None:
    theirs = np.load(HERE / "llamacpp" / "families" / f"{case}.npy")
    convert(write_case(tmp_path / "model.gguf", case), tmp_path / "model.edgeq", scheme="f32")
    ids, _ = golden(CASES[case].family)
    ours = logits(tmp_path / "model.edgeq", ids[: len(theirs)])
    assert distance(ours, theirs) < (TOLERANCE_GELU if case.startswith(GELU) else TOLERANCE)


def config(folder: Path, name: str, keys: dict[str, Any], **words: Any) -> Any:
    """The config of a checkpoint's GGUF file with other keys."""
    path = write(folder / "model.gguf", HERE / "families" / name, config=words, keys=keys)
    return open_file(path).config


def test_which_layers_have_a_window(tmp_path: Path) -> None:
    """A list, a number, or the family's own; EXAONE's old files tell by how many layers there are."""
    key = "attention.sliding_window_pattern"

    def windows(name: str, keys: dict[str, Any]) -> list[int]:
        found = config(tmp_path, name, keys)
        return [found.window(i) for i in range(found.num_hidden_layers)]

    assert windows("exaone4", {}) == [16, 16, 0, 16]
    assert windows("exaone4", {key: None}) == [0, 0, 0, 0]
    assert windows("exaone4", {"attention.sliding_window": 0}) == [0, 0, 0, 0]
    assert windows("olmo3", {key: None}) == [16, 16, 16, 0]
    assert windows("olmo3", {key: [False, True, False, True]}) == [0, 16, 0, 16]
    assert windows("cohere2", {key: 2}) == [16, 0, 16, 0]
    assert windows("cohere2", {key: 0}) == [16, 16, 16, 16]
    assert windows("gemma2", {"attention.sliding_window": None}) == [4096, 0, 4096]
    assert windows("gpt_oss", {}) == windows("gpt_oss", {key: 2}) == [16, 0, 16]
    assert windows("gemma3", {key: [True] * 6 + [False]}) == [16] * 6 + [0]


USUAL = 1 + 0.1 * np.log(8)  # of the file's factor


@pytest.mark.parametrize(
    ("keys", "factor"),
    [
        ({}, 1.2),
        ({"yarn_attn_factor": 1.0}, USUAL),
        ({"yarn_attn_factor": None}, USUAL),
        ({"attn_factor": 1.5}, 1.8),
        ({"yarn_attn_factor": None, "yarn_log_multiplier": 0.5}, USUAL / (1 + 0.05 * np.log(8))),
    ],
)
def test_the_attention_factor_of_yarn(keys: dict[str, Any], factor: float, tmp_path: Path) -> None:
    found = config(tmp_path, "olmo3", {f"rope.scaling.{key}": value for key, value in keys.items()})
    assert found.rope_factors["rope"] == pytest.approx(factor, rel=1e-6)


def test_the_scale_of_scores_of_gemma() -> None:
    """Of 27 B it is that of the width over the heads, which the file has no key for."""
    sizes = {"hidden_size": 4608, "num_attention_heads": 32, "head_dim": 128}
    for layers, scalar in ((46, 144), (42, 128)):
        words = {**sizes, "num_hidden_layers": layers}
        scale_of_scores(words, large=46)
        assert words["query_pre_attn_scalar"] == scalar


def test_words_of_gemma4(tmp_path: Path) -> None:
    """A cap of 0 is none; lists have a number for each layer, of each kind and width the same."""
    assert config(tmp_path, "gemma4", {"final_logit_softcapping": 0.0}).final_logit_softcapping is None
    with pytest.raises(EdgeqError, match=r"tensor 'blk\.4\.ffn_gate\.weight' has shape"):
        config(tmp_path, "gemma4", {"feed_forward_length": 52})


def test_keys_of_layers_that_keep_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some files have them, and nothing is computed from them."""
    whole = gguf_families.tensors

    def more(*given: Any) -> Any:
        found = whole(*given)
        names = {f"blk.2.attn_{part}.weight": f"blk.5.attn_{part}.weight" for part in ("k", "v", "k_norm")}
        return found | {there: found[here] for here, there in names.items()}

    found = config(tmp_path, "gemma4", {})
    monkeypatch.setattr(gguf_families, "tensors", more)
    assert config(tmp_path, "gemma4", {}) == found
    path = write(tmp_path / "more.gguf", HERE / "families" / "gemma4")
    assert not {name for name in open_file(path).tensors if name.startswith("blocks.5.k")}


def test_the_epsilon_is_of_the_kind_of_norms(tmp_path: Path) -> None:
    """Where a checkpoint's config has both, a file has both."""
    layer, rms = "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"
    assert config(tmp_path, "granite", {layer: 0.5}).rms_norm_eps == pytest.approx(1e-5)
    assert config(tmp_path, "stablelm", {rms: 0.5}).rms_norm_eps == pytest.approx(1e-3)


def test_keys_that_change_nothing(tmp_path: Path) -> None:
    """The converter writes StableLM's where a checkpoint does not say, and wrote one expert for an MLP."""
    for name, key, value in (("stablelm", "use_parallel_residual", True), ("hunyuan", "expert_count", 1)):
        assert config(tmp_path, name, {key: value}) == config(tmp_path, name, {})
    hybrid = {  # what the converter writes for Granite 4.0 Micro, which has neither such layers nor experts
        "ssm.conv_kernel": 4, "ssm.state_size": 256, "ssm.group_count": 1, "ssm.inner_size": 128,
        "ssm.time_step_rank": 8, "rope.scaling.finetuned": True, "attention.head_count_kv": [2, 2],
        "expert_count": 0, "expert_used_count": 0, "expert_shared_feed_forward_length": 80,
    }  # fmt: skip
    assert config(tmp_path, "granite", hybrid) == config(tmp_path, "granite", {})


def test_layers_that_guess_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of Qwen3.5 count one more layer, which other programs guess with."""
    whole = gguf_families.tensors

    def more(*given: Any) -> Any:
        found = whole(*given)
        return found | {"blk.4.nextn.enorm.weight": found["blk.0.attn_norm.weight"]}

    monkeypatch.setattr(gguf_families, "tensors", more)
    directory = HERE / "families" / "qwen3_5"
    path = write(tmp_path / "more.gguf", directory, keys={"block_count": 5, "nextn_predict_layers": 1})
    source = open_file(path)
    assert source.config.num_hidden_layers == 4 and source.left_out == ("guessing layer 4",)
    monkeypatch.undo()
    convert(path, tmp_path / "more.edgeq", scheme="f32")
    convert(write(tmp_path / "usual.gguf", directory), tmp_path / "usual.edgeq", scheme="f32")
    same_file(tmp_path / "usual.edgeq", tmp_path / "more.edgeq")
    lists = write(tmp_path / "lists.gguf", HERE / "families" / "lfm2", keys={
        "block_count": 5, "nextn_predict_layers": 1, "attention.head_count_kv": [0, 0, 2, 0, 2]})  # fmt: skip
    kinds = open_file(lists).config.to_header()["layer_types"]
    assert kinds == ["conv", "conv", "full_attention", "conv"]


def test_multipliers_are_in_the_weights(tmp_path: Path) -> None:
    """Rounded as files in float32 have them."""
    words: dict[str, Any] = {
        "embedding_multiplier": 5.656854249492381, "lm_head_multiplier": 0.0390625, "key_multiplier": 0.3,
        "attention_in_multiplier": 1.1, "attention_out_multiplier": 0.9375, "ssm_in_multiplier": 1.7,
        "ssm_out_multiplier": 0.23570226039551587, "mlp_multipliers": [0.88, 0.59],
        "ssm_multipliers": [0.35, 0.25, 0.17, 0.5, 0.31],
    }  # fmt: skip
    directory = shutil.copytree(HERE / "families" / "falcon_h1", tmp_path / "falcon_h1")
    config = json.loads((directory / "config.json").read_text()) | words
    (directory / "config.json").write_text(json.dumps(config))
    convert(directory, tmp_path / "a.edgeq", scheme="f32")
    convert(write(tmp_path / "model.gguf", directory), tmp_path / "b.edgeq", scheme="f32")
    same_file(tmp_path / "a.edgeq", tmp_path / "b.edgeq")
    convert(directory, tmp_path / "kept.edgeq", scheme="keep")
    with open_model(tmp_path / "a.edgeq") as exact, open_model(tmp_path / "kept.edgeq") as kept:
        for name in ("embed", "output", "blocks.1.xbc", "blocks.0.k"):
            assert kept.tensors[name].scheme.name == "bf16"
            want = exact.tensors[name].array()
            np.testing.assert_allclose(kept.tensors[name].array(), want, rtol=2**-8)


def test_projections_of_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of Qwen3-Next had queries, keys, values and gates in one, as checkpoints have them."""
    whole, directory = gguf_families.tensors, HERE / "families" / "qwen3_next"
    fused = reference.load(directory).weights
    convert(write(tmp_path / "new.gguf", directory), tmp_path / "new.edgeq", scheme="f32")

    def old(*given: Any) -> Any:
        found = whole(*given)
        for i in (0, 1, 3):
            del found[f"blk.{i}.attn_qkv.weight"], found[f"blk.{i}.attn_gate.weight"]
            found[f"blk.{i}.ssm_in.weight"] = fused[f"model.layers.{i}.linear_attn.in_proj_qkvz.weight"]
        return found

    monkeypatch.setattr(gguf_families, "tensors", old)
    convert(write(tmp_path / "old.gguf", directory), tmp_path / "old.edgeq", scheme="f32")
    same_file(tmp_path / "new.edgeq", tmp_path / "old.edgeq")


def test_experts_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old files of Mixtral are refused as such."""
    whole = gguf_families.tensors

    def each(*given: Any) -> Any:
        found = whole(*given)
        experts = {name: found.pop(name) for name in [*found] if "_exps" in name}
        for name, x in experts.items():
            found |= {name.replace("_exps", f".{n}"): one for n, one in enumerate(x)}
        return found

    monkeypatch.setattr(gguf_families, "tensors", each)
    with pytest.raises(UnsupportedError, match=r"'blk\.0\.ffn_gate\.0\.weight' is one expert's alone, as"):
        config(tmp_path, "mixtral", {})


def test_widths_of_experts() -> None:
    """Old files have that of an MLP alone, which is that of the chosen experts together."""
    raw = {"intermediate_size": 64, "num_experts_per_tok": 2}
    for more in ({}, {"moe_intermediate_size": 48, "shared_expert_intermediate_size": 80}):
        words = {**raw, **more}
        gguf_widths(words, {})
        usual = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}
        assert words == {**raw, **usual, **more}


@pytest.mark.parametrize(
    ("name", "key", "value", "what"),
    [
        ("granite", "rope.scaling.finetuned", False, "finetuned is False"),
        ("granitemoe", "rope.scaling.finetuned", False, "finetuned is False"),
        ("mixtral", "expert_used_count", None, "num_experts_per_tok is null"),
        ("qwen3_moe", "expert_used_count", None, "num_experts_per_tok is null"),
        ("qwen3_moe", "expert_used_count", 7, "num_experts_per_tok is 7"),
        ("olmoe", "expert_count", None, "num_experts is null"),
        ("gpt_oss", "expert_count", None, "num_experts is null"),
        ("gpt_oss", "attention.sliding_window", "wide", "sliding_window is 'wide'"),
        ("granite", "attention.layer_norm_rms_epsilon", None, "layer_norm_rms_epsilon is missing"),
        ("stablelm", "attention.layer_norm_epsilon", None, "layer_norm_epsilon is missing"),
        ("olmo3", "rope.scaling.yarn_ext_factor", 0.5, "yarn_ext_factor is 0.5"),
        ("olmo3", "rope.scaling.yarn_log_multiplier", "much", "yarn_log_multiplier is 'much'"),
        ("olmo3", "rope.scaling.yarn_log_multiplier", -1.0, "yarn_log_multiplier is -1.0"),
        ("olmo3", "attention.sliding_window_pattern", "LLLG", "layer_types is 'LLLG'"),
        ("olmo3", "attention.sliding_window_pattern", [True], "of which there are 4"),
        ("gemma3", "block_count", (1 << 32) - 1, "num_hidden_layers is 4294967295"),
        ("gemma2", "attention.head_count", "four", "num_attention_heads is 'four'"),
        ("granite", "attention.key_length", "long", "head_dim is 'long'"),
        ("glm4", "rope.dimension_count", 26, "partial_rotary_factor is"),
        ("gemma4", "feed_forward_length", [52] * 3 + [104] * 4, "feed_forward_length is [52, 52, 52"),
        ("gemma4", "feed_forward_length", [52], "feed_forward_length is [52]"),
        ("gemma4", "attention.head_count_kv", [2, 1, 1, 1, 2, 2, 1], "head_count_kv is [2, 1, 1"),
        ("gemma4", "attention.head_count_kv", 3, "num_key_value_heads is 3"),
        ("gemma4", "attention.value_length_swa", 16, "value_length_swa is 16, but only 24 is supported"),
        ("gemma4", "attention.value_length", 16, "value_length is 16, but only head_dim 40 is supported"),
        (
            "gemma4-mixture",
            "attention.shared_kv_layers",
            2,
            "num_kv_shared_layers is 2, but of each kind",
        ),
        ("gemma4-mixture", "attention.shared_kv_layers", "all", "num_kv_shared_layers is 'all'"),
        ("gemma4-mixture", "attention.sliding_window_pattern", "all", "layer_types is 'all'"),
        ("gemma4", "rope.scaling.type", "yarn", "rope_scaling"),
        ("gemma4-mixture", "expert_used_count", 0, "top_k_experts is 0"),
        ("qwen3_5_moe", "expert_shared_feed_forward_length", None, "shared_expert_intermediate_size is null"),
        ("qwen3_next", "expert_feed_forward_length", None, "moe_intermediate_size is null"),
        ("qwen3_next", "ssm.group_count", 4, "linear_num_key_heads is 4, but it must divide"),
        ("granitemoehybrid", "ssm.group_count", 3, "mamba_n_groups is 3, but it must divide"),
        ("granitemoehybrid", "ssm.state_size", 4, "mamba_d_state is 4, but a whole number from 8"),
        ("granitemoehybrid", "expert_used_count", None, "num_experts_per_tok is 0, but a token"),
        ("granitemoehybrid", "attention.head_count_kv", [0, 2, 1], "num_key_value_heads is [0, 2, 1]"),
        ("ernie4_5", "rope.dimension_sections", [4, 4, 4, 4], "nothing is known of such a key"),
    ],
)
def test_refused(name: str, key: str, value: Any, what: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match=what.replace("[", "\\[")):
        config(tmp_path, name, {key: value})
