"""The words of tokenizer_config.json that change how a text becomes ids: honoured as transformers honours
them, or refused by name.

Words that change no id are left alone. `clean_up_tokenization_spaces` is one: it takes spaces out of decoded
text, and transformers 5 no longer does so where the tokens are BPE, as all here are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer.patterns import TEKKEN

FILE = "tokenizer_config.json"
SPACE = "\u2581"
# Classes that build the steps around a text from their words, whatever tokenizer.json says. None: the class
# that goes with the model, which for a vocabulary with U+2581 is this one.
LLAMA = (None, "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast")
# Words of BERT's tokenizer, and of the step that they are about; no accent is one of a lower-cased text.
BERT_WORDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Word: what it asks for when it is true. Nothing here does so.
REFUSED = {
    "add_eos_token": "an end token behind each text, which a model would have to answer after",
    "split_special_tokens": "control tokens that are never found in a text",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": "decoded text without spaces",
}


@dataclass(frozen=True)
class Words:
    """What a tokenizer_config.json says; None where it is silent."""

    add_bos: bool | None  # does a text begin with bos
    ends: (
        bool | None
    )  # does an end token come behind a text; False: nothing does, whatever tokenizer.json says
    prefix: bool | None  # is a space put before a text
    legacy: bool | None  # … and before what follows a control token
    rebuilt: bool  # do the words count for the steps of a tokenizer.json too
    tekken: bool  # is the way of splitting TEKKEN, whatever tokenizer.json says

    @classmethod
    def read(cls, config: dict[str, Any], pooled: bool = False) -> Words:
        """FormatError for a word that is neither true nor false, UnsupportedError for what is refused; of a
        model that gives vectors an end token behind each text is not."""
        for word, meaning in REFUSED.items():
            if _flag(config, word) and not (pooled and word == "add_eos_token"):
                raise _refused(word, meaning)
        if config.get("sp_model_kwargs") not in (None, {}):
            raise UnsupportedError(
                f"sp_model_kwargs of {FILE} is {config['sp_model_kwargs']!r:.80}; "
                "only an empty one is supported"
            )
        return cls(
            add_bos=_flag(config, "add_bos_token"),
            ends=_flag(config, "add_eos_token"),
            prefix=_flag(config, "add_prefix_space"),
            legacy=_flag(config, "legacy"),
            rebuilt=config.get("tokenizer_class") in LLAMA,
            tekken=_flag(config, "fix_mistral_regex") is True,
        )


def _refused(word: str, meaning: str) -> UnsupportedError:
    return UnsupportedError(f"{word} is true in {FILE}, which asks for {meaning}; only false is supported")


def refuse_case(config: dict[str, Any]) -> None:
    """UnsupportedError where do_lower_case asks for what no step of the tokenizer does."""
    if _flag(config, "do_lower_case"):
        raise _refused("do_lower_case", "lower-cased text")


def with_case(data: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json whose BertNormalizer does what the words of BERT's own tokenizer ask for, as in
    transformers. Elsewhere small letters are refused.
    """
    normalizer = data.get("normalizer")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        refuse_case(config)
        return data
    found = {step: _flag(config, word) for word, step in BERT_WORDS.items() if word in config}
    kept = {step: value for step, value in found.items() if value is not None or step == "strip_accents"}
    return {**data, "normalizer": {**normalizer, **kept}}


def _flag(config: dict[str, Any], word: str) -> bool | None:
    value = config.get(word)
    if value is not None and not isinstance(value, bool):
        raise FormatError(f"{word} of {FILE} is {value!r:.40}; true, false or null is needed")
    return value


def check_splits(data: dict[str, Any], words: Words) -> None:
    """UnsupportedError where `fix_mistral_regex` wants another way of splitting than a tokenizer.json has.

    A file saved by the transformers that put the pattern right has both, the word and the pattern.
    """
    splits = steps(data.get("pre_tokenizer"), "pretokenizers")
    if words.tekken and not any(step.get("pattern") == {"Regex": TEKKEN} for step in splits):
        raise UnsupportedError(
            f"fix_mistral_regex is true in {FILE} and tokenizer.json has another pattern than it asks for; "
            "a tokenizer.json saved with that word is needed"
        )


def with_prefix(data: dict[str, Any], words: Words) -> dict[str, Any]:
    """A tokenizer.json with the steps around a text that `add_prefix_space` and `legacy` ask for.

    As transformers has it: the word is written into a ByteLevel that is the whole pre_tokenizer, and a Llama
    tokenizer's steps are made from it. Elsewhere the file's own steps count.
    """
    before = data.get("pre_tokenizer")
    if words.prefix is None or not isinstance(before, dict | None):
        return data
    if before and before.get("type") == "ByteLevel":
        return {**data, "pre_tokenizer": {**before, "add_prefix_space": words.prefix}}
    kinds = {
        name: {step.get("type") for step in steps(data.get(part), name)}
        for part, name in (
            ("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")
        )
    }  # fmt: skip
    if not words.rebuilt or "ByteLevel" in kinds["decoders"]:
        return data
    scheme = _scheme(data)
    wanted = ("first" if words.legacy is False else "always") if words.prefix else "never"
    if words.prefix and words.legacy is None and scheme != "never":
        wanted = scheme
    if scheme == wanted:
        return data
    if kinds["normalizers"] - {"Prepend", "Replace"} or kinds["pretokenizers"] - {"Metaspace"}:
        raise UnsupportedError(
            f"add_prefix_space is {str(words.prefix).lower()} in {FILE} and the steps of tokenizer.json are "
            "not those of a Llama tokenizer; only without that word is such a file supported"
        )
    return {
        **data,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace", "replacement": SPACE, "prepend_scheme": wanted, "split": False
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if words.prefix else []),
        ]},
    }  # fmt: skip


def _scheme(data: dict[str, Any]) -> str:
    """When the steps of a tokenizer.json put a space before a text: "always", "first" or "never"."""
    if any(step.get("type") == "Prepend" for step in steps(data.get("normalizer"), "normalizers")):
        return "always"
    for step in steps(data.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") == "Metaspace":
            return str(
                step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            )
    return "never"


def steps(part: object, list_name: str) -> Iterable[dict[str, Any]]:
    """The parts of a component of tokenizer.json, sequences flattened."""
    if not isinstance(part, dict):
        return
    if part.get("type") == "Sequence" and isinstance(part.get(list_name), list):
        for inner in part[list_name]:
            yield from steps(inner, list_name)
    else:
        yield part
