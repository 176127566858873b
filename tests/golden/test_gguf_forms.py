"""GGUF files of families whose checkpoints are not Llama's with other names: the checkpoints of families/ as
llama.cpp's converter writes them, from a table of their own with nothing of edgeq's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import gguf.quants
import numpy as np
import pytest

import edgeq
from edgeq.converters import convert
from edgeq.converters.gguf import open_file
from edgeq.errors import EdgeqError
from edgeq.formats import open_model

from .gguf_checkpoint import Array, interleave
from .test_families import HERE, distance, golden

Words = dict[str, Any]
LLAMA = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "self_attn.attn_sub_norm": "attn_sub_norm", "mlp.ffn_sub_norm": "ffn_sub_norm",
    "attention_layernorm": "attn_norm", "feedforward_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_layernorm": "attn_q_norm", "self_attn.k_layernorm": "attn_k_norm",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip


def checkpoint(name: str) -> tuple[Words, dict[str, Array]]:
    """config.json, and float32 tensors but for those of uint8."""
    path = HERE / "families" / name
    raw, found = (path / "model.safetensors").read_bytes(), {}
    start = 8 + int.from_bytes(raw[:8], "little")
    for key, entry in json.loads(raw[8:start]).items():
        if key == "__metadata__":
            continue
        begin, end = (start + at for at in entry["data_offsets"])
        x: Array = np.frombuffer(raw[begin:end], {"U8": "|u1", "BF16": "<u2"}[entry["dtype"]])
        if entry["dtype"] == "BF16":
            x = (x.astype(np.uint32) << 16).view(np.float32)
        found[key] = x.reshape(entry["shape"])
    return json.loads((path / "config.json").read_text()), found


def llama(c: Words, arch: str) -> Words:
    """Keys that the converter's base class writes, under the architecture's name."""
    rope = c.get("rope_parameters") or {}
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    keys = {
        "context_length": c["max_position_embeddings"], "embedding_length": c["hidden_size"],
        "block_count": c["num_hidden_layers"], "feed_forward_length": c["intermediate_size"],
        "attention.head_count": c["num_attention_heads"],
        "attention.head_count_kv": c["num_key_value_heads"], "vocab_size": c["vocab_size"],
        "rope.freq_base": rope.get("rope_theta") or c.get("rope_theta"),
        "rope.dimension_count": int(head * rope.get("partial_rotary_factor", 1.0)),
        "attention.layer_norm_rms_epsilon": c.get("rms_norm_eps"),
        "attention.layer_norm_epsilon": c.get("layer_norm_eps"),
    }  # fmt: skip
    return {f"{arch}.{key}": value for key, value in keys.items() if value is not None}


def bitnet(c: Words, tensors: dict[str, Array]) -> Words:
    for name in [name for name in tensors if name.endswith("_scale")]:
        scale, of = tensors.pop(name), name.removesuffix("_scale")
        codes = np.concatenate([tensors[of] >> 2 * k & 3 for k in range(4)]).astype(np.float32) - 1
        tensors[of] = codes * scale
    keys = {"bitnet.rope.scaling.type": "linear", "bitnet.rope.scaling.factor": 1.0}
    return llama(c, "bitnet") | keys | {"bitnet.hidden_act": "relu2"}


def apertus(c: Words, tensors: dict[str, Array]) -> Words:
    keys = llama(c, "apertus")
    for name in ("alpha_p", "alpha_n", "beta", "eps"):
        each = [tensors.pop(f"model.layers.{i}.mlp.act_fn.{name}") for i in range(c["num_hidden_layers"])]
        keys[f"xielu.{name}"] = [float(x.reshape(())) for x in each]
    scaling, d = c["rope_parameters"], c["hidden_size"] // c["num_attention_heads"]
    lengths = 2 * np.pi * scaling["rope_theta"] ** (np.arange(0, d, 2) / d)
    turns = scaling["original_max_position_embeddings"] / lengths
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    tensors["rope_freqs.weight"] = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return keys


def gpt2(c: Words, tensors: dict[str, Array]) -> Words:
    for name in [name for name in tensors if ".c_" in name and name.endswith("weight")]:
        tensors[name] = tensors[name].T
    keys = {
        "block_count": c["n_layer"], "context_length": c["n_positions"], "embedding_length": c["n_embd"],
        "feed_forward_length": c["n_inner"], "attention.head_count": c["n_head"],
        "attention.layer_norm_epsilon": c["layer_norm_epsilon"],
    }  # fmt: skip
    return {f"gpt2.{key}": value for key, value in keys.items()}


def minicpm(c: Words, tensors: dict[str, Array]) -> Words:
    for name in tensors:
        if name.endswith("q_proj.weight"):
            tensors[name] = interleave(tensors[name], c["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            tensors[name] = interleave(tensors[name], c["num_key_value_heads"])
    scaling = c["rope_scaling"]
    for kind in ("long", "short"):
        tensors[f"rope_factors_{kind}.weight"] = np.array(scaling[f"{kind}_factor"], np.float32)
    return llama(c, "minicpm") | {
        "minicpm.embedding_scale": float(c["scale_emb"]),
        "minicpm.residual_scale": c["scale_depth"] / c["num_hidden_layers"] ** 0.5,
        "minicpm.logit_scale": c["hidden_size"] / c["dim_model_base"],
        "minicpm.rope.scaling.original_context_length": scaling["original_max_position_embeddings"],
    }


def stablelm(c: Words, tensors: dict[str, Array]) -> Words:
    for name in sorted(name for name in tensors if name.endswith("norms.0.weight")):
        stem = name.removesuffix("norms.0.weight")
        count = sum(other.startswith(f"{stem}norms.") for other in tensors)
        tensors[f"{stem}weight"] = np.stack([tensors.pop(f"{stem}norms.{n}.weight") for n in range(count)])
    keys = llama(c, "stablelm")
    del keys["stablelm.attention.layer_norm_rms_epsilon"]
    return keys | {"stablelm.use_parallel_residual": c["use_parallel_residual"]}


FORMS = {
    "bitnet": ("bitnet", bitnet), "apertus": ("apertus", apertus),
    "gpt2": ("gpt2", gpt2), "minicpm": ("minicpm", minicpm), "stablelm": ("stablelm", stablelm),
    "stablelm-parallel": ("stablelm", stablelm),
}  # fmt: skip


def short(name: str) -> str:
    """The name of a tensor in a GGUF file."""
    if name.startswith("rope_"):
        return name
    stem, kind = name.rsplit(".", 1)
    for prefix in ("model.layers.", "transformer.h."):
        if stem.startswith(prefix):
            block, inner = stem.removeprefix(prefix).split(".", 1)
            return f"blk.{block}.{LLAMA[inner]}.{kind}"
    return f"{LLAMA[stem]}.{kind}"


def write(path: Path, architecture: str, keys: Words, tensors: dict[str, Array], kind: str = "F32") -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_float32(key, value)
    for name, x in tensors.items():
        block = "_proj" in name and x.ndim == 2
        type_ = gguf.GGMLQuantizationType[kind if block else "F32"]
        data = gguf.quants.quantize(np.ascontiguousarray(x, np.float32), type_)
        writer.add_tensor(short(name), data, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(path: Path, ids: list[int], scheme: str = "f32") -> Any:
    out = path.with_suffix(".edgeq")
    convert(path, out, scheme=scheme, overwrite=True)
    with edgeq.load(out, kv="f32", act="f32") as model:
        return model.logits(ids)


@pytest.mark.parametrize("name", FORMS)
def test_like_the_checkpoint(name: str, tmp_path: Path) -> None:
    architecture, form = FORMS[name]
    words, tensors = checkpoint(name)
    path = write(tmp_path / "model.gguf", architecture, form(words, tensors), tensors)
    ids, theirs = golden(name)
    assert distance(logits(path, ids), theirs) < 1e-4


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
def test_ternary_types_are_kept(kind: str, tmp_path: Path) -> None:
    """Blocks of 256 columns whose scale is a float16: no number of them is rounded."""
    rng = np.random.default_rng(5)
    words = {
        "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "vocab_size": 40,
    }  # fmt: skip
    tensors: dict[str, Array] = {"model.norm.weight": rng.uniform(0.5, 1.5, 256)}
    tensors["model.embed_tokens.weight"] = rng.normal(size=(40, 256))
    shapes = {"q": (256, 256), "k": (128, 256), "v": (128, 256), "o": (256, 256)}
    for i in range(2):
        for letter, shape in shapes.items():
            tensors[f"model.layers.{i}.self_attn.{letter}_proj.weight"] = rng.integers(-1, 2, shape) * 0.125
        for name, shape in (("gate", (512, 256)), ("up", (512, 256)), ("down", (256, 512))):
            tensors[f"model.layers.{i}.mlp.{name}_proj.weight"] = rng.integers(-1, 2, shape) * 0.125
        for name in ("input_layernorm", "post_attention_layernorm", "self_attn.attn_sub_norm"):
            tensors[f"model.layers.{i}.{name}.weight"] = rng.uniform(0.5, 1.5, 256)
        tensors[f"model.layers.{i}.mlp.ffn_sub_norm.weight"] = rng.uniform(0.5, 1.5, 512)
    keys, ids = bitnet(words, tensors), list(range(3, 30))
    kept = logits(write(tmp_path / "kept.gguf", "bitnet", keys, tensors, kind), ids, "keep")
    with open_model(tmp_path / "kept.edgeq") as file:
        assert file.tensors["blocks.0.q"].scheme.name == "tq2"
    floats = logits(write(tmp_path / "floats.gguf", "bitnet", keys, tensors), ids)
    assert distance(kept, floats) < 1e-5
    del keys["bitnet.hidden_act"]  # files from before it was written are of models with SiLU
    old = open_file(write(tmp_path / "old.gguf", "bitnet", keys, tensors))
    assert old.config.to_header()["hidden_act"] == "silu"


def changed(tmp_path: Path, name: str, keys: Words, without: str = "") -> Any:
    """The config of a golden's file with other keys; None leaves one out."""
    architecture, form = FORMS[name]
    words, tensors = checkpoint(name)
    found = {key: value for key, value in (form(words, tensors) | keys).items() if value is not None}
    tensors = {key: x for key, x in tensors.items() if not (without and key.endswith(without))}
    return open_file(write(tmp_path / "model.gguf", architecture, found, tensors)).config


def test_what_files_may_say_otherwise(tmp_path: Path) -> None:
    one = changed(tmp_path, "apertus", {"xielu.eps": -0.5})  # of all layers
    assert one.xielu_eps == (-0.5, -0.5, -0.5)
    old = dict.fromkeys(("minicpm.embedding_scale", "minicpm.residual_scale", "minicpm.logit_scale"))
    found = changed(tmp_path, "minicpm", old)
    assert (found.embedding_multiplier, found.logits_scaling) == (12, 64 / 256)
    assert found.residual_multiplier == pytest.approx(1.4 / 2**0.5)
    told = {"stablelm.use_parallel_residual": True}  # as the converter writes where a checkpoint says nothing
    assert not changed(tmp_path, "stablelm", told).use_parallel_residual


@pytest.mark.parametrize(
    ("name", "keys", "without", "sentence"),
    [
        ("apertus", {"xielu.beta": None}, "", "xielu_beta is missing; a list with a number"),
        ("apertus", {"xielu.beta": [0.5]}, "", r"xielu_beta is \[0.5\], but .* of which there are 3"),
        ("apertus", {"xielu.beta": "half"}, "", "xielu_beta is .*'half'.*, but a list with a number"),
        (
            "bitnet",
            {"bitnet.hidden_act": "gelu"},
            "",
            "hidden_act is 'gelu', but 'relu2' or 'silu' is needed",
        ),
        ("bitnet", {}, "attn_sub_norm.weight", "blk.0.attn_sub_norm.weight' is missing"),
        ("gpt2", {"gpt2.attention.layer_norm_epsilon": None}, "", "epsilon is missing"),
        ("gpt2", {}, "wpe.weight", r"'position_embd.weight' is missing; shape \[64, 72\] is needed"),
        ("gpt2", {"gpt2.context_length": 32}, "", r"has shape \[64, 72\], but the config needs \[32, 72\]"),
        ("minicpm", {"minicpm.residual_scale": 0.0}, "", "residual_multiplier is 0.0, but a number above 0"),
        ("stablelm-parallel", {}, "0.self_attn.q_layernorm.weight", "'blk.0.attn_q_norm.weight' is missing"),
    ],
)
def test_refused(name: str, keys: Words, without: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match=sentence):
        changed(tmp_path, name, keys, without)


def test_a_rotation_where_there_is_none(tmp_path: Path) -> None:
    words, tensors = checkpoint("gpt2")
    keys = gpt2(words, tensors)
    tensors["rope_freqs.weight"] = np.ones(8, np.float32)
    path = write(tmp_path / "model.gguf", "gpt2", keys, tensors)
    with pytest.raises(EdgeqError, match="'rope_freqs.weight' is there, but this family has no rotation"):
        open_file(path)
