"""Which files of a repository a name means."""

from __future__ import annotations

import pytest

from edgeq.errors import EdgeqError, UnsupportedError, UsageError
from edgeq.hub import Name, choice, parse
from edgeq.hub.choice import choose
from edgeq.hub.listing import Entry, Listing

COMMIT = "0" * 40


def chosen(name: str, *files: str) -> list[str]:
    entries = tuple(Entry(file, 1, "0" * 64) for file in files)
    return [entry.name for entry in choose(Listing(COMMIT, entries), parse(name) or Name("")).entries]


CHECKPOINT = ["config.json", "model.safetensors", "tokenizer.model", "README.md"]
GGUFS = ["m.Q4_0.gguf", "m-Q4_K_M.gguf", "m_IQ4_XS.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf", "imatrix.gguf"]
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
PARTS = ["b/m-BF16-00001-of-00002.gguf", "b/m-BF16-00002-of-00002.gguf"]


def test_a_checkpoint_and_nothing_beside_it() -> None:
    beside = ["pytorch_model.bin", "onnx/model.json", "consolidated.safetensors", "adapter_model.safetensors"]
    assert chosen("o/n", *CHECKPOINT, *beside, "training_args.json", "run.py") == CHECKPOINT


def test_what_a_model_that_gives_vectors_has_beside_it() -> None:
    modules = ["modules.json", "1_Pooling/config.json", "2_Dense/config.json"]
    beside = ["2_Dense/model.safetensors", "onnx/config.json", "1_Pooling/x/config.json"]
    assert chosen("o/n", *CHECKPOINT, *modules, *beside) == [*CHECKPOINT, *modules]


def test_a_list_of_very_many_parts_is_looked_through_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the parts of what is taken are spelled out."""
    spelled: list[str] = []
    whole = choice.parts_of

    def noted(file: str) -> list[str]:
        spelled.append(file)
        return whole(file)

    monkeypatch.setattr(choice, "parts_of", noted)
    parts = [f"m{model}-Q8_0-{part:05}-of-00250.gguf" for model in range(4) for part in range(1, 251)]
    assert chosen("o/n:Q4_0", *parts, "m-Q4_0.gguf") == ["m-Q4_0.gguf"] == spelled


def test_shards_where_there_is_no_whole_file() -> None:
    index = "model.safetensors.index.json"
    assert chosen("o/n", "config.json", index, *SHARDS) == ["config.json", index, *SHARDS]
    assert chosen("o/n", "config.json", *SHARDS, "model.safetensors") == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("o/n", "m-Q4_K_M.gguf"),
        ("o/n:q4_0", "m.Q4_0.gguf"),
        ("o/n:iq4_xs", "m_IQ4_XS.gguf"),
        ("o/n:Q8_0", "m-Q8_0.gguf"),
        ("o/n/mmproj-F16.gguf", "mmproj-F16.gguf"),
    ],
)
def test_one_gguf_file(name: str, file: str) -> None:
    assert chosen(name, *GGUFS) == [file]


def test_what_is_taken_where_no_type_is_named() -> None:
    """A checkpoint before GGUF files; of these the usual types in turn, then the first by name."""
    assert chosen("o/n", *CHECKPOINT, *GGUFS) == CHECKPOINT
    assert chosen("o/n:Q8_0", *CHECKPOINT, *GGUFS) == ["m-Q8_0.gguf"]
    assert chosen("o/n", "m-Q8_0.gguf", "m-Q5_K_M.gguf", "config.json") == ["m-Q5_K_M.gguf"]
    assert chosen("o/n", "m-IQ2_M.gguf", "m-BF16.gguf") == ["m-BF16.gguf"]


def test_all_parts_whichever_is_meant() -> None:
    assert chosen("o/n:bf16", *GGUFS, *PARTS) == PARTS
    assert chosen(f"o/n/{PARTS[1]}", *PARTS) == PARTS
    with pytest.raises(UsageError, match="has no file 'b/m-BF16-00002-of-00002.gguf' at main"):
        chosen("o/n:bf16", *GGUFS, PARTS[0])


def test_a_variant_only_where_there_is_nothing_else() -> None:
    assert chosen("o/n:Q4_K_M", "m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf") == ["m-Q4_K_M.gguf"]
    assert chosen("o/n:UD-Q4_K_M", "m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf") == ["m-UD-Q4_K_M.gguf"]
    assert chosen("o/n:Q4_K_XL", "m-UD-Q4_K_XL.gguf", "m-Q4_K_M.gguf") == ["m-UD-Q4_K_XL.gguf"]


@pytest.mark.parametrize(
    ("name", "files", "kind", "words"),
    [
        (
            "o/n:Q3_K",
            GGUFS,
            UsageError,
            "no file of type Q3_K; it has m-Q4_K_M.gguf, m-Q8_0.gguf, m.Q4_0.gguf",
        ),
        ("o/n:Q4_K", GGUFS, UsageError, "no file of type Q4_K;"),
        ("o/n:Q4_0", CHECKPOINT, UnsupportedError, "no GGUF file, and so none of type Q4_0"),
        ("o/n", ["config.json", "pytorch_model.bin"], UnsupportedError, r"\(pytorch_model.bin is a pickle"),
        (
            "o/n",
            [],
            UnsupportedError,
            "neither weights in safetensors nor a GGUF file, which are what edgeq reads",
        ),
        (
            "o/n:Q8_0",
            ["a-Q8_0.gguf", "b-Q8_0.gguf"],
            UsageError,
            "several.*a-Q8_0.gguf, b-Q8_0.gguf; name one",
        ),
        ("o/n/x.gguf", GGUFS, UsageError, "has no file 'x.gguf' at main; it has m-Q4_K_M"),
    ],
)
def test_what_is_not_there(name: str, files: list[str], kind: type[EdgeqError], words: str) -> None:
    with pytest.raises(kind, match=words):
        chosen(name, *files)
