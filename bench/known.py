"""Published models: the words of their config.json that matter, and their number of parameters."""

from __future__ import annotations

from typing import Any

LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def words(model_type: str, sizes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """config.json of (vocabulary, hidden, intermediate, layers, heads, key-value heads, positions)."""
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "max_position_embeddings")  # fmt: skip
    common = {"model_type": model_type, "hidden_act": "silu", "torch_dtype": "bfloat16", "use_cache": True}
    return common | dict(zip(keys, sizes, strict=True)) | more


KNOWN = {
    "TinyLlama-1.1B": (
        words("llama", (32000, 2048, 5632, 22, 32, 4, 2048), rms_norm_eps=1e-5, rope_scaling=None,
        pretraining_tp=1),
        1_100_048_384,
    ),
    "Llama-2-7B": (words("llama", (32000, 4096, 11008, 32, 32, 32, 4096), rms_norm_eps=1e-5), 6_738_415_616),
    "Llama-3.2-1B": (
        words("llama", (128256, 2048, 8192, 16, 32, 8, 131072), head_dim=64, rope_theta=500000.0,
              rope_scaling=LLAMA3, tie_word_embeddings=True, attention_bias=False, mlp_bias=False),
        1_235_814_400,
    ),
    "SmolLM2-135M": (
        words("llama", (49152, 576, 1536, 30, 9, 3, 8192), rope_theta=100000, rope_interleaved=False,
              is_llama_config=True, tie_word_embeddings=True),
        134_515_008,
    ),
    "SmolLM2-360M": (
        words("llama", (49152, 960, 2560, 32, 15, 5, 8192), rope_theta=100000, rope_interleaved=False,
              is_llama_config=True, tie_word_embeddings=True),
        361_821_120,
    ),
    "SmolLM2-1.7B": (
        words("llama", (49152, 2048, 8192, 24, 32, 32, 8192), rope_theta=130000, rope_interleaved=False,
              is_llama_config=True, tie_word_embeddings=True),
        1_711_376_384,
    ),
    "Mistral-7B-v0.1": (words("mistral", (32000, 4096, 14336, 32, 32, 8, 32768), sliding_window=4096),
    7_241_732_096),
    "Qwen2.5-0.5B": (
        words("qwen2", (151936, 896, 4864, 24, 14, 2, 32768), rope_theta=1000000.0, sliding_window=32768,
              max_window_layers=24, use_mrope=False, use_sliding_window=False, tie_word_embeddings=True),
        494_032_768,
    ),
    "Qwen2.5-1.5B": (
        words("qwen2", (151936, 1536, 8960, 28, 12, 2, 32768), rope_theta=1000000.0, sliding_window=32768,
              max_window_layers=28, use_mrope=False, use_sliding_window=False, tie_word_embeddings=True),
        1_543_714_304,
    ),
    "Qwen3-0.6B": (
        words("qwen3", (151936, 1024, 3072, 28, 16, 8, 40960), head_dim=128, rope_theta=1000000,
        sliding_window=None,
              max_window_layers=28, use_sliding_window=False, tie_word_embeddings=True, attention_bias=False),
        596_049_920,
    ),
    "Llama-3.2-3B": (
        words("llama", (128256, 3072, 8192, 28, 24, 8, 131072), head_dim=128, rope_theta=500000.0,
              rope_scaling=LLAMA3 | {"factor": 32.0}, tie_word_embeddings=True),
        3_212_749_824,
    ),
    "Llama-3.1-8B": (
        words("llama", (128256, 4096, 14336, 32, 32, 8, 131072), rope_theta=500000.0,
              rope_scaling=LLAMA3 | {"factor": 8.0}, tie_word_embeddings=False),
        8_030_261_248,
    ),
    "Qwen3-1.7B": (
        words("qwen3", (151936, 2048, 6144, 28, 16, 8, 40960), head_dim=128, rope_theta=1000000,
              tie_word_embeddings=True),
        1_720_574_976,
    ),
    "Qwen3-4B": (
        words("qwen3", (151936, 2560, 9728, 36, 32, 8, 40960), head_dim=128, rope_theta=1000000,
              tie_word_embeddings=True),
        4_022_468_096,
    ),
}  # fmt: skip
