"""A Hugging Face checkpoint to a GGUF file and back, on the gguf library; for goldens, nothing of edgeq.

Matrices whose columns are no multiple of 32 stay float16, as llama.cpp's own tools leave them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import gguf.quants
import numpy as np
import sentencepiece
from numpy.typing import NDArray

from . import reference

Array = NDArray[Any]
# A type, a matrix in it (uint8 [rows, bytes]), and the number that this is multiplied by.
Stored = tuple[gguf.GGMLQuantizationType, Array, float]
NAMES = {  # GGUF: Hugging Face
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}


def gguf_name(name: str) -> str:
    """model.layers.3.mlp.up_proj.weight: blk.3.ffn_up.weight."""
    block, stem, ending = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.*)\.(\w+)", name).groups()  # type: ignore[union-attr]
    short = {value: key for key, value in NAMES.items()}[stem]
    return f"blk.{block}.{short}.{ending}" if block else f"{short}.{ending}"


def hf_name(name: str) -> str:
    """The way back."""
    block, stem, ending = re.fullmatch(r"(?:blk\.(\d+)\.)?(.*)\.(\w+)", name).groups()  # type: ignore[union-attr]
    return f"model.layers.{block}.{NAMES[stem]}.{ending}" if block else f"{NAMES[stem]}.{ending}"


def scale_name(name: str) -> str:
    """Of the number that the matrix of a GGUF name is multiplied by."""
    return f"{name.removesuffix('weight')}scale"


def interleave(x: Array, heads: int) -> Array:
    """Rows of each head from half-split to neighbouring pairs, as GGUF's llama keeps q and k."""
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def split(x: Array, heads: int) -> Array:
    """The way back."""
    return x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def turned_heads(config: dict[str, Any], name: str) -> int | None:
    """How many heads' rows are interleaved in this tensor (GGUF name): llama's q and k only."""
    if config["model_type"] != "llama" or not re.search(r"attn_[qk]\.", name):
        return None
    return int(config["num_attention_heads" if "attn_q" in name else "num_key_value_heads"])


def rounded(kind: str) -> Callable[[str, Array], Stored]:
    """All matrices as `kind` (q8_0, q4_0), rounded by the gguf library."""
    quantized = gguf.GGMLQuantizationType[kind.upper()]

    def stored(name: str, values: Array) -> Stored:
        if values.shape[1] % 32:
            return gguf.GGMLQuantizationType.F16, values.astype(np.float16), 1.0
        return quantized, gguf.quants.quantize(values, quantized), 1.0

    return stored


def vocabulary(directory: Path, size: int) -> tuple[list[bytes], list[float], list[int]]:
    """Texts, scores and GGUF token kinds: those of the directory's sentencepiece model, or made up."""
    if not (directory / "tokenizer.model").exists():
        texts = [b"<unk>", b"<s>", b"</s>"] + [b"w%d" % i for i in range(size - 3)]
        return texts, [0.0] * size, [2, 3, 3] + [1] * (size - 3)
    model = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    every = range(size)
    kinds = [2 * model.is_unknown(i) or 3 * model.is_control(i) or 6 * model.is_byte(i) or 1 for i in every]
    return [model.id_to_piece(i).encode() for i in every], [model.get_score(i) for i in every], kinds


def write(
    path: Path,
    checkpoint: reference.Checkpoint,
    stored: Callable[[str, Array], Stored],
    vocabulary: tuple[list[bytes], list[float], list[int]],
    chat_template: str | None = None,
) -> None:
    """Write the checkpoint with matrices as `stored` makes them of GGUF name and float32 [rows, columns];
    vocabulary: texts, scores, kinds."""
    config = checkpoint.config
    writer = gguf.GGUFWriter(path, config["model_type"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(reference.head_dim(config))
    writer.add_value_length(reference.head_dim(config))
    writer.add_rope_dimension_count(reference.head_dim(config))
    writer.add_rope_freq_base(reference.rope(config)[0])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    texts, scores, kinds = vocabulary
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    for name, values in checkpoint.weights.items():
        name = gguf_name(name)
        if heads := turned_heads(config, name):
            values = interleave(values, heads)
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            kind, data, factor = stored(name, values)
            writer.add_tensor(name, data, raw_dtype=kind)
            if factor != 1:
                writer.add_tensor(scale_name(name), np.array([factor], np.float32))
    factors = reference.inverse_frequencies({**config, "rope_scaling": None, "rope_parameters": {
        "rope_theta": reference.rope(config)[0]}}) / reference.inverse_frequencies(config)  # fmt: skip
    if (factors != 1).any():
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> reference.Checkpoint:
    """The checkpoint that a GGUF file holds, dequantized; scaled RoPE is in `rope_factors`, as there."""
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()

    def value(key: str) -> Any:
        return reader.fields[f"{arch}.{key}"].contents()

    config = {
        "model_type": arch,
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "head_dim": value("rope.dimension_count"),
        "rope_theta": value("rope.freq_base"),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "vocab_size": value("vocab_size"),
    }
    weights: dict[str, Array] = {}
    scales = {tensor.name: tensor.data for tensor in reader.tensors if tensor.name.endswith(".scale")}
    for tensor in reader.tensors:
        if tensor.name in scales:
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values *= scales.get(scale_name(tensor.name), np.float32(1))
        if tensor.name == "rope_freqs.weight":
            config["rope_factors"] = values
            continue
        if heads := turned_heads(config, tensor.name):
            values = split(values, heads)
        weights[hf_name(tensor.name)] = values
    return reference.Checkpoint({**config, "tie_word_embeddings": "lm_head.weight" not in weights}, weights)
