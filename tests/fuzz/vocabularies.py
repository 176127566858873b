"""Small tokenizers, made here: a sentencepiece model, tokenizer.json files, a GGUF vocabulary."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from edgeq.tokenizer import modelproto
from edgeq.tokenizer.modelproto import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Piece

FOREIGN = "<|q|>"  # a control token that no template writes
WORDS = ["<unk>", "<s>", "</s>", "▁", "a", "b", "t", "e", "x", "▁a", "▁t", "ex", "▁te", "xt",
         "<|im_end|>", "<think>", FOREIGN]  # fmt: skip
TYPES = [UNKNOWN, CONTROL, CONTROL, *[NORMAL] * 11, CONTROL, USER_DEFINED, CONTROL]
SPEC: dict[str, Any] = {
    "kind": "sentencepiece", "vocab_size": len(WORDS), "bos": 1, "eos": [2, 14], "add_bos": True,
    "control": [1, 2, 14, 16], "markers": [], "unknown": 0, "leading_space": True,
}  # fmt: skip


def pieces() -> list[Piece]:
    return [Piece(word, -float(i), type) for i, (word, type) in enumerate(zip(WORDS, TYPES, strict=True))]


@cache
def pieces_model() -> bytes:
    return modelproto.write_model(pieces(), unknown=0, prefix=True)


def with_bytes() -> bytes:
    """A model with all byte pieces, without which the library takes none."""
    found = [*pieces(), *(Piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256))]
    return modelproto.write_model(found, unknown=0, prefix=False)


def byte_level(**changes: Any) -> dict[str, Any]:
    """A byte-level tokenizer.json of a few dozen letters."""
    from edgeq.tokenizer.tokenizer_json import byte_alphabet

    words = [c for c, byte in sorted(byte_alphabet().items(), key=lambda item: item[1]) if byte < 128]
    merges = [["t", "e"], ["te", "x"], ["tex", "t"], ["Ġ", "text"], ["<", "|"]]
    words += ["".join(merge) for merge in merges]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(len(words), "<|im_end|>", True), added(len(words) + 1, "<think>", False)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": False,
             "pattern": {"Regex": r"\p{L}+|\p{N}{1,3}|\s+"}},
            {**step, "use_regex": False}]},
        "post_processor": None, "decoder": step,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": False,
                  "vocab": {word: i for i, word in enumerate(words)}, "merges": merges},
        **changes,
    }  # fmt: skip


def added(id: int, content: str, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, "special": special, **flags}


def with_spaces() -> dict[str, Any]:
    """A tokenizer.json of the kind that was a sentencepiece model once."""
    vocab = {word: id for id, word in enumerate(WORDS)}
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    post = {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}  # fmt: skip
    decoders = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]  # fmt: skip
    return byte_level(
        added_tokens=[added(id, WORDS[id], id != 0) for id in (0, 1, 2, 14)],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        pre_tokenizer=space, post_processor=post, decoder={"type": "Sequence", "decoders": decoders},
        model={"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocab,
               "merges": [["▁", "a"], ["▁", "t"], ["e", "x"]]},
    )  # fmt: skip


def unigram() -> dict[str, Any]:
    table = [[word, -float(i)] for i, word in enumerate(WORDS)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": table, "byte_fallback": False}
    return {**with_spaces(), "normalizer": None, "model": model}


def tokenizer_jsons() -> list[bytes]:
    return [json.dumps(value).encode() for value in (byte_level(), with_spaces(), unigram())]


def settings() -> dict[str, Any]:
    """A tokenizer_config.json."""
    return {
        "bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "unk_token": "<unk>",
        "pad_token": None, "add_bos_token": True, "add_eos_token": False, "add_prefix_space": True,
        "legacy": False,
        "clean_up_tokenization_spaces": False, "model_max_length": 1 << 60,
        "tokenizer_class": "LlamaTokenizer", "additional_special_tokens": ["<|im_end|>"],
        "sp_model_kwargs": {}, "chat_template": "{{ bos_token }}",
        "added_tokens_decoder": {"1": added(1, "<s>", True), "17": added(17, "<|x|>", True)},
    }  # fmt: skip
