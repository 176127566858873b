"""Make the small GGUF files here and the logits that llama.cpp gives for them.

usage: python -m tests.golden.llamacpp.make_llamacpp [NAME ...]
       from the top; needs llama_cpp, gguf and sentencepiece

llama.cpp runs with a float32 KV cache and without flash attention. The random models are those of
../families with calmer attention; stories260K is the bundled one, with its vocabulary and with zero rows up
to a multiple of 32. every-type is random, too: it has a matrix of each type that ggml rounds to and the gguf
library reads; one of NVFP4 has a scale.
"""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from tests.golden import gguf_checkpoint, reference

HERE = Path(__file__).parent
STORIES = HERE.parents[2] / "edgeq" / "demo" / "stories260K"
TOKENS = 64
EVERY_TYPE = {  # the types of each block's matrices; those of many bits are the small ones
    "attn_q": ("NVFP4", "Q3_K", "IQ4_XS"), "attn_k": ("MXFP4", "Q4_1", "IQ3_S"),
    "attn_v": ("Q4_0", "IQ3_XXS", "Q4_K"), "attn_output": ("Q5_0", "Q5_1", "IQ4_NL"),
    "ffn_gate": ("Q2_K", "IQ2_XS", "IQ1_S"), "ffn_up": ("TQ1_0", "IQ2_S", "IQ1_M"),
    "ffn_down": ("TQ2_0", "IQ2_XXS", "NVFP4"), "token_embd": ("Q6_K",), "output": ("Q5_K",),
}  # fmt: skip
SCALED = "blk.2.ffn_down.weight"  # has a scale beside it, so that the largest of its own is ue4m3's largest
LARGEST = 6 * 448  # of NVFP4 without one: the largest code's value times that scale
MODELS = {  # name: (checkpoint, GGUF type)
    "stories260K-q8_0": (STORIES, "q8_0"),
    "stories260K-q4_0": (STORIES, "q4_0"),
    "llama-3-rope-q8_0": (HERE.parent / "families" / "llama-3-rope", "q8_0"),
    "qwen2-q8_0": (HERE.parent / "families" / "qwen2", "q8_0"),
    "qwen3-q4_0": (HERE.parent / "families" / "qwen3", "q4_0"),
}


def every_type() -> reference.Checkpoint:
    """A random Llama whose columns are whole blocks of 256, but for those of attention's output."""
    config: dict[str, Any] = {
        "model_type": "llama", "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 64,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    }  # fmt: skip
    random = np.random.default_rng(11)

    def matrix(rows: int, columns: int) -> NDArray[Any]:
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    weights = {"model.embed_tokens.weight": matrix(64, 256), "lm_head.weight": matrix(64, 256)}
    for block in range(config["num_hidden_layers"]):
        shapes = {
            "self_attn.q_proj": (64, 256), "self_attn.k_proj": (32, 256), "self_attn.v_proj": (32, 256),
            "self_attn.o_proj": (256, 64), "mlp.gate_proj": (256, 256), "mlp.up_proj": (256, 256),
            "mlp.down_proj": (256, 256),
        }  # fmt: skip
        for name, shape in shapes.items():  # calm, as `calm` makes the others: what a block adds is small
            weights[f"model.layers.{block}.{name}.weight"] = matrix(*shape) / (4 if shape[0] == 256 else 1)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{block}.{name}.weight"] = np.ones(256, np.float32)
    weights["model.norm.weight"] = np.ones(256, np.float32)
    return reference.Checkpoint(config, weights)


def rounded_by_ggml(name: str, values: NDArray[Any]) -> gguf_checkpoint.Stored:
    """A matrix of every_type, by its GGUF name, in its type."""
    words = name.split(".")
    kinds = EVERY_TYPE[words[-2]]
    kind = gguf.GGMLQuantizationType[kinds[int(words[1]) if words[0] == "blk" else 0]]
    return ggml_rounded(kind, values, np.abs(values).max() / LARGEST if name == SCALED else 1)


def ggml_rounded(
    kind: gguf.GGMLQuantizationType, values: NDArray[Any], factor: float = 1
) -> gguf_checkpoint.Stored:
    """A matrix divided by the factor, by ggml's own rounding with all columns equally important."""
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    rows, columns = values.shape
    block, nbytes = gguf.GGML_QUANT_SIZES[kind]
    stored = np.empty((rows, columns // block * nbytes), np.uint8)
    importance = np.ones(columns, np.float32)
    source = np.ascontiguousarray(values / np.float32(factor), np.float32)
    arguments = [array.ctypes.data_as(ctypes.c_void_p) for array in (source, stored, importance)]
    library.ggml_quantize_chunk(
        ctypes.c_int(kind), *arguments[:2], *map(ctypes.c_int64, (0, rows, columns)), arguments[2]
    )
    return kind, stored, float(np.float32(factor))


def calm(checkpoint: reference.Checkpoint) -> reference.Checkpoint:
    """The model with queries a quarter as long.

    The families' attention is sharp on purpose: there the rounding of activations to 8 bits moves llama.cpp's
    own logits to a cosine of 0.994 with the exact sum, and a comparison with it would say nothing.
    """
    queries = "q_norm.weight" if checkpoint.config["model_type"] == "qwen3" else "q_proj."
    weights = {name: x / 4 if queries in name else x for name, x in checkpoint.weights.items()}
    return dataclasses.replace(checkpoint, weights=weights)


def padded(checkpoint: reference.Checkpoint) -> reference.Checkpoint:
    """The same function with an intermediate size that is a multiple of 32: every matrix can be quantized."""
    more = -checkpoint.config["intermediate_size"] % 32
    weights = dict(checkpoint.weights)
    for name, x in weights.items():
        if "gate_proj" in name or "up_proj" in name:
            weights[name] = np.pad(x, ((0, more), (0, 0)))
        elif "down_proj" in name:
            weights[name] = np.pad(x, ((0, 0), (0, more)))
    config = checkpoint.config | {"intermediate_size": checkpoint.config["intermediate_size"] + more}
    return reference.Checkpoint(config, weights)


def llamacpp_logits(path: Path, ids: list[int], vocab: int) -> NDArray[np.float32]:
    """Logits [len(ids), vocab] of llama.cpp at every position, one thread, float32 cache."""
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 128
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    if llama_cpp.llama_decode(context, batch):
        raise SystemExit(f"llama_decode failed on {path.name}")
    logits: Any = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(ids), vocab)).copy()
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return logits


def cosines(a: Any, b: Any) -> NDArray[np.float64]:
    """Cosine of each row of a with the same row of b."""
    a, b = np.float64(a), np.float64(b)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def make(name: str) -> None:
    path = HERE / f"{name}.gguf"
    stored: Callable[[str, NDArray[Any]], gguf_checkpoint.Stored] = rounded_by_ggml
    if name == "every-type":
        directory, checkpoint = HERE, every_type()
    else:
        directory, kind = MODELS[name]
        checkpoint, stored = reference.load(directory), gguf_checkpoint.rounded(kind)
        checkpoint = padded(checkpoint) if directory == STORIES else calm(checkpoint)
    size = checkpoint.config["vocab_size"]
    gguf_checkpoint.write(path, checkpoint, stored, gguf_checkpoint.vocabulary(directory, size))
    ids = np.random.default_rng(7).integers(3, size, TOKENS)
    ids[0] = 1
    if directory == STORIES:  # a story, so that the trained weights see what they know
        once = [1, 403, 407, 261, 378]  # "Once upon a time"
        ids = np.array([*once, *reference.greedy(checkpoint, once, TOKENS - len(once))])
    logits = llamacpp_logits(path, ids.tolist(), size)
    exact = reference.logits(gguf_checkpoint.read(path), ids.tolist())
    print(
        f"{name:18} {path.stat().st_size / 1e3:4.0f} kB  largest logit {abs(logits).max():5.2f}"
        f"  cosine of llama.cpp and the exact sum: worst {cosines(logits, exact).min():.6f}"
    )
    np.save(HERE / f"{name}.ids.npy", ids.astype(np.int32))
    np.save(HERE / f"{name}.logits.npy", logits.astype(np.float32))


if __name__ == "__main__":
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    for chosen in sys.argv[1:] or [*MODELS, "every-type"]:
        make(chosen)
