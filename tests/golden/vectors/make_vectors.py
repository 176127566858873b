"""Make the tiny checkpoints here that give vectors and scores, and what sentence-transformers and
transformers give for some texts.

usage: python -m tests.golden.vectors.make_vectors [NAME ...]
from the top; needs torch, transformers and sentence-transformers

Weights are random and seeded as in `tests.golden.make`; the tokenizers spell bytes and have few words.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from tests.golden.make import randomize, rope

HERE = Path(__file__).parent
TEXTS = [
    "What is the capital of China?",
    "Explain gravity",
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. " * 3,  # longer than some read
    "x",
]
QUERY = TEXTS[0]
QUERY_PROMPT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = [("y", "e"), ("ye", "s"), ("n", "o"), ("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "s")]


def byte_words() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {byte: chr(byte) for byte in printable} | {b: chr(0x100 + i) for i, b in enumerate(others)}
    return [spelled[byte] for byte in range(256)]


def bytes_tokenizer(directory: Path, *, end: bool) -> int:
    """A tokenizer like Qwen's, with <|endoftext|> behind each text or without; how many tokens it has."""
    words = byte_words() + [left + right for left, right in MERGES]
    added = [*SPECIAL, "<think>", "</think>"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    last = {"SpecialToken": {"id": SPECIAL[0], "type_id": 0}}
    ends = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, last],
        "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
        "special_tokens": {SPECIAL[0]: {"id": SPECIAL[0], "ids": [len(words)], "tokens": [SPECIAL[0]]}},
    }
    data = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": len(words) + i, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": word in SPECIAL}
            for i, word in enumerate(added)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, level]},
        "post_processor": {"type": "Sequence", "processors": [level, ends]} if end else level,
        "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": False, "vocab": {word: i for i, word in enumerate(words)},
                  "merges": [list(pair) for pair in MERGES]},
    }  # fmt: skip
    save(directory / "tokenizer.json", data)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": SPECIAL[0],
                "eos_token": SPECIAL[0], "bos_token": None, "model_max_length": 128}  # fmt: skip
    save(directory / "tokenizer_config.json", settings)
    return len(words) + len(added)


def save(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n")


def qwen3(vocab_size: int) -> Any:
    return transformers.Qwen3Config(
        vocab_size=vocab_size, hidden_size=64, intermediate_size=80, head_dim=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=263, rope_parameters=rope(1e6),
    )  # fmt: skip


def embedding(directory: Path) -> dict[str, np.ndarray]:
    """Like Qwen3-Embedding: the last token, a prompt for queries, no head."""
    config = qwen3(bytes_tokenizer(directory, end=True))
    return sentences(directory, transformers.AutoModel.from_config(config), "lasttoken",
                     {"query": QUERY_PROMPT, "document": ""})  # fmt: skip


def sentences(directory: Path, model: Any, mode: str, prompts: dict[str, str]) -> dict[str, np.ndarray]:
    """A checkpoint with the files of sentence-transformers, and the vectors that come of it."""
    randomize(model, 7)
    model.to(torch.bfloat16).save_pretrained(directory)
    kept = {path.name: path.read_text() for path in directory.glob("tokenizer*")}
    whole = SentenceTransformer(
        modules=[Transformer(str(directory)), Pooling(model.config.hidden_size, mode), Normalize()],
        prompts=prompts,
        device="cpu",
    )
    whole.save(str(directory))
    for name, text in kept.items():  # as it was: saving adds what one run of it set
        (directory / name).write_text(text)
    for name in ("README.md", "generation_config.json", "special_tokens_map.json", "vocab.txt"):
        (directory / name).unlink(missing_ok=True)
    for path in directory.glob("2_*"):
        shutil.rmtree(path)
    read = SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": torch.float32})
    with torch.inference_mode():
        found = {"vectors": read.encode(TEXTS), "long": read.encode([TEXTS[3] * 3])}
        if prompts:
            found["query"] = read.encode([QUERY], prompt_name="query")
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def reranker(directory: Path) -> dict[str, np.ndarray]:
    """Like Qwen3-Reranker: the official way to ask it, which its README has."""
    config = qwen3(bytes_tokenizer(directory, end=False))
    config.max_position_embeddings = 640
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomize(model, 11)
    model.to(torch.bfloat16).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Qwen3-Reranker-tiny\n")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
        'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    task = "Given a web search query, retrieve relevant passages that answer the query"

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return found

    def score(instruction: str, document: str) -> float:
        pair = f"<Instruct>: {instruction}\n<Query>: {QUERY}\n<Document>: {document}"
        whole = torch.tensor([ids(prefix) + ids(pair) + ids(suffix)])
        with torch.inference_mode():
            logits = model(whole).logits[0, -1]
        return float(torch.nn.functional.log_softmax(torch.stack([logits[no], logits[yes]]), 0)[1].exp())

    documents = TEXTS[1:5]
    other = [score("Find the same question", text) for text in documents]
    found = {"scores": [score(task, text) for text in documents], "other": other}
    return {name: np.array(value, np.float32) for name, value in found.items()}


def encoder(directory: Path) -> dict[str, np.ndarray]:
    """Like all-MiniLM-L6-v2: BERT, the mean of all rows, letters made small."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.,?!"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    words += ["the", "capital", "of", "china", "is", "what", "##ing", "##avi", "##ty", "gr", "to"]
    data = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, word in enumerate(words[:5])
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
            "special_tokens": {word: {"id": word, "ids": [words.index(word)], "tokens": [word]}
                               for word in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(words)}},
    }  # fmt: skip
    save(directory / "tokenizer.json", data)
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "pad", "unk", "mask")}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    save(directory / "tokenizer_config.json", settings | roles)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=48, intermediate_size=80, num_hidden_layers=3,
        num_attention_heads=3, max_position_embeddings=320, layer_norm_eps=1e-3,
    )  # fmt: skip
    return sentences(directory, transformers.AutoModel.from_config(config), "mean", {})


MODELS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "embedding": embedding,
    "encoder": encoder,
    "reranker": reranker,
}


def make(name: str) -> None:
    """Write NAME: the checkpoint and expected.npz."""
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    found = MODELS[name](directory)
    np.savez(directory / "expected.npz", **found)  # type: ignore[arg-type]
    kilobytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e3
    print(f"{name:14} {kilobytes:6.0f} kB", {key: value.shape for key, value in found.items()})


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for chosen in sys.argv[1:] or MODELS:
        make(chosen)
