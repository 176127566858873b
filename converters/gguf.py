"""The source `gguf`: a GGUF file, its metadata turned into the words of a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.converters.huggingface import token_ids
from edgeq.converters.source import Array, Source, SourceTensor, checked_template, checked_tensors
from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats.gguf import GGUFFile, Strings, open_gguf
from edgeq.models import BaseConfig, family
from edgeq.models.rope import Rope

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # general.architecture: family

# The word of a config that each key of an architecture gives.
WORDS = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
}

# Keys that change the computation, with the values under which it is the family's own.
REQUIRE: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.causal": (True,),
    "attention.scale": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.temperature_length": (0,),
    "attention.temperature_scale": (0.0,),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "use_parallel_residual": (False,),
    "nextn_predict_layers": (0,),
    "rope.scaling.attn_factor": (0.0, 1.0),
    "rope.scaling.yarn_log_multiplier": (0.0,),
}

# GGUF holds the query and key rows of these architectures with each head's halves interleaved: row 2j+s of it
# is the checkpoint's row s*head_dim/2 + j. For each such tensor, the config's count of its heads.
INTERLEAVED = {"llama": {"blocks.{i}.q": "num_attention_heads", "blocks.{i}.k": "num_key_value_heads"}}


def open_file(path: Path) -> Source:
    """Open a GGUF file; UnsupportedError or FormatError says in one sentence what is wrong with it."""
    file = open_gguf(path)
    metadata = file.metadata
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UnsupportedError(
            f"general.architecture is {architecture!r:.80}, but only {known} are supported"
        )
    if metadata.get("split.count", 0) not in (0, 1):
        raise UnsupportedError(
            f"split.count is {metadata['split.count']!r:.40}; join the parts into one file first"
        )
    raw = words(metadata, architecture, file)
    family_name = ARCHITECTURES[architecture]
    config: BaseConfig = family(family_name).Config.from_hf(raw)
    _check_heads(metadata, architecture, config)
    rest = dict(file.tensors)
    factors = rest.pop("rope_freqs.weight", None)
    found = {
        name: SourceTensor(name, tensor.type, tensor.shape, tensor.data) for name, tensor in rest.items()
    }
    tensors = checked_tensors(family_name, config, found, lambda want: want.gguf_name, _ignored)
    frequencies = Rope.from_hf(raw).inverse_frequencies(config.head_dim)
    if factors is not None:
        divisors = _factors(SourceTensor(factors.name, factors.type, factors.shape, factors.data), config)
        frequencies = (frequencies / divisors).astype(np.float32)
    template = metadata.get("tokenizer.chat_template")
    return Source(
        kind="gguf",
        name=path.name,
        family=family_name,
        config=config,
        tensors={name: _halves(tensor, name, architecture, config) for name, tensor in tensors.items()},
        frequencies=frequencies,
        tokenizer=lambda: _tokenizer(metadata),
        chat_template=checked_template(template if isinstance(template, str) else None),
        generation=_generation(metadata),
        license=_text(metadata.get("general.license")),
    )


def _ignored(name: str) -> bool:
    """Buffers that older files carry and that the metadata settle anyway."""
    return name.endswith(".attn_rot_embd.weight")


def words(metadata: Mapping[str, Any], architecture: str, file: GGUFFile) -> dict[str, Any]:
    """The metadata as the words of a Hugging Face config, refusing by key and value what has no such word."""
    for key, accepted in REQUIRE.items():
        value = metadata.get(f"{architecture}.{key}")
        if value is not None and value not in accepted:
            right = " or ".join(map(repr, accepted))
            raise UnsupportedError(f"{architecture}.{key} is {value!r:.80}, but only {right} is supported")
    raw: dict[str, Any] = {"model_type": architecture}
    for key, word in WORDS.items():
        value = metadata.get(f"{architecture}.{key}")
        if isinstance(value, list):  # one value for each block
            if len(set(map(repr, value))) != 1:
                raise UnsupportedError(
                    f"{architecture}.{key} is {value!r:.80}, but one value for all blocks is needed"
                )
            value = value[0]
        if value is not None:
            raw[word] = value
    if "rms_norm_eps" not in raw:
        raise FormatError(f"{architecture}.attention.layer_norm_rms_epsilon is missing; the norms need it")
    window = raw.get("sliding_window")
    if window == 0:
        del raw["sliding_window"]
    elif window is not None and architecture == "llama":
        raw["model_type"] = "mistral"  # GGUF writes Mistral as llama
    elif window is not None:
        raw["use_sliding_window"] = True  # which the family refuses
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise FormatError("tensor 'token_embd.weight' is missing; a GGUF file with weights is needed")
    raw["vocab_size"] = embedding.shape[0]
    _check_vocabulary(metadata, architecture, embedding.shape[0])
    raw["tie_word_embeddings"] = "output.weight" not in file.tensors
    raw["rope_scaling"] = _scaling(metadata, architecture)
    return raw


def _check_vocabulary(metadata: Mapping[str, Any], architecture: str, rows: int) -> None:
    size = metadata.get(f"{architecture}.vocab_size", rows)
    if size != rows:
        raise FormatError(
            f"{architecture}.vocab_size is {size!r:.40}, but tensor 'token_embd.weight' has {rows} rows"
        )
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    count = len(tokens) if isinstance(tokens, list | Strings) else 0
    if count > rows:
        raise FormatError(
            f"tokenizer.ggml.tokens has {count} entries, but tensor 'token_embd.weight' only {rows} rows"
        )


def _check_heads(metadata: Mapping[str, Any], architecture: str, config: BaseConfig) -> None:
    """Values as long as keys, and rotation of whole heads."""
    for key in ("attention.value_length", "rope.dimension_count"):
        value = metadata.get(f"{architecture}.{key}", config.head_dim)
        if value != config.head_dim:
            raise UnsupportedError(
                f"{architecture}.{key} is {value!r:.40}, but only head_dim {config.head_dim} is supported"
            )


def _scaling(metadata: Mapping[str, Any], architecture: str) -> dict[str, Any] | None:
    """rope_scaling in a config's words; a factor without a type means linear, as in the reference."""
    kind = metadata.get(f"{architecture}.rope.scaling.type")
    if kind == "none":
        return None
    factor = metadata.get(
        f"{architecture}.rope.scaling.factor", metadata.get(f"{architecture}.rope.scale_linear")
    )
    if kind not in (None, "linear"):
        raise UnsupportedError(
            f"{architecture}.rope.scaling.type is {kind!r:.80}, but only none and linear are supported"
        )
    if factor is None or factor == 0:
        return None
    return {"rope_type": "linear", "factor": factor}


def _factors(tensor: SourceTensor, config: BaseConfig) -> Array:
    """The divisors of the frequencies, float32 [head_dim/2]; all must be positive numbers."""
    if tensor.shape != (config.rotary_size,):
        need = [config.rotary_size]
        raise FormatError(f"tensor {tensor.name!r} has shape {list(tensor.shape)}, but {need} is needed")
    factors = tensor.floats().reshape(-1)
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise FormatError(f"tensor {tensor.name!r} has a factor that is not a positive number")
    return factors


def _halves(tensor: SourceTensor, name: str, architecture: str, config: BaseConfig) -> SourceTensor:
    """The tensor with its rows in the checkpoint's order again, where the architecture interleaves them."""
    parts = name.split(".")
    row = ".".join(["blocks", "{i}", *parts[2:]]) if parts[0] == "blocks" else name
    heads_word = INTERLEAVED.get(architecture, {}).get(row)
    if heads_word is None:
        return tensor
    heads = getattr(config, heads_word)
    order = np.arange(tensor.shape[0]).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
    return SourceTensor(tensor.name, tensor.kind, tensor.shape, tensor.data, order)


def _generation(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Token ids that begin and end a text."""
    generation: dict[str, Any] = {}
    first = token_ids(metadata.get("tokenizer.ggml.bos_token_id"), "tokenizer.ggml.bos_token_id")
    if first:
        generation["bos_token_id"] = first[0]
    keys = [f"tokenizer.ggml.{word}_token_id" for word in ("eos", "eot", "eom")]
    last = [token for key in keys for token in token_ids(metadata.get(key), key)]
    if last:
        generation["eos_token_id"] = list(dict.fromkeys(last))
    return generation


def _tokenizer(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], bytes] | None:
    from edgeq.converters import tokenizers

    return tokenizers.from_gguf(dict(metadata))


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
