"""Tiny random checkpoints, as Hugging Face directories and as GGUF files, written with others' writers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

Array = np.ndarray[Any, Any]

ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
                 "qwen3": "Qwen3ForCausalLM"}  # fmt: skip
# what a GGUF writer calls each tensor
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip


def config(model_type: str = "llama", **changes: Any) -> dict[str, Any]:
    """The words of a tiny checkpoint's config.json."""
    words: dict[str, Any] = {
        "architectures": [ARCHITECTURES[model_type]], "model_type": model_type, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "vocab_size": 50, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return words | changes


def weights(words: dict[str, Any], seed: int = 0) -> dict[str, Array]:
    """float32 tensors of a checkpoint by their Hugging Face names."""
    hidden, ffn, head = words["hidden_size"], words["intermediate_size"], words["head_dim"]
    q, kv = words["num_attention_heads"] * head, words["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not words["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (words["vocab_size"], hidden)
    each: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (q, hidden), "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.v_proj.weight": (kv, hidden), "self_attn.o_proj.weight": (hidden, q),
        "mlp.gate_proj.weight": (ffn, hidden), "mlp.up_proj.weight": (ffn, hidden),
        "mlp.down_proj.weight": (hidden, ffn),
    }  # fmt: skip
    if words["model_type"] == "qwen2":
        each |= {f"self_attn.{n}_proj.bias": (size,) for n, size in (("q", q), ("k", kv), ("v", kv))}
    if words["model_type"] == "qwen3":
        each |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    for i in range(words["num_hidden_layers"]):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in each.items()}
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_directory(
    path: Path, words: dict[str, Any], tensors: dict[str, Any], *, shards: int = 1, dtype: str = "float32"
) -> Path:
    """A checkpoint directory with `shards` weight files."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(words))
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    stored = {
        name: value if value.dtype.kind == "i" else np.array(value, kind, order="C")
        for name, value in tensors.items()
    }
    if shards == 1:
        save_file(stored, path / "model.safetensors")
        return path
    places = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(stored)}
    for shard in set(places.values()):
        save_file({name: value for name, value in stored.items() if places[name] == shard}, path / shard)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return path


def gguf_name(name: str) -> str:
    """The GGUF name of a Hugging Face tensor."""
    stem, kind = name.rsplit(".", 1)
    prefix = ""
    if stem.startswith("model.layers."):
        _, _, block, stem = stem.split(".", 3)
        prefix = f"blk.{block}."
    return f"{prefix}{NAMES[stem]}.{kind}"


def interleave(rows: Array, heads: int, back: bool = False) -> Array:
    """The order in which GGUF keeps query and key rows of llama, halves in pairs; or the way back."""
    head = len(rows) // heads
    order = [h * head + s * head // 2 + j for h in range(heads) for j in range(head // 2) for s in range(2)]
    return rows[np.argsort(order) if back else order]


def write_gguf(
    path: Path,
    words: dict[str, Any],
    tensors: dict[str, Array],
    *,
    kind: str = "F32",
    blocks: dict[str, tuple[str, Array]] | None = None,
    split_max_tensors: int = 0,
    **metadata: Any,
) -> Path:
    """A GGUF file; matrices are stored as `kind`, `metadata` adds keys, or with None leaves them out.

    `blocks` holds further tensors as they are stored: by GGUF name, type and uint8 [rows, bytes]. With
    `split_max_tensors` it is several files, of which none has the path itself.
    """
    architecture = "llama" if words["model_type"] == "mistral" else words["model_type"]
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split_max_tensors)
    keys = {
        "context_length": words["max_position_embeddings"], "embedding_length": words["hidden_size"],
        "block_count": words["num_hidden_layers"], "feed_forward_length": words["intermediate_size"],
        "attention.head_count": words["num_attention_heads"],
        "attention.head_count_kv": words["num_key_value_heads"],
        "attention.key_length": words["head_dim"], "attention.value_length": words["head_dim"],
        "attention.layer_norm_rms_epsilon": words["rms_norm_eps"], "rope.freq_base": words["rope_theta"],
        "rope.dimension_count": words["head_dim"],
    }  # fmt: skip
    for key, value in (keys | {key.replace("__", "."): value for key, value in metadata.items()}).items():
        _add(writer, key if key.split(".")[0] in ("general", "tokenizer") else f"{architecture}.{key}", value)
    for name, value in tensors.items():
        if architecture == "llama" and ".q_proj." in name:
            value = interleave(value, words["num_attention_heads"])
        if architecture == "llama" and ".k_proj." in name:
            value = interleave(value, words["num_key_value_heads"])
        type_ = gguf.GGMLQuantizationType[kind if value.ndim == 2 else "F32"]
        stored = gguf.quants.quantize(value, type_)
        writer.add_tensor(name if name == "rope_freqs.weight" else gguf_name(name), stored, raw_dtype=type_)
    for name, (stored_kind, data) in (blocks or {}).items():
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[stored_kind])
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)
