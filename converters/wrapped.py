"""Checkpoints of models that see or hear: their text model is converted, and the other parts are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from edgeq.errors import FormatError, UnsupportedError

Entry = TypeVar("Entry")

# Architectures whose text model, while it is given nothing but text, computes what it computes alone.
# PaliGemma is none: its prompt sees itself in both directions.
ARCHITECTURES = (
    "Gemma3ForConditionalGeneration", "Gemma4ForConditionalGeneration",
    "Gemma4UnifiedForConditionalGeneration", "Mistral3ForConditionalGeneration",
    "LlavaForConditionalGeneration",
    "LlavaNextForConditionalGeneration", "Idefics3ForConditionalGeneration",
    "SmolVLMForConditionalGeneration", "InternVLForConditionalGeneration", "VoxtralForConditionalGeneration",
    "AyaVisionForConditionalGeneration", "Cohere2VisionForConditionalGeneration",
    "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration",
    "Lfm2VlForConditionalGeneration",
)  # fmt: skip

# Words of the outer config that are about the text model, and go before its own: old text configs repeat
# theirs from another model.
OUTER = ("bos_token_id", "eos_token_id", "tie_word_embeddings", "quantization_config", "is_encoder_decoder")

# What the text model's names begin with in such a checkpoint, and alone.
PREFIXES = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
    "model.text_model.": "model.",
}
# Layers that were trained to guess tokens further on; models of nothing but text have them, too.
GUESSING = ("mtp",)
# The other parts; "model." may stand before them.
PARTS = (
    "vision_tower", "vision_model", "visual", "audio_tower", "multi_modal_projector", "connector",
    "image_newline", *GUESSING, "embed_vision", "embed_audio", "vision_embedder",
)  # fmt: skip


def text_config(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config of the text model in that of a whole; None for a model that is nothing but text."""
    if "text_config" not in raw:
        return None
    inner, architectures = raw["text_config"], raw.get("architectures")
    if not isinstance(inner, Mapping):
        raise UnsupportedError(f"config: text_config is {inner!r:.80}, but the text model's config is needed")
    if architectures not in [[name] for name in ARCHITECTURES]:
        right = ", ".join(ARCHITECTURES)
        raise UnsupportedError(
            f"config: architectures is {architectures!r:.80} around a text_config, but only [{right}] is "
            "supported"
        )
    if inner.get("model_type") is None:
        raise UnsupportedError("config: text_config.model_type is missing; the text model's is needed")
    outer = {key: raw[key] for key in OUTER if raw.get(key) is not None}
    if inner.get("tie_word_embeddings") is True:  # which old wholes repeat as false
        outer["tie_word_embeddings"] = True
    return {**inner, "architectures": None, **outer}


def apart(
    found: Mapping[str, Entry], parts: Sequence[str]
) -> tuple[dict[str, Entry], dict[str, list[Entry]]]:
    """The tensors that are of none of these parts, and those that are, by the part."""
    kept: dict[str, Entry] = {}
    left: dict[str, list[Entry]] = {}
    for name, entry in found.items():
        part = name.removeprefix("model.").partition(".")[0]
        if part in parts:
            left.setdefault(part, []).append(entry)
        else:
            kept[name] = entry
    return kept, left


def text_tensors(found: Mapping[str, Entry]) -> tuple[dict[str, Entry], dict[str, list[Entry]]]:
    """The text model's tensors by the names that they have alone, and those of other parts, by the part.

    FormatError where two tensors would have one name.
    """
    rest, left = apart(found, PARTS)
    kept: dict[str, Entry] = {}
    for name, entry in rest.items():
        alone = next((to + name[len(at) :] for at, to in PREFIXES.items() if name.startswith(at)), name)
        if alone in kept:
            raise FormatError(f"tensor {name!r:.120} and another are both {alone!r:.120} of the text model")
        kept[alone] = entry
    return kept, left


def told(parts: Iterable[str]) -> str:
    """The line that says what was left out."""
    return f"only the text model is taken: {', '.join(parts)} of the checkpoint is left out"
