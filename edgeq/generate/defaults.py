"""What the model file says where the caller does not: how tokens are drawn, and which of them end a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.arguments import is_int
from edgeq.errors import FormatError, UsageError
from edgeq.generate.protocols import LanguageModel
from edgeq.sampling import SamplingOptions, check_option


def keywords(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `stream` among `options`: what is None is as if it were not there."""
    return {name: value for name, value in options.items() if value is not None}


# the file's words for the options it may set, the first that is present counts
FILE_NAMES: dict[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
}


def options_for(model: LanguageModel, **explicit: Any) -> SamplingOptions:
    """SamplingOptions from the explicit values that are not None, then the model file's, then the defaults.

    A file that says `do_sample: false` asks for the likeliest: its temperature is 0, whatever else it says.
    Raises UsageError for an explicit value out of range or an unknown name, FormatError for such a value in
    the file.
    """
    unknown = sorted(set(explicit) - set(SamplingOptions.__dataclass_fields__))
    if unknown:
        known = ", ".join(SamplingOptions.__dataclass_fields__)
        raise UsageError(f"{unknown[0]!r} is no sampling option: the options are {known}")
    values = {name: value for name, value in explicit.items() if value is not None}
    defaults = file_defaults(model)
    if defaults.get("do_sample") is False:
        values.setdefault("temperature", 0.0)
    for name, words in FILE_NAMES.items():
        word = next((word for word in words if defaults.get(word) is not None), None)
        if name in values or word is None:
            continue
        try:
            check_option(name, defaults[word])
        except UsageError as error:
            raise FormatError(f"the model file's generation defaults are wrong: {error}") from None
        values[name] = defaults[word]
    return SamplingOptions(**values)


def file_defaults(model: LanguageModel) -> dict[str, Any]:
    """The "generation" object of the model file's header; empty where there is none."""
    defaults = model.file.header.get("generation") or {}
    if not isinstance(defaults, dict):
        raise FormatError(f'the model file\'s "generation" is {defaults!r}, but must be an object')
    return defaults


def eos_ids(model: LanguageModel) -> frozenset[int]:
    """Every id that ends a text: the tokenizer's and those of the model file's generation defaults.

    An id outside the vocabulary is left out: it ends nothing, since it is never drawn.
    """
    known = frozenset(model.tokenizer.eos_ids) if model.tokenizer is not None else frozenset()
    listed = file_defaults(model).get("eos_token_id")
    ids = listed if isinstance(listed, list) else [] if listed is None else [listed]
    for id in ids:
        if not is_int(id) or id < 0:
            raise FormatError(
                f"the model file's generation.eos_token_id is {ascii(id):.40}, but must be a token id"
            )
    return frozenset(id for id in known.union(ids) if id < model.vocab_size)
