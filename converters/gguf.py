"""The source `gguf`: a GGUF file, its metadata turned into the words of a config."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.converters import pooling
from edgeq.converters.conversation import checked_template, token_ids
from edgeq.converters.gguf_kinds import architecture_of, without_guesses
from edgeq.converters.gguf_words import keys_of, words
from edgeq.converters.source import (
    Array,
    Source,
    SourceTensor,
    check_vector,
    checked_tensors,
    is_dead,
    made_of,
    number_of,
    shared_tensors,
)
from edgeq.errors import FormatError, Troubles, UnsupportedError
from edgeq.formats.ggml import TYPES
from edgeq.formats.gguf import open_gguf
from edgeq.models import BaseConfig, family, gguf_architectures, gguf_row
from edgeq.models.tensors import sources

ONE_EXPERT = re.compile(r"blk\.\d+\.ffn_(gate|up|down)\.\d+\.weight")

# Tensors of factors that frequencies are divided by; what is divided by so much does not turn.
FACTORS = ("rope_freqs", "rope_factors_short", "rope_factors_long")
STILL = np.float32(1e30)

# Types of blocks beside which a file may have a scale for the whole tensor.
SCALED = tuple(name for name, row in TYPES.items() if row.columns > 1 and row.scheme_name and row.scheme.row)


def open_file(path: Path) -> Source:
    """Open a GGUF file, or a model in several by any of them; UnsupportedError or FormatError says in one
    sentence what is wrong with it."""
    file = open_gguf(path)
    architecture = architecture_of(file, gguf_architectures())
    metadata, left_out = without_guesses(file, architecture)
    row, family_name = gguf_row(architecture, keys_of(metadata, architecture))
    found = {
        name: SourceTensor(name, tensor.type, tensor.shape, tensor.data)
        for name, tensor in file.tensors.items()
        if not is_dead(name) and name.removeprefix("blk.").partition(".")[0] not in left_out
    }
    _check_experts(found)
    found = _scaled(found, family_name)
    factors = {name: found.pop(f"{name}.weight", None) for name in FACTORS}
    output = found.pop(pooling.OUTPUT, None)
    found, tied = shared_tensors(family_name, found, lambda row: row.gguf, None)
    raw = words(metadata, row, found, factors)
    config: BaseConfig = family(family_name).Config.from_hf(raw)
    config = replace(config, tie_word_embeddings=tied)
    troubles = Troubles()
    with troubles.noted():
        _check_heads(metadata, row.architecture, config)
    with troubles.noted():
        tensors = checked_tensors(family_name, config, found, lambda want: want.gguf)
    troubles.tell()
    made = made_of(config.ropes(raw), config)
    if factors["rope_freqs"] is not None:
        main = "rope.inverse_frequencies"
        if main not in made:
            raise UnsupportedError("tensor 'rope_freqs.weight' is there, but this family has no rotation")
        divisors = _factors(factors["rope_freqs"], config)
        made[main] = np.where(divisors < STILL, made[main] / divisors, 0).astype(np.float32)
    template = metadata.get("tokenizer.chat_template")
    pooled = pooling.from_gguf(metadata, family_name, config.hidden_size, output)
    return Source(
        kind="gguf",
        name=file.path.name,
        family=family_name,
        config=config,
        tensors=tensors,
        made=made,
        tokenizer=lambda: _tokenizer(metadata, config.WHOLE or pooled is not None),
        chat_template=checked_template(template if isinstance(template, str) else None),
        generation=_generation(metadata, config.vocab_size),
        license=_text(metadata.get("general.license")),
        left_out=tuple(left_out.values()),
        pooling=pooled,
    )


def _check_experts(tensors: Collection[str]) -> None:
    """UnsupportedError for experts one by one, which llama.cpp no longer reads either."""
    old = next((name for name in tensors if ONE_EXPERT.fullmatch(name)), None)
    if old is not None:
        raise UnsupportedError(
            f"tensor {old!r:.120} is one expert's alone, as files before April 2024 have them: get a newer "
            "file of the model, or convert its checkpoint"
        )


def _scaled(tensors: Mapping[str, SourceTensor], family_name: str) -> dict[str, SourceTensor]:
    """The tensors without those of scales: "X.scale" is one float, by which "X.weight" is multiplied, but
    where the family has a tensor of that name.
    """
    found = dict(tensors)
    own = {source.name for row in family(family_name).TENSORS for source in sources(row.gguf)}
    scales = [name for name in found if name.endswith(".scale")]
    for name in [name for name in scales if re.sub(r"^blk\.\d+\.", "blk.{i}.", name) not in own]:
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
    factor = number_of(scale)
    if not 0 <= factor < np.inf:
        raise FormatError(f"tensor {scale.name!r:.120} is {factor}, but a finite number from 0 on is needed")
    return factor


def _check_heads(metadata: Mapping[str, Any], architecture: str, config: BaseConfig) -> None:
    """Values as long as keys, and rotation of as many dimensions as the config says."""
    head = config.head_of("rope")
    lengths = {"attention.value_length": head, "rope.dimension_count": 2 * config.rotary_size}
    for key, length in lengths.items():
        value = metadata.get(f"{architecture}.{key}", length)
        if value != length:
            what = "head_dim " if length == head else ""
            raise UnsupportedError(
                f"{architecture}.{key} is {value!r:.40}, but only {what}{length} is supported"
            )


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


def _tokenizer(metadata: Mapping[str, Any], pooled: bool) -> tuple[dict[str, Any], bytes] | None:
    from edgeq.converters import tokenizers

    return tokenizers.from_gguf(dict(metadata), pooled=pooled)


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
