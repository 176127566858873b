"""The words of tokenizer_config.json that change what a text becomes: honoured, or refused by name.

They follow transformers 4.57. `clean_up_tokenization_spaces` changes decoded text alone, and not as a stream
of tokens could; llama.cpp and edgeq leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.errors import FormatError, UnsupportedError

# Words that would change ids, and the values with which they do not.
UNCHANGED: dict[str, tuple[Any, ...]] = {
    "add_eos_token": (False, None),
    "split_special_tokens": (False, None),
    "do_lower_case": (False, None),
    "sp_model_kwargs": ({}, None),
}


def check(words: Mapping[str, Any]) -> None:
    """UnsupportedError names a word whose value asks for what edgeq does not do; FormatError a wrong one."""
    for word, values in UNCHANGED.items():
        if word in words and words[word] not in values:
            raise UnsupportedError(
                f"tokenizer_config.json: {word} is {words[word]!r:.80}, but only {values[0]!r} is supported"
            )
    for word in ("add_prefix_space", "add_bos_token", "legacy"):
        if not isinstance(words.get(word), bool | None):
            raise FormatError(
                f"tokenizer_config.json: {word} is {words[word]!r:.80}, but true or false is needed"
            )


def with_prefix_space(data: dict[str, Any], add: bool | None) -> dict[str, Any]:
    """A tokenizer.json in which a text is given a space before it, or is not, as `add` says; None: as it was.

    As in transformers the word reaches a byte-level step that stands alone. It also takes away what Llama's
    kind of tokenizer puts before a text, which transformers makes anew from tokenizer.model without it.
    """
    before = data.get("pre_tokenizer")
    if add is not None and isinstance(before, dict) and before.get("type") == "ByteLevel":
        return {**data, "pre_tokenizer": {**before, "add_prefix_space": add}}
    if add is not False:
        return data
    return {
        **data,
        "normalizer": _without_prefix(data.get("normalizer"), "normalizers"),
        "pre_tokenizer": _without_prefix(before, "pretokenizers"),
        "decoder": _kept_space(data.get("decoder")),
    }


def _without_prefix(part: Any, name: str) -> Any:
    """A component without the steps that put U+2581 before a text."""
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Sequence" and isinstance(part.get(name), list):
        steps = [_without_prefix(step, name) for step in part[name]]
        return {**part, name: [step for step in steps if step is not None]}
    if part.get("type") == "Metaspace":
        return {
            **part,
            "prepend_scheme": "never",
            **({"add_prefix_space": False} if "add_prefix_space" in part else {}),
        }
    return None if part.get("type") == "Prepend" else part


def _kept_space(part: Any) -> Any:
    """A decoder that keeps the space at the beginning of a text."""
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Sequence" and isinstance(part.get("decoders"), list):
        steps = [_kept_space(step) for step in part["decoders"]]
        return {**part, "decoders": [step for step in steps if step is not None]}
    if part.get("type") == "Metaspace":
        return _without_prefix(part, "decoders")
    return None if part.get("type") == "Strip" and part.get("start") else part
