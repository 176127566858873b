"""The checkpoints of families/ as GGUF files, with the keys and tensors that llama.cpp's converter writes.

A table of its own, with nothing of edgeq's: a name, an order of rows or a key that edgeq has wrong shows as
a difference. Vectors are float32; matrices are float32 or bfloat16.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from . import reference
from .gguf_checkpoint import Array, interleave, vocabulary

Config = dict[str, Any]
Keys = Callable[[Config], Mapping[str, Any]]

# What the tensors are called in GGUF files, by their names in checkpoints: those of the Llama line, and what
# families have otherwise.
LLAMA = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
POST = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
GEMMA = {**POST, "pre_feedforward_layernorm": "ffn_norm"}
PHI = {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
GLM = {
    "mlp.gate_up_proj": "ffn_up", "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm",
}  # fmt: skip
HUNYUAN = {"self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"}
NEOX = {
    "gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output",
    "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
}  # fmt: skip
STABLELM = {"self_attn.q_layernorm.norms": "attn_q_norm", "self_attn.k_layernorm.norms": "attn_k_norm"}
MIXTURE = {
    "mlp.gate": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    **{f"mlp.experts.{part}_proj": f"ffn_{part}_exps" for part in ("gate", "up", "down")},
    **{f"mlp.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
}  # fmt: skip
LFM2 = {
    "model.embedding_norm": "token_embd_norm", "operator_norm": "attn_norm", "ffn_norm": "ffn_norm",
    "self_attn.out_proj": "attn_output", "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    **{f"conv.{part}": f"shortconv.{part}" for part in ("in_proj", "conv", "out_proj")},
    "feed_forward.gate": "ffn_gate_inp", "feed_forward.exp_probs_b": "exp_probs_b",
    **{f"feed_forward.{one}": f"ffn_{part}" for one, part in (("w1", "gate"), ("w3", "up"), ("w2", "down"))},
    **{f"feed_forward.experts.{one}": f"ffn_{part}_exps" for one, part in (
        ("w1", "gate"), ("w3", "up"), ("w2", "down"))},
}  # fmt: skip
QWEN35 = {
    "post_attention_layernorm": "post_attention_norm", "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate", "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta", "linear_attn.A_log": "ssm_a", "linear_attn.dt": "ssm_dt",
    "linear_attn.in_proj_ba": "ssm_ba", "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out",
}  # fmt: skip
MIXTRAL = {
    "block_sparse_moe.gate": "ffn_gate_inp", "block_sparse_moe.experts.w1": "ffn_gate_exps",
    "block_sparse_moe.experts.w3": "ffn_up_exps", "block_sparse_moe.experts.w2": "ffn_down_exps",
}  # fmt: skip
OSS = MIXTURE | {
    "mlp.router": "ffn_gate_inp", "self_attn.sinks": "attn_sinks",
    "post_attention_layernorm": "post_attention_norm",
}  # fmt: skip
GRANITE = {
    "block_sparse_moe.router.layer": "ffn_gate_inp", "block_sparse_moe.input_linear": "ffn_gate_up_exps",
    "block_sparse_moe.output_linear": "ffn_down_exps",
}  # fmt: skip
MAMBA = {
    "mamba.in_proj": "ssm_in", "mamba.conv1d": "ssm_conv1d", "mamba.dt": "ssm_dt", "mamba.A_log": "ssm_a",
    "mamba.D": "ssm_d", "mamba.norm": "ssm_norm", "mamba.out_proj": "ssm_out",
}  # fmt: skip
FALCON_H1 = {
    "model.final_layernorm": "output_norm", "pre_ff_layernorm": "ffn_norm",
    **{f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
}  # fmt: skip
SHARED = {f"shared_mlp.{part}{more}": f"ffn_{part}{more}" for part in ("gate", "up", "down")
          for more in ("", "_shexp")}  # fmt: skip


GEMMA4 = GEMMA | {
    "model.embed_tokens_per_layer": "per_layer_token_embd", "layer_scalar": "layer_output_scale",
    "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
    "per_layer_input_gate": "inp_gate", "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm", "router.proj": "ffn_gate_inp",
    "router": "ffn_gate_inp", "router.per_expert": "ffn_down_exps",
    "experts.gate_up_proj": "ffn_gate_up_exps", "experts.down_proj": "ffn_down_exps",
    "post_feedforward_layernorm_1": "post_ffw_norm_1", "post_feedforward_layernorm_2": "post_ffw_norm_2",
    "pre_feedforward_layernorm_2": "pre_ffw_norm_2",
}  # fmt: skip


def head_dim(c: Config) -> int:
    return reference.head_dim(c)


def rotation(c: Config) -> tuple[float, Config, float | None]:
    """(base, words of the scaling, base of layers with a window), as the converter finds them."""
    objects: Config = c.get("rope_parameters") or c.get("rope_scaling") or {}
    full: Config = objects.get("full_attention", objects)
    local = objects.get("sliding_attention", {}).get("rope_theta")
    return full.get("rope_theta") or c["rope_theta"], full, local


def usual(c: Config) -> Config:
    """Keys of the converter's base class."""
    theta, scaling, local = rotation(c)
    keys = {"attention.head_count_kv": c["num_key_value_heads"], "rope.freq_base": theta}
    if scaling.get("rope_type") in ("linear", "yarn"):
        keys |= {"rope.scaling.type": scaling["rope_type"], "rope.scaling.factor": scaling["factor"]}
        given = {
            "rope.scaling.original_context_length": "original_max_position_embeddings",
            "rope.scaling.yarn_attn_factor": "attention_factor",
            "rope.scaling.yarn_beta_fast": "beta_fast",
            "rope.scaling.yarn_beta_slow": "beta_slow",
        }
        keys |= {key: scaling[word] for key, word in given.items() if word in scaling}
    if local is not None:
        keys["rope.freq_base_swa"] = local
    for key, word in (("rms", "rms_norm_eps"), ("norm", "layer_norm_eps")):
        if word in c:
            keys[f"attention.layer_norm_{'rms_' * (key == 'rms')}epsilon"] = c[word]
    if "head_dim" in c:
        keys |= {"attention.key_length": c["head_dim"], "attention.value_length": c["head_dim"]}
    return keys


def llama(c: Config) -> Config:
    """And those of its Llama class."""
    return {**usual(c), "vocab_size": c["vocab_size"], "rope.dimension_count": head_dim(c)}


def turned(c: Config) -> Config:
    part = rotation(c)[1].get("partial_rotary_factor", 1.0)
    return {"rope.dimension_count": int(part * head_dim(c))}


def window(c: Config) -> Config:
    """Where there is one, with its layers."""
    if c.get("sliding_window") is None:
        return {}
    pattern = [kind == "sliding_attention" for kind in c["layer_types"]]
    return {"attention.sliding_window": c["sliding_window"], "attention.sliding_window_pattern": pattern}


def gemma2(c: Config) -> Config:
    return {
        "attention.head_count_kv": c["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
        "attention.key_length": c["head_dim"],
        "attention.value_length": c["head_dim"],
        "attn_logit_softcapping": c["attn_logit_softcapping"],
        "final_logit_softcapping": c["final_logit_softcapping"],
        "attention.sliding_window": c["sliding_window"],
    }


def gemma3(c: Config) -> Config:
    return {**usual(c), "attention.sliding_window": c["sliding_window"]}


def gemma4(c: Config) -> Config:
    sliding = [kind == "sliding_attention" for kind in c["layer_types"]]
    own = c.get("per_layer_config", {}).get(str(sliding.index(False)), {})
    whole, part = c.get("global_head_dim") or own["head_dim"], c["head_dim"]
    keys = {
        **gemma3(c), **mixture(c),
        "attention.shared_kv_layers": c["num_kv_shared_layers"],
        "embedding_length_per_layer_input": c.get("hidden_size_per_layer_input", 0),
        "final_logit_softcapping": c["final_logit_softcapping"],
        "attention.sliding_window_pattern": sliding,
        "attention.key_length": whole, "attention.value_length": whole, "rope.dimension_count": whole,
        "attention.key_length_swa": part, "attention.value_length_swa": part,
        "rope.dimension_count_swa": part,
    }  # fmt: skip
    if c["use_double_wide_mlp"]:
        first, width = len(sliding) - c["num_kv_shared_layers"], c["intermediate_size"]
        keys["feed_forward_length"] = [width * (1 + (i >= first)) for i in range(len(sliding))]
    if few := c.get("num_global_key_value_heads") or own.get("num_key_value_heads"):
        many = c["num_key_value_heads"]
        keys["attention.head_count_kv"] = [many if window else few for window in sliding]
    return keys


def phi3(c: Config) -> Config:
    keys = {
        "attention.head_count_kv": c["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
        "rope.freq_base": rotation(c)[0],
        "rope.scaling.original_context_length": c["original_max_position_embeddings"],
        "attention.sliding_window": c["sliding_window"] or 0,
        **turned(c),
    }
    if "long_factor" in rotation(c)[1]:
        original = c["original_max_position_embeddings"]
        grown = np.log(c["max_position_embeddings"] / original) / np.log(original)
        keys["rope.scaling.attn_factor"] = float(np.sqrt(1 + grown))
    return keys


def granite(c: Config) -> Config:
    scales = {
        "attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
        "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
    }  # fmt: skip
    return {**llama(c), **{key: c[word] for key, word in scales.items()}}


def ministral3(c: Config) -> Config:
    scaling = rotation(c)[1]
    return {
        **llama(c),
        "rope.scaling.yarn_log_multiplier": scaling["mscale_all_dim"],
        "attention.temperature_scale": scaling["llama_4_scaling_beta"],
    }


def hunyuan(c: Config) -> Config:
    """The base has alpha in it, and the context is what the converter takes all models' for."""
    theta, scaling, _ = rotation(c)
    d, whole = c["head_dim"], 256 * 1024
    return {
        **usual(c),
        "rope.freq_base": theta * scaling["alpha"] ** (d / (d - 2)),
        "rope.scaling.type": "none",
        "rope.scaling.factor": 1.0,
        "rope.scaling.original_context_length": whole,
        "context_length": whole,
    }


def cohere2(c: Config) -> Config:
    return {
        **usual(c),
        "logit_scale": c["logit_scale"],
        "attention.sliding_window": c["sliding_window"],
        "vocab_size": c["vocab_size"],
        "rope.dimension_count": head_dim(c),
        "rope.scaling.type": "none",
    }


def stablelm(c: Config) -> Config:
    return {
        "attention.head_count_kv": c["num_key_value_heads"],
        "attention.layer_norm_epsilon": c["layer_norm_eps"],
        "use_parallel_residual": c.get("use_parallel_residual", True),
        **turned(c),
    }


def mixture(c: Config) -> Config:
    """What mixtures have beside the keys of their line."""
    keys = {
        "expert_count": c.get("num_local_experts") or c.get("num_experts"),
        "expert_used_count": c.get("num_experts_per_tok") or c.get("top_k_experts"),
        "expert_feed_forward_length": c.get("moe_intermediate_size"),
        "expert_shared_feed_forward_length": c.get("shared_expert_intermediate_size"),
    }
    return {key: value for key, value in keys.items() if value is not None}


def gpt_oss(c: Config) -> Config:
    return {
        **usual(c),
        **mixture(c),
        "attention.sliding_window": c["sliding_window"],
        "expert_feed_forward_length": c["intermediate_size"],
    }


def lfm2(c: Config) -> Config:
    """No heads of keys: a convolution. The width is the one that the layers have."""
    heads = [c["num_key_value_heads"] if kind == "full_attention" else 0 for kind in c["layer_types"]]
    keys = {
        **usual(c),
        "attention.head_count_kv": heads,
        "attention.layer_norm_rms_epsilon": c["norm_eps"],
        "vocab_size": c["vocab_size"],
        "shortconv.l_cache": c["conv_L_cache"],
    }
    if c.get("block_auto_adjust_ff_dim"):
        width, multiple = 2 * c["intermediate_size"] // 3, c["block_multiple_of"]
        keys["feed_forward_length"] = -(-width // multiple) * multiple
    return keys


def lfm2_moe(c: Config) -> Config:
    return {
        **lfm2(c),
        **mixture(c),
        "leading_dense_block_count": c["num_dense_layers"],
        "expert_gating_func": 2,
        "expert_weights_scale": c["routed_scaling_factor"],
    }


def qwen35(c: Config) -> Config:
    """And Qwen3-Next, which has no sections."""
    found = rotation(c)[1].get("mrope_section")
    sections = {"rope.dimension_sections": [*found, 0]} if found else {}
    return {
        **usual(c),
        "full_attention_interval": c["layer_types"].index("full_attention") + 1,
        "ssm.conv_kernel": c["linear_conv_kernel_dim"],
        "ssm.state_size": c["linear_key_head_dim"],
        "ssm.group_count": c["linear_num_key_heads"],
        "ssm.time_step_rank": c["linear_num_value_heads"],
        "ssm.inner_size": c["linear_value_head_dim"] * c["linear_num_value_heads"],
        **turned(c),
        **sections,
    }


def by_turns(name: str, x: Array, c: Config) -> Array:
    """A tensor of Qwen3.5's delta rules with the heads of values, of rows or columns, one of each key head by
    turns.
    """
    keys, heads = c["linear_num_key_heads"], c["linear_num_value_heads"]
    if name.endswith("out_proj.weight"):
        return x.reshape(len(x), keys, heads // keys, -1).swapaxes(1, 2).reshape(x.shape)
    first = 2 * keys * c["linear_key_head_dim"] if re.search(r"in_proj_qkv|conv1d", name) else 0
    by_key = x[first:].reshape(keys, heads // keys, -1)
    return np.concatenate([x[:first], by_key.swapaxes(0, 1).reshape(x[first:].shape)])


def unfused(weights: Mapping[str, Array], c: Config) -> dict[str, Array]:
    """With Qwen3-Next's queries, keys and values of all key heads in one, and the gates in another."""
    keys, size = c["linear_num_key_heads"], c["linear_key_head_dim"]
    values = c["linear_num_value_heads"] // keys * c["linear_value_head_dim"]
    found = dict[str, Array]()
    for name, x in weights.items():
        if name.endswith("in_proj_qkvz.weight"):
            q, k, v, z = np.split(
                x.reshape(keys, -1, x.shape[1]), np.cumsum([size, size, values]).tolist(), axis=1
            )
            both = [part.reshape(-1, x.shape[1]) for part in (q, k, v)]
            found[name.replace("qkvz", "qkv")] = np.concatenate(both)
            found[name.replace("qkvz", "z")] = z.reshape(-1, x.shape[1])
        else:
            found[name] = x
    return found


def delta(weights: Mapping[str, Array], c: Config) -> dict[str, Array]:
    """Of what recurs, by names with a dot before weight or bias."""
    found, turns = dict[str, Array](), c["model_type"] != "qwen3_next"
    for name, x in (weights if turns else unfused(weights, c)).items():
        if ".linear_attn." in name and ".linear_attn.norm." not in name:
            x = by_turns(name, x, c) if turns else x
            if name.endswith("A_log"):
                name, x = f"{name}.", (-np.exp(x.astype(np.float64))).astype(np.float32)
            name = name.replace("dt_bias", "dt.bias")
        elif name.endswith("norm.weight") and ".linear_attn." not in name:
            x = x + np.float32(1)
        found[name] = x
    return found


def ssm(c: Config) -> Config:
    """Keys of layers of Mamba-2."""
    return {
        "ssm.conv_kernel": c["mamba_d_conv"],
        "ssm.state_size": c["mamba_d_state"],
        "ssm.group_count": c["mamba_n_groups"],
        "ssm.inner_size": c["mamba_n_heads"] * c["mamba_d_head"],
        "ssm.time_step_rank": c["mamba_n_heads"],
    }


def granite_hybrid(c: Config) -> Config:
    """No heads of keys: Mamba-2. A model whose attention does not turn has the context of all such."""
    turns = c["position_embedding_type"] == "rope"
    heads = [c["num_key_value_heads"] if kind == "full_attention" else 0 for kind in c["layer_types"]]
    return {
        **granite(c),
        **mixture(c),
        **ssm(c),
        "expert_shared_feed_forward_length": c["shared_intermediate_size"],
        "attention.head_count_kv": heads,
        "rope.scaling.finetuned": turns,
        **({} if turns else {"context_length": 1 << 20}),
    }


def falcon_h1(c: Config) -> Config:
    return {**usual(c), **ssm(c), "vocab_size": c["vocab_size"]}


def multiplied(weights: Mapping[str, Array], c: Config) -> dict[str, Array]:
    """Falcon-H1's tensors with the multipliers, one after another. A head that is the embedding is written,
    which the converter does not do: its files of such models have a head that is multiplied as that is.
    """
    attention, ssm = c["attention_in_multiplier"], c["ssm_in_multiplier"]
    gate, down = c["mlp_multipliers"]
    inner, bc, heads = (c["mamba_n_heads"] * c["mamba_d_head"], c["mamba_n_groups"] * c["mamba_d_state"],
                        c["mamba_n_heads"])  # fmt: skip
    rows = np.repeat(np.array(c["ssm_multipliers"], np.float32), [inner, inner, bc, bc, heads])[:, None]
    factors: dict[str, tuple[float | Array, ...]] = {
        "down_proj": (down,), "gate_proj": (gate,), "k_proj": (c["key_multiplier"], attention),
        "q_proj": (attention,), "v_proj": (attention,), "o_proj": (c["attention_out_multiplier"],),
        "out_proj": (c["ssm_out_multiplier"],), "in_proj": (ssm, rows),
        "lm_head": (c["lm_head_multiplier"],), "embed_tokens": (c["embedding_multiplier"],),
    }  # fmt: skip
    found = dict[str, Array]()
    for name, x in {"lm_head.weight": weights["model.embed_tokens.weight"], **weights}.items():
        for each in factors.get(name.split(".")[-2], ()):
            x = x * np.float32(each)
        found[name.replace("pre_ff_layernorm.weight", "pre_ff_layernorm.")] = x
    return found


def mamba(weights: Mapping[str, Array], c: Config) -> dict[str, Array]:
    """Of layers of Mamba-2, by names with a dot before weight or bias, and of MLPs beside experts, apart."""
    found, more = dict[str, Array](), "_shexp" if c.get("num_local_experts") else ""
    for name, x in weights.items():
        if name.endswith(("mamba.A_log", "mamba.D")):
            x = (-np.exp(x.astype(np.float64))).astype(np.float32) if name.endswith("A_log") else x
            found[f"{name}."] = x.reshape(-1, 1)
        elif name.endswith("mamba.norm.weight"):
            found[name] = x.reshape(c["mamba_n_groups"], -1)
        elif name.endswith("shared_mlp.input_linear.weight"):
            for part, half in zip(("gate", "up"), np.split(x, 2), strict=True):
                found[name.replace("input_linear", part + more)] = half
        else:
            name = name.replace("shared_mlp.output_linear", f"shared_mlp.down{more}")
            found[name.replace("mamba.dt_bias", "mamba.dt.bias")] = x
    return found


def gptneox(c: Config) -> Config:
    return {
        "attention.layer_norm_epsilon": c["layer_norm_eps"],
        "use_parallel_residual": c.get("use_parallel_residual", True),
        **turned(c),
    }


@dataclass(frozen=True)
class Architecture:
    """How GGUF files have a family: names of tensors that are not Llama's, and keys beside those of sizes.
    paired: rows of queries and keys are put in pairs that turn together, which checkpoints have in halves.
    plus: what is added to the weights of norms.
    """

    name: str
    keys: Keys
    names: Mapping[str, str] = field(default_factory=dict)
    paired: bool = False
    plus: float = 0.0


FAMILIES = {  # by the model_type
    "gemma2": Architecture("gemma2", gemma2, GEMMA, plus=1),
    "gemma3_text": Architecture("gemma3", gemma3, GEMMA, plus=1),
    "gemma4_text": Architecture("gemma4", gemma4, GEMMA4),
    "gemma4_unified_text": Architecture("gemma4", gemma4, GEMMA4),
    "phi3": Architecture("phi3", phi3, PHI),
    "granite": Architecture("granite", granite, paired=True),
    "smollm3": Architecture("smollm3", llama, paired=True),
    "ministral3": Architecture("mistral3", ministral3, paired=True),
    "olmo2": Architecture("olmo2", usual, POST),
    "olmo3": Architecture("olmo2", lambda c: {**usual(c), **window(c)}, POST),
    "exaone4": Architecture(
        "exaone4", lambda c: {**usual(c), **window(c), "vocab_size": c["vocab_size"]}, POST
    ),
    "glm4": Architecture("glm4", lambda c: {**usual(c), **turned(c)}, GLM),
    "hunyuan_v1_dense": Architecture("hunyuan-dense", hunyuan, HUNYUAN),
    "ernie4_5": Architecture("ernie4_5", usual),
    "cohere2": Architecture("cohere2", cohere2),
    "stablelm": Architecture("stablelm", stablelm, STABLELM),
    "gpt_neox": Architecture("gptneox", gptneox, NEOX),
    "qwen3_moe": Architecture("qwen3moe", lambda c: {**usual(c), **mixture(c)}, MIXTURE),
    "qwen2_moe": Architecture("qwen2moe", lambda c: {**usual(c), **mixture(c)}, MIXTURE),
    "olmoe": Architecture("olmoe", lambda c: {**usual(c), **mixture(c)}, MIXTURE),
    "gpt_oss": Architecture("gpt-oss", gpt_oss, OSS),
    "lfm2": Architecture("lfm2", lfm2, LFM2),
    "qwen3_5_text": Architecture("qwen35", qwen35, QWEN35),
    "qwen3_5_moe_text": Architecture("qwen35moe", lambda c: {**qwen35(c), **mixture(c)}, QWEN35 | MIXTURE),
    "qwen3_next": Architecture("qwen3next", lambda c: {**qwen35(c), **mixture(c)}, QWEN35 | MIXTURE),
    "lfm2_moe": Architecture("lfm2moe", lfm2_moe, LFM2),
    "mixtral": Architecture("llama", lambda c: {**llama(c), **mixture(c)}, MIXTRAL, paired=True),
    "falcon_h1": Architecture("falcon-h1", falcon_h1, FALCON_H1 | MAMBA),
    "granitemoehybrid": Architecture("granitehybrid", granite_hybrid, GRANITE | MAMBA | SHARED, paired=True),
    "granitemoe": Architecture("granitemoe", lambda c: {**granite(c), **mixture(c)}, GRANITE, paired=True),
}
FLOATS = (  # keys of floats that a config may have as whole numbers
    "factor", "freq_base", "freq_base_swa", "yarn_beta_fast", "yarn_beta_slow", "yarn_log_multiplier",
    "embedding_scale", "scale", "expert_weights_scale", "logit_scale", "residual_scale", "temperature_scale",
)  # fmt: skip

# Words that a GGUF file of the family has no key for, with what readers take for them.
NOT_IN_FILES: dict[str, Config] = {
    "gemma2": {"query_pre_attn_scalar": 24},
    "gemma3": {"query_pre_attn_scalar": 16},
    "hunyuan": {"max_position_embeddings": 256 * 1024},
    "granitemoehybrid": {"max_position_embeddings": 1 << 20},
}


@dataclass(frozen=True)
class Case:
    """A file of which llama.cpp gave logits: a checkpoint of families/, and what `write` is given."""

    family: str
    config: Config = field(default_factory=dict)
    keys: Config = field(default_factory=dict)
    blocks: tuple[int, ...] | None = None


def _olmo3(**scaling: Any) -> Config:
    full = {"rope_theta": 1e4, "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16}
    sliding = {"rope_theta": 1e4}
    return {"rope_parameters": {"full_attention": {**full, **scaling}, "sliding_attention": sliding}}


def _oss() -> Config:
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}
    return {"rope_parameters": {"rope_theta": 2.0, **yarn}}


# Of checkpoints as they are, but for what llama.cpp does otherwise than the models' authors: no windows of
# phi3; those of exaone4 only in models of 64 layers, so that one is not here; and of olmo2 one base for all
# layers, and no attention factor of YaRN but the usual one. It has no Qwen mixtures with layers that have no
# experts, which are left out here. Bounds of gpt-oss's YaRN are of whole pairs there, and always of 32 turns
# and one: with the base of its case they are beyond the first pair and the last.
CASES = {
    **{name: Case(name) for name in (
        "cohere2", "ernie4_5", "exaone4-full", "falcon_h1", "gemma2", "gemma3", "gemma4", "gemma4-mixture",
        "gemma4-unified", "glm4", "gpt_neox", "granite", "granitemoe",
        "granitemoehybrid", "granitemoehybrid-dense", "hunyuan", "lfm2", "ministral3",
        "mixtral", "olmo2", "olmoe", "phi3", "qwen3_5", "qwen3_5_moe",
        "smollm3", "stablelm", "stablelm-parallel",
    )},
    **{name: Case(name, blocks=(0, 2)) for name in ("qwen2_moe", "qwen3_moe")},
    "qwen3_next": Case("qwen3_next", {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"]}, blocks=(0, 2, 3)),
    "olmo3": Case("olmo3", _olmo3()),
    "phi3-short": Case("phi3-short", {"sliding_window": None}),
    # and what files may say otherwise
    "gemma3-no-window": Case("gemma3", keys={"attention.sliding_window": None}),
    "gemma4-mixture-no-cap": Case("gemma4-mixture", keys={"final_logit_softcapping": None}),
    "gpt_neox-sequential": Case("gpt_neox", {"use_parallel_residual": False}),
    "granite-no-scales": Case("granite", keys={
        "attention.scale": None, "embedding_scale": None, "residual_scale": None}),
    "ministral3-factors": Case("ministral3", keys={
        "rope.scaling.yarn_log_multiplier": 0.5, "rope.scaling.attn_factor": 1.2}),
    "ministral3-no-yarn": Case("ministral3", {"rope_parameters": {
        "rope_theta": 1e4, "mscale_all_dim": 0.0, "llama_4_scaling_beta": 0.3}},
        {"rope.scaling.original_context_length": 16}),
    "olmo3-period": Case("olmo3", _olmo3(), {
        "attention.sliding_window_pattern": 2, "rope.freq_base_swa": None}),
    "phi3-short-factors": Case("phi3", {
        "original_max_position_embeddings": 512, "max_position_embeddings": 512}),
    "gpt_oss": Case("gpt_oss", _oss()),
    "gpt_oss-no-yarn": Case("gpt_oss", {"rope_parameters": {"rope_theta": 1e4}}),
    "lfm2_moe": Case("lfm2_moe", {"routed_scaling_factor": 1.0}, {"expert_weights_scale": None}),
    "smollm3-no-base": Case("smollm3", keys={"rope.freq_base": None}),
}  # fmt: skip


def stacked(weights: Mapping[str, Array]) -> dict[str, Array]:
    """With what checkpoints have one by one, matrices of experts and norms of heads, as one tensor."""
    found, lists = dict[str, Array](), dict[str, dict[int, Array]]()
    for name, x in weights.items():
        if one := re.fullmatch(r"(.*\.(?:experts|norms))\.(\d+)(\..*)", name):
            lists.setdefault(one[1] + one[3], {})[int(one[2])] = x
        else:
            found[name] = x
    return found | {name: np.stack([x for _, x in sorted(each.items())]) for name, each in lists.items()}


def apart(weights: Mapping[str, Array]) -> dict[str, Array]:
    """With what gpt-oss's checkpoints have otherwise as others have it: experts' matrices not transposed, in
    bytes of MXFP4 if they are so, and apart from what they are gates of.
    """
    found = dict[str, Array]()
    for name, x in weights.items():
        if name.endswith(".sinks"):
            found[f"{name}.weight"] = x
        elif ".experts." not in name:
            found[name] = x
        elif one := re.fullmatch(r"(.*)\.(gate_up|down)_proj(|_bias|_blocks)", name):
            if one[3] == "_blocks":
                x = mxfp4(x.astype(np.uint8), weights[name.replace("_blocks", "_scales")].astype(np.uint8))
            elif not one[3]:
                x = x.swapaxes(1, 2)
            kind = "bias" if one[3] == "_bias" else "weight"
            both = {"gate": x[:, 0::2], "up": x[:, 1::2]}
            each = both if one[2] == "gate_up" else {one[2]: x}
            found |= {f"{one[1]}.{part}_proj.{kind}": rows for part, rows in each.items()}
    return found


def gemma4_names(weights: Mapping[str, Array]) -> dict[str, Array]:
    """With an ending where checkpoints have none."""
    plain = ("layer_scalar", "gate_up_proj", "down_proj")
    found = {f"{name}.weight" if name.endswith(plain) else name: x for name, x in weights.items()}
    return {name.replace("per_expert_scale", "per_expert.scale"): x for name, x in found.items()}


def mxfp4(codes: Array, scales: Array) -> Array:
    """uint8 [experts, rows, bytes] of codes [experts, rows, 32s, 16], two in turn in each byte: the exponent
    of each 32 columns, then bytes with the codes of a column and of the one 16 further on.
    """
    columns = [codes[..., j // 2] >> 4 * (j % 2) & 15 for j in range(32)]
    blocks = [scales, *(columns[j] | columns[j + 16] << 4 for j in range(16))]
    return np.stack(blocks, -1).reshape(*scales.shape[:2], -1)


def some_blocks(weights: Mapping[str, Array], blocks: tuple[int, ...]) -> dict[str, Array]:
    """Those of some blocks alone, which are counted anew."""
    found = {name: x for name, x in weights.items() if ".layers." not in name}
    for i, block in enumerate(blocks):
        here, there = f".layers.{i}.", f".layers.{block}."
        found |= {name.replace(there, here): x for name, x in weights.items() if there in name}
    return found


def tensors(checkpoint: reference.Checkpoint, fused: bool = False) -> dict[str, Array]:
    """float32, or bytes of MXFP4, by their names in GGUF files; fused: with queries, keys and values in one,
    and gates of experts with what they are gates of, as the converter writes them when it is told to.
    """
    c = checkpoint.config
    row, found = FAMILIES[c["model_type"]], dict[str, Array]()
    names = {**LLAMA, **row.names}
    weights = apart(checkpoint.weights) if row.name == "gpt-oss" else checkpoint.weights
    weights = gemma4_names(weights) if row.name == "gemma4" else weights
    weights = {
        name.replace("expert_bias", "exp_probs_b.bias"): x.squeeze(1)
        if ".conv" in name and x.ndim == 3
        else x
        for name, x in weights.items()
    }
    weights = delta(weights, c) if "linear_num_key_heads" in c else weights
    weights = multiplied(weights, c) if row.name == "falcon-h1" else weights
    weights = mamba(weights, c) if "mamba_n_heads" in c else weights
    for name, x in stacked(weights).items():
        stem, kind = name.rsplit(".", 1)
        head, _, rest = stem.removeprefix("gpt_neox.").removeprefix("model.").partition("layers.")
        block, _, inner = rest.partition(".")
        short = f"blk.{block}.{names[inner]}" if rest and not head else names[stem]
        if row.plus and name.endswith("norm.weight"):
            x = x + np.float32(row.plus)
        if row.paired and short.endswith(("attn_q", "attn_k")):
            x = interleave(x, c["num_attention_heads" if short.endswith("q") else "num_key_value_heads"])
        if row.name == "gptneox" and short.endswith("attn_qkv"):  # from head by head to all of one kind
            by_head = x.reshape(c["num_attention_heads"], 3, head_dim(c), *x.shape[1:])
            x = by_head.swapaxes(0, 1).reshape(x.shape)
        found[f"{short}.{kind}".rstrip(".")] = x
    pair = ("ffn_gate_exps", "ffn_up_exps")
    for name in [name for name in found if "ffn_gate_up_exps" in name and not fused]:
        halves = np.split(found.pop(name), 2, axis=1)
        found |= {name.replace("ffn_gate_up_exps", one): half for one, half in zip(pair, halves, strict=True)}
    if fused:
        for name in [name for name in found if pair[0] in name]:
            each = [found.pop(name.replace(pair[0], one)) for one in pair]
            found[name.replace(pair[0], "ffn_gate_up_exps")] = np.concatenate(each, axis=1)
        for name in [name for name in found if ".attn_q." in name]:
            each = [found.pop(name.replace("attn_q", f"attn_{letter}")) for letter in "qkv"]
            found[name.replace("attn_q", "attn_qkv")] = np.concatenate(each)
    return found | factors(c)


def factors(c: Config) -> dict[str, Array]:
    """Tensors that the frequencies of the rotation are divided by."""
    theta, scaling, _ = rotation(c)
    if scaling.get("rope_type") == "proportional":
        dims = gemma4(c)["attention.key_length"]
        turned = int(dims * scaling["partial_rotary_factor"] / 2)
        return {"rope_freqs.weight": np.repeat(np.array([1, 1e30], np.float32), [turned, dims // 2 - turned])}
    if scaling.get("rope_type") == "llama3":
        plain = {**c, "rope_scaling": None, "rope_parameters": {"rope_theta": theta}}
        divisors = reference.inverse_frequencies(plain) / reference.inverse_frequencies(c)
        return {"rope_freqs.weight": divisors.astype(np.float32)}
    lists = {kind: scaling.get(f"{kind}_factor") for kind in ("long", "short")}
    return {
        f"rope_factors_{kind}.weight": np.array(numbers, np.float32)
        for kind, numbers in lists.items()
        if numbers
    }


def write(
    path: Path,
    directory: Path,
    *,
    config: Config | None = None,
    keys: Mapping[str, Any] | None = None,
    kind: str = "F32",
    fused: bool = False,
    blocks: tuple[int, ...] | None = None,
) -> Path:
    """The checkpoint of a directory as a GGUF file, with these words of its config changed. keys: more of
    the architecture's, or others; None leaves one out. kind: F32 or BF16, of matrices. blocks: those of the
    checkpoint that the file has, if not all.
    """
    checkpoint = reference.load(directory)
    c = {**checkpoint.config, **(config or {})}
    weights = checkpoint.weights
    if blocks is not None:
        c["num_hidden_layers"], weights = len(blocks), some_blocks(weights, blocks)
    row = FAMILIES[c["model_type"]]
    sizes = {
        "context_length": c["max_position_embeddings"], "embedding_length": c["hidden_size"],
        "block_count": c["num_hidden_layers"], "feed_forward_length": c.get("intermediate_size"),
        "attention.head_count": c["num_attention_heads"],
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, row.name)
    for key, value in {**sizes, **row.keys(c), **(keys or {})}.items():
        _add(writer, f"{row.name}.{key}", value)
    texts, scores, kinds = vocabulary(directory, c["vocab_size"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    for name, x in tensors(reference.Checkpoint(c, weights), fused).items():
        if x.dtype == np.uint8:
            writer.add_tensor(name, x, raw_dtype=gguf.GGMLQuantizationType.MXFP4)
            continue
        wide = (
            x.ndim > 1
            and name.endswith(".weight")
            and not re.search(r"_norm\.|ffn_gate_inp|shortconv\.conv\.|ssm_(conv1d|alpha|beta|ba)\.", name)
        )
        type_ = gguf.GGMLQuantizationType[kind if wide else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(x), type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_case(path: Path, name: str) -> Path:
    """The file of a case."""
    case = CASES[name]
    directory = Path(__file__).parent / "families" / case.family
    return write(path, directory, config=case.config, keys=case.keys, blocks=case.blocks)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """In the type that the converter has for such a value; of floats, 32 bits."""
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int) and key.rpartition(".")[2] not in FLOATS:
        writer.add_uint32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_float32(key, float(value))
