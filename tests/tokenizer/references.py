"""The tokenizers of models as their own tokenizer.json files describe them, made of GGUF vocabularies.

Made with the library alone: nothing of edgeq's is in them but which tokens are kept out of plain text, which
swallow whitespace, and a list of letters. Patterns and steps are spelled here once more, as those files have
them, DeepSeek LLM's and MiniCPM 5's as llama.cpp does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgeq.tokenizer import Tokenizer
from edgeq.tokenizer.patterns import DEEPSEEK_LETTERS

CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type
MARK = "\u2581"

SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
LLAMA3 = WORDS + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = WORDS + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    + SPACES
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
)
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|" + SPACES,
)
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{DEEPSEEK_LETTERS}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    DEEPSEEK_CODER[-1],
    r"\p{N}+",
)


def cut(*patterns: str) -> list[dict[str, Any]]:
    """Splits at these, and bytes."""
    found = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return [
        *found,
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ]


GPT2_STEP = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
EACH_DIGIT = {"type": "Digits", "individual_digits": True}
FALCON: list[dict[str, Any]] = [
    {"type": "Punctuation", "behavior": "Contiguous"},
    GPT2_STEP,
    {"type": "Digits", "individual_digits": False},
    {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": False},
]

# tokenizer.ggml.pre: normalizer, steps of the pre-tokenizer, ignore_merges
Steps = tuple[str | None, list[dict[str, Any]], bool]
STEPS: dict[str, Steps] = {
    "gpt-2": (None, [GPT2_STEP], False),
    "olmo": ("NFC", [GPT2_STEP], False),
    "llama-bpe": (None, cut(LLAMA3), True),
    "dbrx": (None, cut(LLAMA3), False),
    "qwen2": ("NFC", cut(QWEN2), False),
    "stablelm2": ("NFC", cut(QWEN2), False),
    "megrez": (None, cut(QWEN2), False),
    "qwen35": (None, cut(QWEN35), False),
    "smollm": (None, [EACH_DIGIT, GPT2_STEP], False),
    "command-r": ("NFC", [EACH_DIGIT, GPT2_STEP], False),
    "tekken": (None, cut(TEKKEN), True),
    "gpt-4o": (None, cut(GPT4O), False),
    "deepseek-v3": (None, cut(*DEEPSEEK3), False),
    "deepseek-coder": (None, [*cut(*DEEPSEEK_CODER)[:-1], EACH_DIGIT, cut()[0]], False),
    "deepseek-llm": (None, cut(*DEEPSEEK_LLM), False),
    "minicpm5": (None, cut(r"\p{N}{1,3}", WORDS + r"\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES), True),
    "falcon": (None, FALCON, False),
}
# names whose models have the same
ALIKE = {
    "gpt-2": ("phi-2", "exaone4", "jais", "mellum"),
    "olmo": ("mpt", "modern-bert"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "pixtral", "midm-2.0", "glm4"),
    "dbrx": ("smaug-bpe", "chatglm-bpe"),
    "smollm": ("starcoder", "refact", "codeshell", "exaone", "minerva-7b"),
    "gpt-4o": ("llama4", "kanana2", "minimax-m2"),
    "deepseek-v3": ("hunyuan-dense", "joyai-llm"),
}
STEPS |= {name: STEPS[known] for known, names in ALIKE.items() for name in names}


def reference(metadata: Mapping[str, Any], ours: Tokenizer) -> Any:
    """The library's object for a GGUF vocabulary, `ours` being what edgeq made of it."""
    from tokenizers import AddedToken

    words = list(metadata["tokenizer.ggml.tokens"])
    made = MADE[metadata["tokenizer.ggml.model"]](metadata, words)
    types = metadata["tokenizer.ggml.token_type"]
    for id, word in enumerate(words):
        special = id in ours.reserved_ids
        if special or types[id] == USER_DEFINED and word:
            strip = dict(lstrip=id in ours.spec.lstrip, rstrip=id in ours.spec.rstrip)
            token = AddedToken(word, normalized=False, special=special, **strip)
            made.add_special_tokens([token]) if special else made.add_tokens([token])
    return made


def ids(library: Any, text: str, *, special: bool) -> list[int]:
    """Of a text; special: spelled control tokens are such."""
    library.encode_special_tokens = not special
    found: list[int] = library.encode(text, add_special_tokens=False).ids
    return found


def _numbers(words: Iterable[str]) -> dict[str, int]:
    return {word: id for id, word in reversed(list(enumerate(words)))}


def _loaded(model: dict[str, Any], normalizer: Any, steps: list[dict[str, Any]]) -> Any:
    import json

    from tokenizers import Tokenizer as Library

    before = {"type": "Sequence", "pretokenizers": steps} if steps else None
    none = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    data = {"version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": before} | none
    return Library.from_str(json.dumps(data | {"model": model}))


def _pairs(metadata: Mapping[str, Any]) -> list[list[str]]:
    return [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]]


def _bytes(metadata: Mapping[str, Any], words: list[str]) -> Any:
    normalizer, steps, whole = STEPS[metadata["tokenizer.ggml.pre"]]
    model = {"type": "BPE", "vocab": _numbers(words), "merges": _pairs(metadata), "ignore_merges": whole}
    return _loaded(model, normalizer and {"type": normalizer}, steps)


def _spaces(metadata: Mapping[str, Any], words: list[str]) -> Any:
    """Gemma: no pre-tokenizer. Its file has a split at spaces, of which its normalizer leaves none."""
    unknown = words[metadata["tokenizer.ggml.unknown_token_id"]]
    model = {"type": "BPE", "vocab": _numbers(words), "merges": _pairs(metadata), "byte_fallback": True,
             "fuse_unk": True, "unk_token": unknown}  # fmt: skip
    return _loaded(model, {"type": "Replace", "pattern": {"String": " "}, "content": MARK}, [])


def _pieces(metadata: Mapping[str, Any], words: list[str]) -> Any:
    """As transformers makes merges of sentencepiece's BPE: each pair of pieces that makes one, the best score
    first."""
    scores, types = metadata["tokenizer.ggml.scores"], metadata["tokenizer.ggml.token_type"]
    known = {word: id for word, id in _numbers(words).items() if types[id] not in (CONTROL, USER_DEFINED)}
    merges = [
        (-scores[id], known[word[:at]], known[word[at:]], word[:at], word[at:])
        for word, id in known.items()
        for at in range(1, len(word))
        if word[:at] in known and word[at:] in known
    ]
    model = {"type": "BPE", "vocab": _numbers(words), "merges": [pair[3:] for pair in sorted(merges)],
             "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}  # fmt: skip
    steps: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": MARK}]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, {"type": "Prepend", "prepend": MARK})
    return _loaded(model, {"type": "Sequence", "normalizers": steps}, [])


def _word_pieces(metadata: Mapping[str, Any], words: list[str]) -> Any:
    """BERT's own spelling is that of its files: ## before what goes on with a word."""
    for id, word in enumerate(words):
        if word[:1] != "[" or word[-1:] != "]":
            words[id] = word[1:] if word[:1] == MARK else f"##{word}"
    model = {"type": "WordPiece", "vocab": _numbers(words), "unk_token": "[UNK]",
             "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}  # fmt: skip
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                  "strip_accents": None, "lowercase": True}  # fmt: skip
    return _loaded(model, normalizer, [{"type": "BertPreTokenizer"}])


MADE = {"gpt2": _bytes, "gemma4": _spaces, "llama": _pieces, "bert": _word_pieces}
