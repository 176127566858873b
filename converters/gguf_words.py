"""The metadata of a GGUF file as the words of a config: what all architectures share; `edgeq.models.gguf` has
what families say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from edgeq.converters.source import SourceTensor, check_vector
from edgeq.errors import FormatError, Troubles, UnsupportedError
from edgeq.formats.gguf_cursor import Strings
from edgeq.models.gguf import Gguf
from edgeq.models.rope import yarn_factor

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
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "rope.freq_base": "rope_theta",
}


NEEDED = (
    "embedding_length", "feed_forward_length", "block_count", "attention.head_count", "context_length",
)  # fmt: skip


THETA = 10000.0  # the base of the rotation where a file has none


# Keys that are read elsewhere, or that nothing is computed from.
READ = (
    "attention.value_length", "rope.dimension_count", "vocab_size", "rope.scaling.type",
    "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor",
    "rope.scaling.attn_factor", "rope.scaling.yarn_log_multiplier", "tensor_data_layout", "expert_used_count",
    "pooling_type", "classifier.output_labels",
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
}


LAYERS_MAX = 1024  # that a config may have


def keys_of(metadata: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """What a file says of its architecture, by keys without its name."""
    beginning = f"{architecture}."
    return {k.removeprefix(beginning): value for k, value in metadata.items() if k.startswith(beginning)}


def words(
    metadata: Mapping[str, Any],
    row: Gguf,
    tensors: Mapping[str, SourceTensor],
    factors: Mapping[str, SourceTensor | None],
) -> dict[str, Any]:
    """The metadata as the words of a Hugging Face config, refusing by key and value what has no such word,
    all of it at once."""
    architecture, troubles = row.architecture, Troubles()
    keys = keys_of(metadata, architecture)
    read = {**WORDS, **row.words}
    for key, accepted in {**REQUIRE, **row.accepted}.items():
        value = keys.get(key)
        if key not in read and value is not None and value not in accepted:
            right = " or ".join(map(repr, accepted))
            troubles.add(
                UnsupportedError(f"{architecture}.{key} is {value!r:.80}, but only {right} is supported")
            )
    known = {*read, *REQUIRE, *row.accepted, *row.unread, *READ}
    for key in sorted(keys.keys() - known):
        troubles.add(
            UnsupportedError(
                f"{architecture}.{key} is {keys[key]!r:.80}, but nothing is known of such a key: a version "
                "of edgeq that reads it is needed"
            )
        )
    with troubles.noted():
        scaling = _scaling(keys, architecture, factors)
    for key in (*NEEDED, row.epsilon):
        if keys.get(key) is None and WORDS[key] not in row.absent:
            troubles.add(FormatError(f"{architecture}.{key} is missing; the file cannot be run without it"))
    raw: dict[str, Any] = {"model_type": row.model_type, "rope_theta": THETA, **row.absent}
    for key, word in read.items():
        with troubles.noted():
            value = keys.get(key)
            if key in WORDS and key not in row.listed:
                value = _one_for_all(value, f"{architecture}.{key}")
            if value is not None:
                raw[word] = value
    troubles.tell()
    raw |= {"rope_scaling": scaling, "rope_parameters": {}}  # what the file says is all there is
    raw.setdefault("num_key_value_heads", raw["num_attention_heads"])
    if "head_dim" not in raw:
        raw["head_dim"] = _head_dim(raw["hidden_size"], raw["num_attention_heads"])
    for word, endings in row.there.items():
        raw[word] = any(name.endswith(endings) for name in tensors)
    for word, name in row.without.items():
        raw[word] = _layers_without(name, raw["num_hidden_layers"], tensors)
    raw |= {word: metadata[key] for key, word in row.bare.items() if key in metadata}
    if row.settle is not None:
        row.settle(raw, keys)
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise FormatError("tensor 'token_embd.weight' is missing; a GGUF file with weights is needed")
    raw["vocab_size"] = embedding.shape[0]
    _check_vocabulary(metadata, architecture, embedding.shape[0])
    return raw


def _layers_without(name: str, count: Any, tensors: Collection[str]) -> list[int]:
    """The layers, of so many, that have no tensor of this name."""
    every = range(count if type(count) is int and 0 < count <= LAYERS_MAX else 0)  # others are refused
    return [i for i in every if f"blk.{i}.{name}" not in tensors]


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


def _scaling(
    keys: Mapping[str, Any], architecture: str, factors: Mapping[str, SourceTensor | None]
) -> dict[str, Any] | None:
    """rope_scaling in a config's words; a factor without a type means linear, as in the reference."""
    kind = keys.get("rope.scaling.type")
    attention = keys.get("rope.scaling.attn_factor") or None
    short, long = factors["rope_factors_short"], factors["rope_factors_long"]
    if short is not None and long is not None:
        lists = {"short_factor": _list(short), "long_factor": _list(long)}
        original = keys.get("rope.scaling.original_context_length")
        found = {"rope_type": "longrope", "original_max_position_embeddings": original, **lists}
        return {**found, "attention_factor": attention} if attention else found
    if kind == "none":
        return None
    key, old_key = "rope.scaling.factor", "rope.scale_linear"
    factor, old = keys.get(key), keys.get(old_key)
    if factor is not None and old is not None and factor != old:
        raise UnsupportedError(
            f"{architecture}.{key} is {factor!r:.40}, but {architecture}.{old_key} is {old!r:.40}; the two "
            "must agree"
        )
    factor = old if factor is None else factor
    if kind not in (None, "linear", "yarn"):
        raise UnsupportedError(
            f"{architecture}.rope.scaling.type is {kind!r:.80}, but only none, linear and yarn are supported"
        )
    if kind == "yarn":
        return _yarn(keys, architecture, factor)
    for key in ("rope.scaling.attn_factor", "rope.scaling.yarn_log_multiplier"):
        if keys.get(key) not in (None, 0.0, 1.0 if "attn" in key else 0.0):
            raise UnsupportedError(
                f"{architecture}.{key} is {keys[key]!r:.80}, but only 0.0 is supported without yarn"
            )
    if factor is None or factor == 0:
        return None
    return {"rope_type": "linear", "factor": factor}


def _yarn(keys: Mapping[str, Any], architecture: str, factor: Any) -> dict[str, Any]:
    """YaRN in a config's words. `yarn_attn_factor` is a config's attention_factor, where it is not the 1 that
    stands for none; `yarn_log_multiplier` is mscale_all_dim, with an mscale of 1; and `attn_factor` is one
    more factor.
    """
    found: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys.get("rope.scaling.original_context_length"),
    }
    for name in ("beta_fast", "beta_slow"):
        value = keys.get(f"rope.scaling.yarn_{name}")
        found |= {} if value is None else {name: value}
    extrapolated = keys.get("rope.scaling.yarn_ext_factor")
    if extrapolated not in (None, -1.0, 1.0):
        raise UnsupportedError(
            f"{architecture}.rope.scaling.yarn_ext_factor is {extrapolated!r:.80}, but only 1.0 is supported"
        )
    given, multiplier, more = (
        _number(keys, architecture, f"rope.scaling.{key}")
        for key in ("yarn_attn_factor", "yarn_log_multiplier", "attn_factor")
    )
    if given not in (0, 1) or multiplier or more not in (0, 1):
        if given in (0, 1):
            given = yarn_factor(factor) / yarn_factor(factor, multiplier) if _is_number(factor) else 1.0
        found["attention_factor"] = given * (more or 1.0)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(keys: Mapping[str, Any], architecture: str, key: str) -> float:
    """A number that is not negative, 0 where it is absent."""
    value = keys.get(key, 0.0)
    if not _is_number(value) or not 0 <= value <= 1e6:
        raise UnsupportedError(
            f"{architecture}.{key} is {value!r:.40}, but a number from 0 to 1000000 is needed"
        )
    return float(value)


def _list(tensor: SourceTensor) -> list[float]:
    """The numbers of a vector."""
    check_vector(tensor)
    return [float(x) for x in tensor.floats().reshape(-1)]
