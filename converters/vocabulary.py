"""The vocabulary inside a GGUF file's metadata as (spec, blob): see converters/tokenizers.py.

GGUF keeps the parts of a tokenizer, not the tokenizer: spellings, scores or merges, types, a name for the
way of splitting text before merging. Here they become a sentencepiece model or a tokenizer.json again, one
that gives the same ids. A new way of splitting is a row of SPLITS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeq.converters.tokenizers import TURN_ENDS, Added, complete_pieces, finish, is_marker
from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats.gguf_cursor import Strings
from edgeq.tokenizer import TOKENS_MAX, Spec, modelproto
from edgeq.tokenizer.document import compact
from edgeq.tokenizer.patterns import (
    CJK,
    DEEPSEEK3,
    DEEPSEEK_CODER,
    DEEPSEEK_LLM,
    DIGIT,
    FALCON,
    GPT2,
    GPT4O,
    LLAMA3,
    MINICPM5,
    QWEN2,
    QWEN35,
    TEKKEN,
    THREE_DIGITS,
)

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # token_type
MERGES_MAX = 1 << 22
TOKEN_CHARS_MAX = 1 << 14
SCORE_MAX = (2 - 2**-23) * 2.0**127  # the largest float32
ADDED_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@dataclass(frozen=True)
class Split:
    """One value of tokenizer.ggml.pre."""

    patterns: tuple[str, ...]
    add_bos: bool = False  # when the file does not say
    whole_words: bool = False  # a word that is a token is that token, whatever the merges say
    normalizer: str | None = None


def _rows(names: str, split: Split) -> dict[str, Split]:
    return dict.fromkeys(names.split(), split)


SPLITS = {
    **_rows("gpt-2 phi-2 exaone4 jais mellum", Split((GPT2,))),
    **_rows("olmo mpt modern-bert", Split((GPT2,), normalizer="NFC")),  # GPT-NeoX's tokenizer
    **_rows(
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 lfm2 pixtral midm-2.0",
        Split((LLAMA3,), add_bos=True, whole_words=True),
    ),
    **_rows("smaug-bpe dbrx chatglm-bpe", Split((LLAMA3,))),
    **_rows("glm4", Split((LLAMA3,), whole_words=True)),
    **_rows("qwen2 stablelm2", Split((QWEN2,), normalizer="NFC")),
    **_rows("deepseek-r1-qwen hunyuan megrez", Split((QWEN2,))),
    **_rows("qwen35", Split((QWEN35,))),
    **_rows("smollm starcoder refact codeshell exaone minerva-7b", Split((DIGIT, GPT2))),
    **_rows("command-r", Split((DIGIT, GPT2), normalizer="NFC")),
    **_rows("tekken", Split((TEKKEN,), add_bos=True, whole_words=True)),
    **_rows("gpt-4o llama4 kanana2 minimax-m2", Split((GPT4O,))),
    **_rows("deepseek-v3 hunyuan-dense joyai-llm", Split((THREE_DIGITS, CJK, DEEPSEEK3))),
    **_rows("deepseek-llm", Split(DEEPSEEK_LLM)),
    **_rows("deepseek-coder", Split(DEEPSEEK_CODER)),
    **_rows("falcon", Split(FALCON)),
    **_rows("minicpm5", Split((THREE_DIGITS, MINICPM5), whole_words=True)),
}


def from_gguf(metadata: Mapping[str, Any], *, pooled: bool = False) -> tuple[dict[str, Any], bytes] | None:
    """The tokenizer of a GGUF file; None when the file holds none. pooled: the model gives vectors, and so
    may read a token behind each text.

    Raises FormatError for broken metadata, UnsupportedError for an unknown kind or way of splitting.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind is None:
        return None
    if not isinstance(kind, str) or kind not in MODELS:
        raise UnsupportedError(
            f"tokenizer.ggml.model is {str(kind)[:64]!r}, which is not known; known are {', '.join(MODELS)}"
        )
    vocabulary = Vocabulary(metadata)
    for name in ("add_eos_token", "add_sep_token"):
        if vocabulary.flag(name, False) and not pooled:
            raise UnsupportedError(
                f"tokenizer.ggml.{name} is true, which asks for a token behind each text; "
                "only false is supported"
            )
    return finish(*MODELS[kind](vocabulary))


class Vocabulary:
    """The checked tokenizer keys of a GGUF file."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.words: list[str] = self.array("tokens", str, None)
        if not 0 < len(self.words) <= TOKENS_MAX:
            raise FormatError(f"tokenizer.ggml.tokens has {len(self.words)} tokens, not 1 to {TOKENS_MAX}")
        for id, word in enumerate(self.words):
            if len(word) > TOKEN_CHARS_MAX or not _is_text(word):
                raise FormatError(f"tokenizer.ggml.tokens[{id}] is too long or no valid Unicode")
        self.types: list[int] = self.array("token_type", int, len(self.words)) or [NORMAL] * len(self.words)
        if not all(NORMAL <= type <= BYTE for type in self.types):
            raise FormatError("tokenizer.ggml.token_type holds a value outside 1 … 6")

    def array(self, name: str, type: type, length: int | None) -> list[Any]:
        """An array of the file; empty when missing. Raises FormatError for another length or element type."""
        values = self.metadata.get(f"tokenizer.ggml.{name}", [])
        if isinstance(values, Strings):
            values = list(values)
        if not isinstance(values, list) or not all(isinstance(value, type) for value in values):
            raise FormatError(f"tokenizer.ggml.{name} is no array of {type.__name__} values")
        if values and length is not None and len(values) != length:
            raise FormatError(f"tokenizer.ggml.{name} has {len(values)} values for {length} tokens")
        return values

    def id(self, name: str) -> int | None:
        """The value of tokenizer.ggml.<name>_token_id; a missing one and the all-ones "no id" are None."""
        value = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if value is None or value == 0xFFFFFFFF:
            return None
        if type(value) is not int or not 0 <= value < len(self.words):
            raise FormatError(
                f"tokenizer.ggml.{name}_token_id is {value!r:.40}, no id of a vocabulary of {len(self.words)}"
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.metadata.get(f"tokenizer.ggml.{name}", default)
        if not isinstance(value, bool):
            raise FormatError(f"tokenizer.ggml.{name} is no bool")
        return value

    def spec(self, kind: str, bos: int | None, eos: int | None, **more: Any) -> Spec:
        ends = [id for id in (eos, self.id("eot"), self.id("eom")) if id is not None]
        control = {id for id, type in enumerate(self.types) if type == CONTROL and len(self.words[id]) > 1}
        control |= {id for id in ends if self.types[id] == USER_DEFINED}
        ends += sorted(id for id in control if self.words[id] in TURN_ENDS)
        markers = {
            id for id, type in enumerate(self.types)
            if type == USER_DEFINED and id not in control and is_marker(self.words[id])
        }  # fmt: skip
        behind = [eos] if self.flag("add_eos_token", False) else []
        behind = [self.id("seperator")] if self.flag("add_sep_token", False) else behind
        more.setdefault("behind", tuple(id for id in behind if id is not None))
        return Spec(
            kind=kind,
            vocab_size=len(self.words),
            bos=bos,
            eos=tuple(dict.fromkeys(ends)),
            control=tuple(sorted(control)),
            markers=tuple(sorted(markers)),
            **more,
        )


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# sentencepiece ------------------------------------------------------------------------------------------


def _pieces(vocabulary: Vocabulary) -> tuple[Spec, bytes]:
    """`llama`: a sentencepiece BPE vocabulary with scores."""
    words, types = vocabulary.words, vocabulary.types
    scores = [float(score) for score in vocabulary.array("scores", float, len(words))] or [0.0] * len(words)
    unknown = vocabulary.id("unknown")
    unknown = 0 if unknown is None else unknown
    bos = vocabulary.id("bos")
    bos, eos = (1 if bos is None and len(words) > 2 else bos), vocabulary.id("eos")
    spec = vocabulary.spec("sentencepiece", bos, 2 if eos is None and len(words) > 2 else eos)
    reserved = {*spec.control, *spec.markers}
    pieces = []
    for id, (word, score, type) in enumerate(zip(words, scores, types, strict=True)):
        if not abs(score) <= SCORE_MAX:  # NaN is not, either
            raise FormatError(f"tokenizer.ggml.scores[{id}] is {score}, not a finite number of 32 bits")
        if id == unknown:
            type = UNKNOWN
        elif id in reserved:
            type = CONTROL
        elif type == UNKNOWN or not word:
            type = UNUSED
        pieces.append(modelproto.Piece(word or f"[EMPTY_{id}]", score, type))
    prefix = vocabulary.flag("add_space_prefix", True)
    blob = modelproto.write_model(pieces, unknown=unknown, prefix=prefix)
    return complete_pieces(
        spec,
        blob,
        pieces,
        markers=set(spec.markers),
        add_bos=vocabulary.flag("add_bos_token", True),
        prefix_each=True,
        strip=_quirks(vocabulary, reserved),
    )


def _quirks(vocabulary: Vocabulary, reserved: set[int]) -> dict[int, Added]:
    """Which tokens swallow whitespace: GGUF has no place for it, and only Phi-3's tokenizer does so."""
    name = str(vocabulary.metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return {}
    keep = ("<unk>", "<s>", "<|endoftext|>")
    return {
        id: Added(vocabulary.words[id], True, rstrip=True)
        for id in reserved
        if vocabulary.words[id] not in keep
    }


# tokenizer.json -----------------------------------------------------------------------------------------


def _merges(vocabulary: Vocabulary) -> tuple[dict[str, int], list[str]]:
    words = vocabulary.words
    vocab = {word: id for id, word in reversed(list(enumerate(words)))}
    merges = vocabulary.array("merges", str, None)
    if len(merges) > MERGES_MAX:
        raise FormatError(f"tokenizer.ggml.merges has {len(merges)} merges where {MERGES_MAX} are allowed")
    for merge in merges:
        left, _, right = merge.partition(" ")
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise FormatError(f"the merge {merge[:64]!r} of tokenizer.ggml.merges does not join tokens")
    return vocab, merges


def _library_json(vocabulary: Vocabulary, spec: Spec, model: dict[str, Any], **parts: Any) -> bytes:
    """The bytes of a tokenizer.json: user-defined tokens are added tokens, reserved ones special."""
    reserved = {*spec.control, *spec.markers}
    added = [
        {"id": id, "content": word, "special": id in reserved, **ADDED_FLAGS}
        for id, word in enumerate(vocabulary.words)
        if word and (id in reserved or vocabulary.types[id] == USER_DEFINED)
    ]  # fmt: skip
    model = {"type": "BPE", **model}
    return compact({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
                    "post_processor": None, **parts, "model": model})  # fmt: skip


def _byte_level(vocabulary: Vocabulary) -> tuple[Spec, bytes]:
    """`gpt2`: byte-level BPE with merges."""
    name = vocabulary.metadata.get("tokenizer.ggml.pre", "default")
    split = SPLITS.get(name) if isinstance(name, str) else None
    if split is None:
        raise UnsupportedError(
            f"tokenizer.ggml.pre is {str(name)[:64]!r}, a way of splitting text that is not known; "
            f"known are {', '.join(SPLITS)}"
        )
    vocab, merges = _merges(vocabulary)
    bos = vocabulary.id("bos")
    add_bos = vocabulary.flag("add_bos_token", split.add_bos) and bos is not None
    spec = vocabulary.spec("tokenizer.json", bos, vocabulary.id("eos"), add_bos=add_bos, byte_level=True)
    cuts = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in split.patterns
    ]
    bytes_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"unk_token": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": split.whole_words,
             "vocab": vocab, "merges": merges}  # fmt: skip
    blob = _library_json(
        vocabulary,
        spec,
        model,
        normalizer={"type": split.normalizer} if split.normalizer else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*cuts, bytes_step]},
        decoder=bytes_step,
    )
    return spec, blob


def _space_level(vocabulary: Vocabulary) -> tuple[Spec, bytes]:
    """`gemma4`: BPE with merges over text whose spaces are U+2581, with byte fallback; lines are words."""
    vocab, merges = _merges(vocabulary)
    bos, unknown = vocabulary.id("bos"), vocabulary.id("unknown")
    prefix = vocabulary.flag("add_space_prefix", False)
    if prefix:
        raise UnsupportedError("tokenizer.ggml.add_space_prefix is true, which is not supported with gemma4")
    add_bos = vocabulary.flag("add_bos_token", True) and bos is not None
    spec = vocabulary.spec("tokenizer.json", bos, vocabulary.id("eos"), add_bos=add_bos, unknown=unknown)
    model = {"unk_token": None if unknown is None else vocabulary.words[unknown], "fuse_unk": True,
             "byte_fallback": True, "ignore_merges": False, "vocab": vocab, "merges": merges}  # fmt: skip
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    lines = {"type": "Split", "pattern": {"Regex": r"[^\n]+|\n+"}, "behavior": "Isolated", "invert": False}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    blob = _library_json(
        vocabulary,
        spec,
        model,
        normalizer=space,
        pre_tokenizer=lines,
        decoder={"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
    )
    return spec, blob


def _word_pieces(vocabulary: Vocabulary) -> tuple[Spec, bytes]:
    """`bert`: words, and pieces that go on with one; the file has U+2581 before the first and nothing before
    the others."""
    words = [_word_piece(word) for word in vocabulary.words]
    vocab = {word: id for id, word in reversed(list(enumerate(words)))}

    def id(name: str, word: str) -> int | None:
        found = vocabulary.id(name)
        return vocab.get(word) if found is None else found

    unknown, first, last = id("unknown", "[UNK]"), id("bos", "[CLS]"), id("seperator", "[SEP]")
    if unknown is None:
        raise FormatError("the vocabulary has no token for what no other token spells")
    add_bos = vocabulary.flag("add_bos_token", True) and first is not None
    ends = (last,) if last is not None and vocabulary.flag("add_sep_token", True) else ()
    spec = vocabulary.spec(
        "tokenizer.json", first, None, add_bos=add_bos, behind=ends, unknown=unknown, word_pieces=True,
        leading_space=True, prefix_each=False,
    )  # fmt: skip
    control = tuple(sorted({*spec.control, *(id for id in (first, *ends, unknown) if id is not None)}))
    spec = replace(spec, control=control)
    vocabulary.words = words
    model = {"type": "WordPiece", "unk_token": words[unknown], "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100, "vocab": vocab}  # fmt: skip
    blob = _library_json(
        vocabulary,
        spec,
        model,
        normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                    "strip_accents": None, "lowercase": vocabulary.flag("normalizer.lowercase", True)},
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": False},
    )  # fmt: skip
    return spec, blob


def _word_piece(word: str) -> str:
    """As BERT's own vocabulary spells what a GGUF file does."""
    if word.startswith("[") and word.endswith("]"):
        return word
    return word[1:] if word.startswith("\u2581") else f"##{word}"


MODELS = {"llama": _pieces, "gpt2": _byte_level, "gemma4": _space_level, "bert": _word_pieces}
