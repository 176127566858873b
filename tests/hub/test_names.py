"""What a person may call a model on the hub."""

from __future__ import annotations

import pytest

from edgeq.hub import Name, parse

NAMES = {
    "o/n": Name("o/n"),
    "Qwen/Qwen3-0.6B": Name("Qwen/Qwen3-0.6B"),
    "o/n@v1": Name("o/n", "v1"),
    "o/n@feature/x": Name("o/n", "feature/x"),
    "o/n:Q4_K_M": Name("o/n", type="Q4_K_M"),
    "o/n:q8_0@v1": Name("o/n", "v1", "q8_0"),
    "o/n@v1:q8_0": Name("o/n", "v1", "q8_0"),
    "o/n:latest": Name("o/n"),
    "o/n/x.gguf": Name("o/n", file="x.gguf"),
    "o/n/Q8_0/x y.gguf@v2": Name("o/n", "v2", file="Q8_0/x y.gguf"),
    "o/n@v2/Q8_0/x.gguf": Name("o/n", "v2", file="Q8_0/x.gguf"),
    "o/n/x.edgeq": Name("o/n", file="x.edgeq"),
    "hf.co/o/n:Q4_0": Name("o/n", type="Q4_0"),
    "hf://o/n@refs/pr/1/f.gguf": Name("o/n", "refs/pr/1", file="f.gguf"),
    "huggingface.co/o/n": Name("o/n"),
    "https://huggingface.co/o/n/": Name("o/n"),
    "https://huggingface.co/o/n/tree/refs%2Fpr%2F3": Name("o/n", "refs/pr/3"),
    "HTTPS://HuggingFace.co/o/n/blob/main/x.gguf?download=true#L1": Name("o/n", file="x.gguf"),
    "https://hf.co/o/n/resolve/v1/a/x.gguf": Name("o/n", "v1", file="a/x.gguf"),
}
NONE = [
    "", "name", "o/n/c", "../n", "o/..", "/o", "o/", "o n/c", "o/n@", "o/n@x y", "o\\n", "models/x.gguf",
    "models/x.edgeq", "o/n\n", "é/n",
    "o/n@../../x", "o/n@/x", "o/n/../x.gguf", "o/n/a//x.gguf", "o/n/a\n.gguf",
    "hf://",
    "https://example.org/o/n", "https://huggingface.co/datasets/o/n", "o/n:Q 4", "./o/n", "C:\\o/n.gguf",
]  # fmt: skip


@pytest.mark.parametrize("text", NAMES)
def test_names(text: str) -> None:
    assert parse(text) == NAMES[text]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_name(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("name", NAMES.values())
def test_a_name_in_words_is_that_name(name: Name) -> None:
    assert parse(str(name)) == name
