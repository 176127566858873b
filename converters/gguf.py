"""The source `gguf`: a GGUF file, its metadata turned into the words of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.converters.gguf_kinds import architecture_of
from edgeq.converters.source import (
    Array,
    Source,
    SourceTensor,
    check_vector,
    checked_template,
    checked_tensors,
    is_dead,
    shared_tensors,
    token_ids,
)
from edgeq.errors import FormatError, Troubles, UnsupportedError
from edgeq.formats.ggml import TYPES
from edgeq.formats.gguf import open_gguf
from edgeq.formats.gguf_cursor import Strings
from edgeq.models import BaseConfig, family
from edgeq.models.rope import Rope

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # general.architecture: family

# The word of a config that each key of an architecture gives. A key that is absent means what llama.cpp takes
# for it, not what transformers takes for the word.
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

NEEDED = (
    "embedding_length", "feed_forward_length", "block_count", "attention.head_count", "context_length",
    "attention.layer_norm_rms_epsilon",
)  # fmt: skip

# Keys that change the computation, with the values under which it is the family's own.
REQUIRE: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
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

# Types of blocks beside which a file may have a scale for the whole tensor.
SCALED = tuple(name for name, row in TYPES.items() if row.columns > 1 and row.scheme_name and row.scheme.row)

# GGUF holds the query and key rows of these architectures with each head's halves interleaved: row 2j+s of it
# is the checkpoint's row s*head_dim/2 + j. For each such tensor, the config's count of its heads.
INTERLEAVED = {"llama": {"blocks.{i}.q": "num_attention_heads", "blocks.{i}.k": "num_key_value_heads"}}


def open_file(path: Path) -> Source:
    """Open a GGUF file, or a model in several by any of them; UnsupportedError or FormatError says in one
    sentence what is wrong with it."""
    file = open_gguf(path)
    metadata = file.metadata
    architecture = architecture_of(file, ARCHITECTURES)
    family_name = ARCHITECTURES[architecture]
    found = {
        name: SourceTensor(name, tensor.type, tensor.shape, tensor.data)
        for name, tensor in file.tensors.items()
        if not is_dead(name)
    }
    found = _scaled(found)
    factors = found.pop("rope_freqs.weight", None)
    found, tied = shared_tensors(family_name, found, lambda row: row.gguf_name, None)
    raw = words(metadata, architecture, found)
    config: BaseConfig = family(family_name).Config.from_hf(raw)
    config = replace(config, tie_word_embeddings=tied)
    troubles = Troubles()
    with troubles.noted():
        _check_heads(metadata, architecture, config)
    with troubles.noted():
        tensors = checked_tensors(family_name, config, found, lambda want: want.gguf_name)
    troubles.tell()
    frequencies = Rope.from_hf(raw).inverse_frequencies(config.head_dim)
    if factors is not None:
        frequencies = (frequencies / _factors(factors, config)).astype(np.float32)
    template = metadata.get("tokenizer.chat_template")
    return Source(
        kind="gguf",
        name=file.path.name,
        family=family_name,
        config=config,
        tensors={name: _halves(tensor, name, architecture, config) for name, tensor in tensors.items()},
        frequencies=frequencies,
        tokenizer=lambda: _tokenizer(metadata),
        chat_template=checked_template(template if isinstance(template, str) else None),
        generation=_generation(metadata, config.vocab_size),
        license=_text(metadata.get("general.license")),
    )


def _scaled(tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """The tensors without those of scales: "X.scale" is one float, by which "X.weight" is multiplied."""
    found = dict(tensors)
    for name in [name for name in found if name.endswith(".scale")]:
        scale, of = found.pop(name), f"{name.removesuffix('scale')}weight"
        weight = found.get(of)
        if weight is None:
            raise FormatError(f"tensor {name!r:.120} is there, but {of!r:.120} is not, whose scale it is")
        if weight.kind not in SCALED:
            raise UnsupportedError(
                f"tensor {name!r:.120} is a scale, but {of!r:.120} is {weight.kind}; "
                f"only {', '.join(SCALED)} has one"
            )
        found[of] = replace(weight, factor=_factor(scale))
    return found


def _factor(scale: SourceTensor) -> float:
    """The number that a scale is, which is finite and not negative."""
    if scale.shape != (1,):
        raise FormatError(f"tensor {scale.name!r:.120} has shape {list(scale.shape)}, but [1] is needed")
    check_vector(scale)
    factor = float(scale.floats()[0, 0])
    if not 0 <= factor < np.inf:
        raise FormatError(f"tensor {scale.name!r:.120} is {factor}, but a finite number from 0 on is needed")
    return factor


def words(
    metadata: Mapping[str, Any], architecture: str, tensors: Mapping[str, SourceTensor]
) -> dict[str, Any]:
    """The metadata as the words of a Hugging Face config, refusing by key and value what has no such word,
    all of it at once."""
    troubles = Troubles()
    for key, accepted in REQUIRE.items():
        value = metadata.get(f"{architecture}.{key}")
        if value is not None and value not in accepted:
            right = " or ".join(map(repr, accepted))
            troubles.add(
                UnsupportedError(f"{architecture}.{key} is {value!r:.80}, but only {right} is supported")
            )
    with troubles.noted():
        scaling = _scaling(metadata, architecture)
    for key in NEEDED:
        if metadata.get(f"{architecture}.{key}") is None:
            troubles.add(FormatError(f"{architecture}.{key} is missing; the file cannot be run without it"))
    raw: dict[str, Any] = {"model_type": architecture}
    for key, word in WORDS.items():
        with troubles.noted():
            value = _one_for_all(metadata.get(f"{architecture}.{key}"), f"{architecture}.{key}")
            if value is not None:
                raw[word] = value
    troubles.tell()
    raw["rope_scaling"] = scaling
    raw.setdefault("num_key_value_heads", raw["num_attention_heads"])
    if "head_dim" not in raw:
        raw["head_dim"] = _head_dim(raw["hidden_size"], raw["num_attention_heads"])
    window = raw["sliding_window"] = raw.get("sliding_window") or None  # 0 is none, too
    if window is not None and architecture != "llama":
        raise UnsupportedError(
            f"{architecture}.attention.sliding_window is {window!r:.40}, but only 0 is supported: "
            "which layers have the window is not in the file"
        )
    if window is not None:
        raw["model_type"] = "mistral"  # GGUF writes Mistral as llama
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise FormatError("tensor 'token_embd.weight' is missing; a GGUF file with weights is needed")
    raw["vocab_size"] = embedding.shape[0]
    _check_vocabulary(metadata, architecture, embedding.shape[0])
    return raw


def _one_for_all(value: Any, key: str) -> Any:
    """A value, or of a list with one for each block the one that all have."""
    if not isinstance(value, list):
        return value
    if len(set(map(repr, value))) != 1:
        raise UnsupportedError(f"{key} is {value!r:.80}, but one value for all blocks is needed")
    return value[0]


def _head_dim(hidden: Any, heads: Any) -> Any:
    """Columns of a head where the file does not tell; None, which Config refuses, for impossible words."""
    whole = type(hidden) is int and type(heads) is int and heads > 0 and hidden % heads == 0
    return hidden // heads if whole else None


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
    key, old_key = f"{architecture}.rope.scaling.factor", f"{architecture}.rope.scale_linear"
    factor, old = metadata.get(key), metadata.get(old_key)
    if factor is not None and old is not None and factor != old:
        raise UnsupportedError(f"{key} is {factor!r:.40}, but {old_key} is {old!r:.40}; the two must agree")
    factor = old if factor is None else factor
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
    check_vector(tensor)
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
    return replace(tensor, order=order)


def _generation(metadata: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """Token ids that begin and end a text."""

    def ids(*names: str) -> list[int]:
        keys = [f"tokenizer.ggml.{name}_token_id" for name in names]
        return [token for key in keys for token in token_ids(metadata.get(key), key, vocab_size)]

    generation: dict[str, Any] = {}
    first, last = ids("bos"), ids("eos", "eot", "eom")
    if first:
        generation["bos_token_id"] = first[0]
    if last:
        generation["eos_token_id"] = list(dict.fromkeys(last))
    return generation


def _tokenizer(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], bytes] | None:
    from edgeq.converters import tokenizers

    return tokenizers.from_gguf(dict(metadata))


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
