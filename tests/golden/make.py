"""Make the tiny checkpoints in families/ and the logits that transformers gives for them.

usage: python -m tests.golden.make [NAME ...]     from the top; needs torch and transformers

Weights are random and seeded, norms are far from one, query and key weights are large enough that attention
is not flat: a wrong rotation, window, bias or head map moves the logits by far more than the tolerance.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers
from transformers.integrations.bitnet import pack_weights
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from tests.golden import reference, reference_gemma4

HERE = Path(__file__).parent / "families"
TOKENS = 48
COMMON: dict[str, Any] = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One checkpoint: its config class, what differs from COMMON, how it is stored and spelled."""

    config: Callable[..., Any]
    values: dict[str, Any]
    dtype: torch.dtype = torch.float32
    shard: str = "5GB"
    old_rope: bool = False  # rope_theta and rope_scaling, as checkpoints before transformers 5 have them
    published: dict[str, Any] = field(default_factory=dict)  # keys put into config.json
    by_hand: bool = False  # reference.py computes it, too
    tokens: int = TOKENS
    sees: bool = False  # values are text_config and vision_config; words that are the class's are left out
    bare: bool = False  # nothing of COMMON
    mxfp4: bool = False  # experts' matrices are rounded so, and stored so
    ternary: str = ""  # matrices are -1, 0, 1 times a number: "packed", or "masters" that are rounded so
    becomes: dict[str, Any] = field(default_factory=dict)  # words of config.json once the logits are made
    without: tuple[str, ...] = ()  # and those that go


SMALL: dict[str, Any] = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 80, "head_dim": 16}
FLAT = {key: value for key, value in SMALL.items() if key != "head_dim"} | {"pad_token_id": 0}
OSS = SMALL | {
    "num_hidden_layers": 3, "intermediate_size": 32, "num_local_experts": 5, "num_experts_per_tok": 3,
    "sliding_window": 16, "pad_token_id": 0,
}  # fmt: skip
YARN = {"factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 64}  # fmt: skip
SLIDING, FULL = "sliding_attention", "full_attention"
GEMMA4: dict[str, Any] = SMALL | {
    "hidden_size": 40, "intermediate_size": 52, "head_dim": 24, "num_hidden_layers": 7, "sliding_window": 16,
    "layer_types": [*(2 * (SLIDING, FULL)), SLIDING, SLIDING, FULL],
    "vocab_size_per_layer_input": 96, "tie_word_embeddings": True, "pad_token_id": 0,
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e4},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e3}},
}  # fmt: skip
LFM2: dict[str, Any] = {
    "vocab_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "norm_eps": 1e-5, "tie_word_embeddings": True, "max_position_embeddings": 128,
    "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
}  # fmt: skip
QWEN35: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 4, "head_dim": 24, "layer_types": [
        "linear_attention", "linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "rope_parameters": {
        "rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5,
        "mrope_section": [2, 2, 2], "mrope_interleaved": True},
}  # fmt: skip
HYBRID: dict[str, Any] = {
    "vocab_size": 96, "num_hidden_layers": 3, "shared_intermediate_size": 60, "pad_token_id": 0,
    "embedding_multiplier": 6.0, "residual_multiplier": 0.4, "attention_multiplier": 0.35,
    "logits_scaling": 4.0, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
}  # fmt: skip
FALCON_H1: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 40, "intermediate_size": 60, "num_hidden_layers": 3, "head_dim": 16,
    "pad_token_id": 0, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
}  # fmt: skip
BF16: dict[str, Any] = {"dtype": torch.bfloat16}


def rope(theta: float, **scaling: Any) -> dict[str, Any]:
    return {"rope_theta": theta, "rope_type": "default"} | scaling


FAMILIES = {
    # hidden is no multiple of 32, head_dim is not hidden / heads
    "llama": Family(transformers.LlamaConfig, {
        "vocab_size": 99, "hidden_size": 72, "intermediate_size": 44, "head_dim": 16,
        "rope_parameters": rope(1e4)}, old_rope=True, by_hand=True),
    # tied, one key head, several shards
    "llama-tied": Family(transformers.LlamaConfig, {
        "vocab_size": 160, "hidden_size": 64, "intermediate_size": 172, "head_dim": 16,
        "num_key_value_heads": 1, "num_hidden_layers": 3, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
        "rope_parameters": rope(2e4)},
        dtype=torch.bfloat16, shard="100kB", by_hand=True),
    # the original context is so short that slowed, blended and kept frequencies all occur
    "llama-3-rope": Family(transformers.LlamaConfig, {
        "vocab_size": 144, "hidden_size": 64, "intermediate_size": 160, "head_dim": 16,
        "rope_parameters": rope(1e4, **LLAMA3)}, dtype=torch.bfloat16, old_rope=True, by_hand=True),
    # the window is a third of the sequence
    "mistral": Family(transformers.MistralConfig, {
        "vocab_size": 128, "hidden_size": 64, "intermediate_size": 112, "head_dim": 16, "sliding_window": 16,
        "rope_parameters": rope(1e4)}, dtype=torch.bfloat16, old_rope=True, by_hand=True),
    # biases on q, k and v; the window is set but switched off
    "qwen2": Family(transformers.Qwen2Config, {
        "vocab_size": 151, "hidden_size": 64, "intermediate_size": 96, "tie_word_embeddings": True,
        "use_sliding_window": False, "rms_norm_eps": 1e-6, "rope_parameters": rope(1e6)},
        dtype=torch.float16, old_rope=True, published={"sliding_window": 8}, by_hand=True),
    # norms on the heads of q and k; the heads together are wider than hidden
    "qwen3": Family(transformers.Qwen3Config, {
        "vocab_size": 151, "hidden_size": 64, "intermediate_size": 96, "head_dim": 32, "rms_norm_eps": 1e-6,
        "rope_parameters": rope(1e6)}, dtype=torch.bfloat16, by_hand=True),
    # every other layer has a window; caps; the scale of scores is not the head's; heads wider than hidden
    "gemma2": Family(transformers.Gemma2Config, SMALL | {
        "head_dim": 24, "sliding_window": 16, "query_pre_attn_scalar": 40, "tie_word_embeddings": True,
        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "num_hidden_layers": 3,
        "rope_parameters": rope(1e4)}, old_rope=True, **BF16),
    # the usual pattern of layers; both rotations, the one without windows scaled
    "gemma3": Family(transformers.Gemma3TextConfig, SMALL | {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 7, "num_key_value_heads": 1,
        "sliding_window": 16, "query_pre_attn_scalar": 20, "tie_word_embeddings": True,
        "rope_parameters": {"full_attention": rope(1e5, rope_type="linear", factor=8.0),
                            "sliding_attention": rope(1e3)}}, **BF16),
    # wholes that see, of which the text model counts
    "gemma3-sees": Family(transformers.Gemma3Config, {
        "text_config": SMALL | {
            "model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 48, "head_dim": 8,
            "num_attention_heads": 8, "num_key_value_heads": 4, "sliding_window": 16,
            "query_pre_attn_scalar": 20, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "rope_parameters": {"full_attention": rope(1e6, rope_type="linear", factor=8.0),
                                "sliding_attention": rope(1e4)}},
        "vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                          "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        "mm_tokens_per_image": 4, "eos_token_id": [2, 5]}, sees=True, **BF16),
    "gemma4-sees": Family(transformers.Gemma4Config, {
        "text_config": SMALL | {
            "model_type": "gemma4_text", "hidden_size": 32, "intermediate_size": 48, "head_dim": 8,
            "global_head_dim": 16, "sliding_window": 16, "num_hidden_layers": 4, "num_kv_shared_layers": 2,
            "layer_types": [SLIDING, FULL] * 2, "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 96, "pad_token_id": 0, "tie_word_embeddings": True,
            "final_logit_softcapping": 30.0, "rms_norm_eps": 1e-6},
        "vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                          "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
                          "position_embedding_size": 16, "patch_size": 4},
        "audio_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                         "subsampling_conv_channels": [4, 4], "output_proj_dims": 16},
        "eos_token_id": [1, 5]}, sees=True, **BF16),
    "mistral3-sees": Family(transformers.Mistral3Config, {
        "text_config": SMALL | {
            "model_type": "ministral3", "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
            "rope_parameters": rope(1e4, rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
                                    beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
                                    llama_4_scaling_beta=0.3)},
        "vision_config": {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16,
                          "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "image_size": 28,
                          "patch_size": 14},
        "tie_word_embeddings": False}, sees=True, **BF16),
    # fused matrices, half of each head turns, the text goes beyond the original context
    "phi3": Family(transformers.Phi3Config, FLAT | {
        "partial_rotary_factor": 0.5, "original_max_position_embeddings": 32,
        "rope_parameters": rope(1e4, rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 2.0],
                                long_factor=[1.5, 2.0, 3.0, 8.0], partial_rotary_factor=0.5,
                                original_max_position_embeddings=32)}, **BF16),
    # and one of a context that is not beyond it, with a window
    "phi3-short": Family(transformers.Phi3Config, FLAT | {
        "sliding_window": 16, "original_max_position_embeddings": 128,
        "rope_parameters": rope(1e4)}, **BF16),
    "granite": Family(transformers.GraniteConfig, FLAT | {
        "embedding_multiplier": 6.0, "residual_multiplier": 0.4,
        "attention_multiplier": 0.35, "logits_scaling": 4.0, "tie_word_embeddings": True,
        "rope_parameters": rope(1e4)}, old_rope=True, **BF16),
    "smollm3": Family(transformers.SmolLM3Config, FLAT | {
        "num_hidden_layers": 4, "tie_word_embeddings": True,
        "rope_parameters": rope(1e5)}, **BF16),
    # queries grow from position 16 on
    "ministral3": Family(transformers.Ministral3Config, SMALL | {
        "head_dim": 24, "rope_parameters": rope(
            1e4, rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=32.0,
            beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)}, **BF16),
    "olmo2": Family(transformers.Olmo2Config, FLAT | {
        "num_key_value_heads": 4, "rope_parameters": rope(1e4)}, **BF16),
    "olmo3": Family(transformers.Olmo3Config, FLAT | {
        "num_hidden_layers": 4, "sliding_window": 16, "rope_parameters": {
            "full_attention": rope(1e4, rope_type="yarn", factor=8.0, attention_factor=1.2,
                                   original_max_position_embeddings=16),
            "sliding_attention": rope(1e3)}}, **BF16),
    "exaone4": Family(transformers.Exaone4Config, FLAT | {
        "num_hidden_layers": 4, "sliding_window": 16, "sliding_window_pattern": 3,
        "rope_parameters": rope(1e4)}, **BF16),
    "exaone4-full": Family(transformers.Exaone4Config, FLAT | {
        "sliding_window": None, "layer_types": ["full_attention"] * 2,
        "rope_parameters": rope(1e4, **LLAMA3)}, **BF16),
    "glm4": Family(transformers.Glm4Config, SMALL | {
        "head_dim": 24, "attention_bias": True, "num_key_value_heads": 1, "pad_token_id": 0,
        "rope_parameters": rope(1e4, partial_rotary_factor=0.5)}, **BF16),
    "hunyuan": Family(transformers.HunYuanDenseV1Config, SMALL | {
        "tie_word_embeddings": True,
        "rope_parameters": rope(1e4, rope_type="dynamic", alpha=40.0, factor=1.0)}, **BF16),
    "ernie4_5": Family(transformers.Ernie4_5Config, SMALL | {
        "head_dim": 32, "tie_word_embeddings": True, "rope_parameters": rope(5e5)}, **BF16),
    "cohere2": Family(transformers.Cohere2Config, FLAT | {
        "num_hidden_layers": 4, "sliding_window": 16, "logit_scale": 0.3,
        "layer_norm_eps": 1e-3, "tie_word_embeddings": True, "rope_parameters": rope(5e4)}, **BF16),
    "stablelm": Family(transformers.StableLmConfig, FLAT | {
        "use_qkv_bias": True, "layer_norm_eps": 1e-3,
        "rope_parameters": rope(1e4, partial_rotary_factor=0.25)}, **BF16),
    # the form of the 12 B: attention and MLP side by side, norms of its own for each head
    "stablelm-parallel": Family(transformers.StableLmConfig, FLAT | {
        "use_parallel_residual": True, "qk_layernorm": True, "layer_norm_eps": 1e-3,
        "rope_parameters": rope(1e4, partial_rotary_factor=0.25)}, **BF16),
    # the numbers of each layer's activation are tensors
    "apertus": Family(transformers.ApertusConfig, FLAT | {
        "num_hidden_layers": 3, "rope_parameters": rope(1e4, **LLAMA3)}, **BF16),
    "gpt2": Family(transformers.GPT2Config, {
        "vocab_size": 96, "n_embd": 72, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 80,
        "layer_norm_epsilon": 1e-3, "bos_token_id": 1, "eos_token_id": 2}, bare=True, **BF16),
    # transformers has no class for it: Granite of the same numbers; the text goes beyond the original context
    "minicpm": Family(transformers.GraniteConfig, FLAT | {
        "embedding_multiplier": 6.0, "residual_multiplier": 1.4 / 2**0.5, "attention_multiplier": 0.25,
        "logits_scaling": 4.0, "rope_parameters": rope(
            1e4, rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 2.0, 2.0, 2.5, 3.0, 4.0],
            long_factor=[1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], original_max_position_embeddings=32)},
        becomes={
            "model_type": "minicpm", "architectures": ["MiniCPMForCausalLM"], "scale_emb": 6,
            "scale_depth": 1.4, "dim_model_base": 16},
        without=("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"),
        old_rope=True, **BF16),
    "bitnet": Family(transformers.BitNetConfig, FLAT | {
        "tie_word_embeddings": True, "rope_parameters": rope(1e4)}, ternary="packed",
        becomes={"quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                         "quantization_mode": "offline"}}, **BF16),
    "bitnet-masters": Family(transformers.BitNetConfig, FLAT | {
        "rope_parameters": rope(1e4)}, ternary="masters",
        becomes={"quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                         "quantization_mode": "online"}}, **BF16),
    "gpt_neox": Family(transformers.GPTNeoXConfig, {
        "vocab_size": 96, "hidden_size": 64, "intermediate_size": 80, "num_attention_heads": 4,
        "layer_norm_eps": 1e-3, "rope_parameters": rope(1e4, partial_rotary_factor=0.25)}, **BF16),
    # one of three layers has no experts; shares add up to 1
    "qwen3_moe": Family(transformers.Qwen3MoeConfig, SMALL | {
        "num_hidden_layers": 3, "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
        "mlp_only_layers": [1], "norm_topk_prob": True, "rope_parameters": rope(1e4)}, **BF16),
    "mixtral": Family(transformers.MixtralConfig, SMALL | {
        "num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": rope(1e4)}, **BF16),
    # shares that do not add up to 1
    "olmoe": Family(transformers.OlmoeConfig, FLAT | {
        "num_key_value_heads": 4, "intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 3,
        "norm_topk_prob": False, "rope_parameters": rope(1e4)}, **BF16),
    # biases, a shared expert with a gate, one layer without experts
    "qwen2_moe": Family(transformers.Qwen2MoeConfig, FLAT | {
        "num_hidden_layers": 3, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 48, "mlp_only_layers": [1], "norm_topk_prob": False,
        "rope_parameters": rope(1e4)}, **BF16),
    # every other layer has a window; YaRN with bounds between pairs
    "gpt_oss": Family(transformers.GptOssConfig, OSS | {
        "rope_parameters": rope(1e4, rope_type="yarn", factor=8.0, beta_fast=4.0, beta_slow=1.0,
                                truncate=False, original_max_position_embeddings=32)}, **BF16),
    "gpt_oss-mxfp4": Family(transformers.GptOssConfig, OSS | {
        "num_hidden_layers": 2, "rope_parameters": rope(1e4, rope_type="yarn", **YARN)},
        old_rope=True, mxfp4=True, **BF16),
    # heads of two sizes, keys that are values, layers that read others' and have an MLP twice as wide, inputs
    # of layers; the words as they are published, and as transformers writes them
    "gemma4": Family(transformers.Gemma4TextConfig, GEMMA4 | {
        "global_head_dim": 40, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
        "num_kv_shared_layers": 3, "use_double_wide_mlp": True, "hidden_size_per_layer_input": 12,
        "final_logit_softcapping": 8.0},
        becomes={"global_head_dim": 40, "num_global_key_value_heads": 1}, without=("per_layer_config",),
        by_hand=True, **BF16),
    "gemma4-mixture": Family(transformers.Gemma4TextConfig, GEMMA4 | {
        "hidden_size": 64, "num_hidden_layers": 3, "layer_types": None, "head_dim": 16, "global_head_dim": 32,
        "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 6, "top_k_experts": 3,
        "moe_intermediate_size": 32, "final_logit_softcapping": 30.0}, by_hand=True, **BF16),
    # the form of the 12 B, whose whole hears without an encoder
    "gemma4-unified": Family(transformers.Gemma4UnifiedTextConfig, {
        key: value for key, value in GEMMA4.items() if key != "vocab_size_per_layer_input"} | {
        "hidden_size": 48, "num_hidden_layers": 3, "layer_types": [SLIDING, SLIDING, FULL],
        "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
        "final_logit_softcapping": 30.0}, by_hand=True, **BF16),
    # convolutions but for the third layer; a width that is no multiple of 16
    "lfm2": Family(transformers.Lfm2Config, LFM2 | {
        "hidden_size": 72, "intermediate_size": 60, "block_multiple_of": 16, "full_attn_idxs": [2]},
        bare=True, **BF16),
    # and of four tokens; experts behind the first layer, whose choice has a bias
    "lfm2_moe": Family(transformers.Lfm2MoeConfig, LFM2 | {
        "hidden_size": 64, "intermediate_size": 80, "moe_intermediate_size": 32, "num_dense_layers": 1,
        "num_experts": 6, "num_experts_per_tok": 2, "conv_L_cache": 4, "routed_scaling_factor": 1.5,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"]}, bare=True, **BF16),
    # every third layer attention; three heads of values for each of keys
    "qwen3_5": Family(transformers.Qwen3_5TextConfig, QWEN35 | {"intermediate_size": 80}, **BF16),
    # in a whole that sees; keys less wide than values, which llama.cpp cannot
    "qwen3_5-sees": Family(transformers.Qwen3_5Config, {
        "text_config": SMALL | {
            "model_type": "qwen3_5_text", "num_attention_heads": 4, "num_key_value_heads": 2,
            "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "linear_key_head_dim": 12, "linear_value_head_dim": 16, "rope_parameters": {
                "rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1], "mrope_interleaved": True}},
        "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
                          "out_hidden_size": 64, "num_position_embeddings": 16},
        "tie_word_embeddings": True}, sees=True, **BF16),
    # experts beside a shared one in place of MLPs, of which the config has no width
    "qwen3_5_moe": Family(transformers.Qwen3_5MoeTextConfig, QWEN35 | {
        "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 48}, **BF16),
    # fused projections, key head by key head; the second layer has no experts
    "qwen3_next": Family(transformers.Qwen3NextConfig, QWEN35 | {
        "intermediate_size": 80, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 48, "mlp_only_layers": [1],
        "rope_parameters": rope(1e4, partial_rotary_factor=0.5)}, **BF16),
    # heads that are no whole lines, two groups of them; experts beside the MLP; nothing turns
    "granitemoehybrid": Family(transformers.GraniteMoeHybridConfig, HYBRID | {
        "hidden_size": 48, "intermediate_size": 32, "num_local_experts": 5, "num_experts_per_tok": 2,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "position_embedding_type": "nope", "mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_state": 20,
        }, **BF16),
    # an MLP alone; attention turns
    "granitemoehybrid-dense": Family(transformers.GraniteMoeHybridConfig, HYBRID | {
        "hidden_size": 40, "intermediate_size": 60, "num_local_experts": 0, "num_experts_per_tok": 0,
        "layer_types": ["full_attention", "linear_attention", "linear_attention"],
        "position_embedding_type": "rope", "mamba_n_heads": 5, "mamba_d_state": 16,
        "tie_word_embeddings": True}, **BF16),
    # attention beside Mamba-2; multipliers, all of them powers of two, so that bfloat16 holds the products
    "falcon_h1": Family(transformers.FalconH1Config, FALCON_H1 | {
        "mamba_d_ssm": 60, "mamba_n_heads": 5, "mamba_d_state": 24,
        "embedding_multiplier": 4.0, "lm_head_multiplier": 0.5, "key_multiplier": 0.5,
        "attention_in_multiplier": 2.0, "attention_out_multiplier": 0.5, "ssm_in_multiplier": 0.5,
        "ssm_out_multiplier": 0.25, "mlp_multipliers": [2.0, 0.25],
        "ssm_multipliers": [4.0, 2.0, 0.5, 8.0, 0.25]}, **BF16),
    # two groups with norms, no bias, one multiplier, which the embedding that is the head has not
    "falcon_h1-normed": Family(transformers.FalconH1Config, FALCON_H1 | {
        "num_hidden_layers": 2, "mamba_d_ssm": None, "mamba_n_heads": 4, "mamba_n_groups": 2,
        "mamba_d_state": 16, "mamba_rms_norm": True, "mamba_norm_before_gate": False,
        "mamba_conv_bias": False, "embedding_multiplier": 4.0, "tie_word_embeddings": True}, **BF16),
    "granitemoe": Family(transformers.GraniteMoeConfig, FLAT | {
        "intermediate_size": 32, "num_local_experts": 5, "num_experts_per_tok": 3,
        "embedding_multiplier": 6.0, "residual_multiplier": 0.4, "attention_multiplier": 0.35,
        "logits_scaling": 4.0, "rope_parameters": rope(1e4)}, **BF16),
}  # fmt: skip


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Fill every parameter from one seeded generator, in order of name."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name.endswith("mamba.A_log"):  # of states that are not forgotten at once
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 3.5)
            elif parameter.ndim < 2 and not name.endswith(".bias"):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
            elif name.endswith((".bias", "_proj_bias")):
                parameter.copy_(0.5 * normal(parameter.shape))
            elif "embed_tokens" in name or "embed_in" in name or "wte" in name or "wpe" in name:
                parameter.copy_(0.3 * normal(parameter.shape))
            else:
                sharp = ("q_proj", "k_proj", "qkv", ".self.query.", ".self.key.")
                scale = 2.0 if any(part in name for part in sharp) else 1.0
                if "gate_up_proj" in name and hasattr(model.config, "swiglu_limit"):
                    scale = 4.0  # some go beyond it
                parameter.copy_(scale * normal(parameter.shape) / parameter.shape[1] ** 0.5)
        for name, buffer in sorted(model.named_buffers()):
            if name.endswith("layer_scalar"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            if name.endswith("expert_bias"):
                buffer.copy_(0.3 * normal(buffer.shape))


def respell(directory: Path, family: Family) -> None:
    """Rewrite config.json as checkpoints are published: `rope_theta`, `rope_scaling`, the family's keys."""
    path = directory / "config.json"
    config = json.loads(path.read_text()) | family.published
    if family.old_rope:
        parameters = config.pop("rope_parameters")
        config["rope_theta"] = parameters.pop("rope_theta")
        config["rope_scaling"] = None if parameters == {"rope_type": "default"} else parameters
    if family.sees:
        text = config["text_config"]
        usual = type(transformers.AutoConfig.for_model(text["model_type"]))().to_dict()
        kept = {key: value for key, value in text.items() if key == "model_type" or value != usual.get(key)}
        config["text_config"] = kept
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def config_of(family: Family) -> Any:
    if family.sees:
        return family.config(**family.values | {"text_config": COMMON | family.values["text_config"]})
    return family.config(**({} if family.bare else COMMON) | family.values)


def ternarize(model: Any, directory: Path, family: Family) -> None:
    """Make the matrices of a model's blocks what BitNet's reference makes of them, and write what they are
    made from. Its own rounding of activations is left out: edgeq's is another.
    """
    tensors = {name: tensor.to(family.dtype) for name, tensor in model.state_dict().items()}
    for name, w in model.named_parameters():
        if not name.endswith("_proj.weight"):
            continue
        master = tensors[name].float()
        inverse = 1.0 / master.abs().mean().clamp(min=1e-5)
        codes = (master * inverse).round().clamp(-1, 1)
        scale = 1.0 / inverse
        if family.ternary == "packed":
            scale = scale.to(family.dtype).float()
            tensors[name] = pack_weights(codes.clone())
            tensors[f"{name}_scale"] = scale.to(family.dtype).reshape(1)
        with torch.no_grad():
            w.copy_(codes * scale)
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    safetensors.torch.save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def pack_mxfp4(model: Any, directory: Path) -> None:
    """Store the experts' matrices of a checkpoint as published ones have them, each 32 columns of the product
    as codes of FP4 and the exponent that leaves none above the largest; the model gets what transformers
    makes of these.
    """
    path = directory / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    magnitudes = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        x = tensors.pop(name).float().swapaxes(1, 2)
        x = x.reshape(*x.shape[:2], -1, 32)
        exponents = torch.ceil(torch.log2(x.abs().amax(-1, keepdim=True) / 6))
        codes = (x.abs()[..., None] / 2.0 ** exponents[..., None] - magnitudes).abs().argmin(-1)
        codes = codes.to(torch.uint8) | (x < 0).to(torch.uint8) << 3
        tensors[f"{name}_blocks"] = codes[..., 0::2] | codes[..., 1::2] << 4
        tensors[f"{name}_scales"] = (exponents[..., 0] + 127).to(torch.uint8)
        parts = (tensors[f"{name}_blocks"], tensors[f"{name}_scales"])
        with torch.no_grad():
            model.get_parameter(name).copy_(convert_moe_packed_tensors(*parts, dtype=torch.float32))
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    path = directory / "config.json"
    words = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}
    path.write_text(json.dumps(words, indent=2, sort_keys=True) + "\n")


def make(name: str) -> None:
    """Write families/NAME: checkpoint, ids.npy, logits.npy; refuse if reference.py disagrees."""
    family, directory, seed = FAMILIES[name], HERE / name, sorted(FAMILIES).index(name)
    shutil.rmtree(directory, ignore_errors=True)
    auto = transformers.AutoModelForImageTextToText if family.sees else transformers.AutoModelForCausalLM
    config = config_of(family)
    model = auto.from_config(config)
    randomize(model, seed)
    model.to(family.dtype).save_pretrained(directory, max_shard_size=family.shard)
    (directory / "generation_config.json").unlink(missing_ok=True)
    respell(directory, family)

    # Reloaded, so that the logits are those of the files, config's spelling and rounded weights included.
    model = auto.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    if family.ternary:
        ternarize(model, directory, family)
    if family.mxfp4:
        pack_mxfp4(model, directory)
    ids = np.random.default_rng(seed).integers(3, config.get_text_config().vocab_size, family.tokens)
    ids[0] = 1
    with torch.inference_mode():
        logits = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    largest, error = np.abs(logits).max(), 0.0
    if family.by_hand:
        checkpoint = reference.load(directory)
        meaning = reference_gemma4 if name.startswith("gemma4") else reference
        ours = meaning.logits(checkpoint, ids.tolist())
        error = np.abs(ours - logits).max() / largest
    kilobytes = sum(path.stat().st_size for path in directory.iterdir()) / 1e3
    print(f"{name:14} {kilobytes:6.0f} kB  largest logit {largest:6.2f}  reference differs by {error:.1e}")
    if error > 1e-5:
        raise SystemExit(f"{name}: reference.py and transformers differ by {error:.1e} of the largest logit")
    np.save(directory / "ids.npy", ids.astype(np.int32))
    np.save(directory / "logits.npy", logits.astype(np.float32))
    if family.becomes:
        path = directory / "config.json"
        words = {k: v for k, v in json.loads(path.read_text()).items() if k not in family.without}
        path.write_text(json.dumps(words | family.becomes, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for chosen in sys.argv[1:] or FAMILIES:
        make(chosen)
