"""What the config classes of transformers 5.24 hold for a config.json with nothing but its model_type.

By model_type: vocabulary, hidden, intermediate, layers, heads, key heads, head, positions, epsilon, tied,
window; the family's own words, of what each layer has the pattern (L: with a window, G: without); and of each
table of frequencies the base, or kind and base. MiniCPM's class is its authors'.
"""

from __future__ import annotations

from typing import Any

BARE: dict[str, tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]] = {
    "apertus": (
        (131072, 4096, 14336, 32, 32, 32, 128, 65536, 1e-05, False, None),
        {},
        {"rope": ("llama3", 12000000.0)},
    ),
    "bert": (
        (30522, 768, 3072, 12, 12, 12, 64, 512, 1e-12, False, None),
        {"hidden_act": "gelu", "type_vocab_size": 2},
        {},
    ),
    "bitnet": (
        (128256, 2560, 6912, 30, 20, 5, 128, 2048, 1e-05, False, None),
        {"hidden_act": "relu2"},
        {"rope": 500000.0},
    ),
    "cohere2": (
        (256000, 8192, 22528, 40, 64, 64, 128, 8192, 1e-05, True, 4096),
        {"layer_types": "LLLG", "logit_scale": 0.0625},
        {"rope": 10000.0},
    ),
    "ernie4_5": ((103424, 1024, 3072, 18, 16, 2, 128, 131072, 1e-05, True, None), {}, {"rope": 500000.0}),
    "exaone4": (
        (102400, 4096, 16384, 32, 32, 32, 128, 2048, 1e-05, False, 4096),
        {"layer_types": "LLLG"},
        {"rope": 10000.0},
    ),
    "gemma2": (
        (256000, 2304, 9216, 26, 8, 4, 256, 8192, 1e-06, True, 4096),
        {
            "layer_types": "LG",
            "query_pre_attn_scalar": 256.0,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        {"rope": 10000.0},
    ),
    "gemma3_text": (
        (262208, 2304, 9216, 26, 8, 4, 256, 131072, 1e-06, True, 4096),
        {"layer_types": "LLLLLG", "query_pre_attn_scalar": 256.0},
        {"rope": 1000000.0, "rope.sliding": 10000.0},
    ),
    "gemma4_text": (
        (262144, 2304, 9216, 30, 8, 4, 256, 131072, 1e-06, True, 512),
        {
            "num_experts": 0,
            "num_experts_per_tok": 0,
            "moe_intermediate_size": 0,
            "norm_topk_prob": True,
            "layer_types": "LLLLLG",
            "global_head_dim": 512,
            "num_global_key_value_heads": 4,
            "attention_k_eq_v": False,
            "num_kv_shared_layers": 0,
            "use_double_wide_mlp": False,
            "hidden_size_per_layer_input": 256,
            "vocab_size_per_layer_input": 262144,
            "final_logit_softcapping": None,
        },
        {"rope": ("proportional", 1000000.0), "rope.sliding": 10000.0},
    ),
    "gemma4_unified_text": (
        (262144, 2304, 9216, 30, 8, 4, 256, 262144, 1e-06, True, 1024),
        {
            "num_experts": 0,
            "num_experts_per_tok": 0,
            "moe_intermediate_size": 0,
            "norm_topk_prob": True,
            "layer_types": "LLLLLG",
            "global_head_dim": 512,
            "num_global_key_value_heads": 4,
            "attention_k_eq_v": False,
            "num_kv_shared_layers": 0,
            "use_double_wide_mlp": False,
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 262144,
            "final_logit_softcapping": None,
        },
        {"rope": ("proportional", 1000000.0), "rope.sliding": 10000.0},
    ),
    "glm4": (
        (151552, 4096, 13696, 40, 32, 2, 128, 131072, 1.5625e-07, False, None),
        {"rotary_dim": 64, "attention_bias": True},
        {"rope": 10000.0},
    ),
    "gpt2": ((50257, 768, 3072, 12, 12, 12, 64, 1024, 1e-05, True, None), {"hidden_act": "gelu_new"}, {}),
    "gpt_neox": (
        (50432, 6144, 24576, 44, 64, 64, 96, 2048, 1e-05, False, None),
        {"rotary_dim": 24, "hidden_act": "gelu", "use_parallel_residual": True},
        {"rope": 10000.0},
    ),
    "granite": (
        (32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06, False, None),
        {
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "attention_multiplier": 1.0,
            "logits_scaling": 1.0,
        },
        {"rope": 10000.0},
    ),
    "granitemoe": (
        (32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06, False, None),
        {
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 11008,
            "norm_topk_prob": True,
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "attention_multiplier": 1.0,
            "logits_scaling": 1.0,
        },
        {"rope": 10000.0},
    ),
    "hunyuan_v1_dense": (
        (290943, 4096, 11008, 32, 32, 32, 128, 2048, 1e-05, False, None),
        {},
        {"rope": 10000.0},
    ),
    "llama": ((32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06, False, None), {}, {"rope": 10000.0}),
    "mistral": ((32000, 4096, 14336, 32, 32, 8, 128, 131072, 1e-06, False, 4096), {}, {"rope": 10000.0}),
    "minicpm": (
        (32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06, True, None),
        {
            "embedding_multiplier": 1.0,
            "residual_multiplier": 0.17677669529663687,
            "attention_multiplier": 0.08838834764831845,
            "logits_scaling": 4096.0,
            "original_max_position_embeddings": 134217728,
        },
        {"rope": 10000.0, "rope.long": 10000.0},
    ),
    "ministral3": (
        (131072, 4096, 14336, 34, 32, 8, 128, 262144, 1e-05, False, None),
        {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16384.0},
        {"rope": ("yarn", 1000000.0)},
    ),
    "mixtral": (
        (32000, 4096, 14336, 32, 32, 8, 128, 131072, 1e-05, False, None),
        {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 14336, "norm_topk_prob": True},
        {"rope": 1000000.0},
    ),
    "olmo2": (
        (50304, 4096, 11008, 32, 32, 32, 128, 2048, 1e-05, False, None),
        {"layer_types": "G"},
        {"rope": 10000.0, "rope.sliding": 10000.0},
    ),
    "olmo3": (
        (50304, 4096, 11008, 32, 32, 32, 128, 2048, 1e-05, False, 4096),
        {"layer_types": "LLLG"},
        {"rope": 500000.0, "rope.sliding": 500000.0},
    ),
    "olmoe": (
        (50304, 2048, 2048, 16, 16, 16, 128, 4096, 1e-05, False, None),
        {"num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "norm_topk_prob": False},
        {"rope": 10000.0},
    ),
    "phi3": (
        (32064, 3072, 8192, 32, 32, 32, 96, 4096, 1e-05, False, None),
        {"rotary_dim": 96, "original_max_position_embeddings": 134217728},
        {"rope": 10000.0, "rope.long": 10000.0},
    ),
    "qwen2": ((151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-06, False, None), {}, {"rope": 10000.0}),
    "qwen2_moe": (
        (151936, 2048, 5632, 24, 16, 16, 128, 32768, 1e-06, False, None),
        {
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "norm_topk_prob": False,
            "sparse": "True",
            "shared_expert_intermediate_size": 5632,
        },
        {"rope": 10000.0},
    ),
    "lfm2": (
        (65536, 2560, 8192, 32, 32, 8, 80, 128000, 1e-05, True, None),
        {"layer_types": "G", "conv_L_cache": 3},
        {"rope": 1000000.0},
    ),
    "lfm2_moe": (
        (65536, 2048, 7168, 32, 32, 8, 64, 128000, 1e-05, True, None),
        {
            "num_experts": 32,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1792,
            "norm_topk_prob": True,
            "layer_types": "G",
            "conv_L_cache": 3,
            "num_dense_layers": 2,
            "use_expert_bias": True,
            "routed_scaling_factor": 1.0,
        },
        {"rope": 1000000.0},
    ),
    "qwen3_5_text": (
        (248320, 4096, 12288, 32, 16, 4, 256, 32768, 1e-06, False, None),
        {
            "layer_types": "linear_attentionlinear_attentionlinear_attentionG",
            "rotary_dim": 64,
            "linear_conv_kernel_dim": 4,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
        },
        {"rope": 10000.0},
    ),
    "qwen3_5_moe_text": (
        (248320, 2048, 512, 40, 16, 2, 256, 32768, 1e-06, False, None),
        {
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 512,
            "norm_topk_prob": True,
            "layer_types": "linear_attentionlinear_attentionlinear_attentionG",
            "rotary_dim": 64,
            "linear_conv_kernel_dim": 4,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "shared_expert_intermediate_size": 512,
        },
        {"rope": 10000.0},
    ),
    "qwen3": ((151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-06, False, None), {}, {"rope": 10000.0}),
    "qwen3_moe": (
        (151936, 2048, 6144, 24, 32, 4, 64, 32768, 1e-06, False, None),
        {
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "norm_topk_prob": False,
            "sparse": "True",
        },
        {"rope": 10000.0},
    ),
    "smollm3": (
        (128256, 2048, 11008, 36, 16, 4, 128, 32768, 1e-06, True, None),
        {"no_rope_layers": "1110"},
        {"rope": 2000000.0},
    ),
    "stablelm": (
        (50304, 2560, 6912, 32, 32, 32, 80, 4096, 1e-05, False, None),
        {"rotary_dim": 20, "use_qkv_bias": False, "use_parallel_residual": False, "qk_layernorm": False},
        {"rope": 10000.0},
    ),
    "gpt_oss": (
        (201088, 2880, 2880, 36, 64, 8, 64, 131072, 1e-05, False, 128),
        {
            "num_experts": 128,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 2880,
            "norm_topk_prob": True,
            "layer_types": "LG",
            "rope_factors": {"rope": 1.3465735902799727},
        },
        {"rope": ("yarn", 150000.0)},
    ),
}
