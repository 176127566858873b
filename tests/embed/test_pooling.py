"""What files say of vectors and scores: read, kept in the header, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edgeq import engine, formats, models
from edgeq.converters import convert
from edgeq.converters import pooling as reading
from edgeq.converters.pipeline import open_source
from edgeq.embed import Pooling
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from tests.converters.checkpoints import gguf_name
from tests.golden import reference

from .conftest import GOLDEN, TEXTS, Loaded, expected


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """checkpoint(name, {file: its JSON or None}) is a golden's with other files."""

    def made(name: str, files: dict[str, Any]) -> Path:
        path = tmp_path / name
        shutil.copytree(GOLDEN / name, path)
        for file, value in files.items():
            (path / file).unlink(missing_ok=True)
            if value is not None:
                (path / file).parent.mkdir(exist_ok=True)
                (path / file).write_text(json.dumps(value))
        return path

    return made


def module(kind: str, path: str = "") -> dict[str, Any]:
    return {"idx": 0, "name": "0", "path": path, "type": f"sentence_transformers.models.{kind}"}


TRANSFORMER, MEAN = module("Transformer"), module("Pooling", "1_Pooling")


def test_what_a_directory_says(checkpoint: Callable[..., Path]) -> None:
    found = open_source(GOLDEN / "embedding").pooling
    assert found is not None and found.classifier is None
    assert (found.pooling.kind, found.pooling.normalize, found.pooling.tokens) == ("last", True, 128)
    assert set(found.pooling.prompts) == {"query", "document"} and found.pooling.prompt is None
    old = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    files = {
        "modules.json": [TRANSFORMER, MEAN],
        "1_Pooling/config.json": old,
        "config_sentence_transformers.json": {"prompts": {"q": "Q: "}, "default_prompt_name": "q"},
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
    }
    found = open_source(checkpoint("embedding", files)).pooling
    assert found is not None
    assert found.pooling == Pooling("mean", normalize=False, tokens=32, prompts={"q": "Q: "}, prompt="q")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"modules.json": [TRANSFORMER, MEAN, module("Dense", "2_Dense")]}, "asks for Dense"),
        ({"modules.json": {"0": MEAN}}, "a list is needed"),
        ({"modules.json": ["Pooling"]}, "an object with type and path"),
        ({"modules.json": [TRANSFORMER, module("Pooling", "9_Pooling")]}, "9_Pooling/config.json is missing"),
        ({"modules.json": [TRANSFORMER, module("Pooling", "../x")]}, "refused"),
        ({"1_Pooling/config.json": {"pooling_mode": "max"}}, "the pooling is max"),
        ({"1_Pooling/config.json": {"pooling_mode": ["cls", "mean"]}}, "the pooling is cls, mean"),
        ({"1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False}}, "include_prompt"),
        ({"sentence_bert_config.json": {"do_lower_case": True}}, "do_lower_case is true"),
        ({"sentence_bert_config.json": {"max_seq_length": "a"}}, "pooling.tokens is 'a'"),
        ({"config_sentence_transformers.json": {"prompts": {"q": 1}}}, "pooling.prompts"),
        ({"config_sentence_transformers.json": {"default_prompt_name": "q"}}, "pooling.prompt is 'q'"),
        ({"modules.json": [TRANSFORMER, module("LogitScore", "1_Logit")]}, "only Qwen3-Reranker is known"),
    ],
)
def test_what_of_a_directory_is_refused(
    checkpoint: Callable[..., Path], files: dict[str, Any], words: str
) -> None:
    with pytest.raises(EdgeqError, match=words):
        open_source(checkpoint("embedding", files))


def test_a_ranker_by_its_modules(checkpoint: Callable[..., Path], loaded: Loaded) -> None:
    files = {
        "modules.json": [TRANSFORMER, module("LogitScore", "1_LogitScore")],
        "1_LogitScore/config.json": {"true_token_id": 258, "false_token_id": 259},
    }
    found = open_source(checkpoint("reranker", files)).pooling
    usual = open_source(GOLDEN / "reranker").pooling
    assert found is not None and usual is not None and found.pooling == usual.pooling
    assert found.classifier is not None and usual.classifier is not None
    tokenizer = loaded("reranker").tokenizer
    assert (tokenizer.id("yes"), tokenizer.id("no")) != (258, 259)
    head = reference.load(GOLDEN / "reranker")("model.embed_tokens.weight")
    assert (found.classifier() == head[258:260]).all()
    assert (usual.classifier() == head[[tokenizer.id("yes"), tokenizer.id("no")]]).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "max"}, {"kind": ["last"]}, {"kind": None}, {"normalize": 1}, {"tokens": 0},
        {"tokens": True}, {"prompts": [["a", "b"]]}, {"prompts": {"a": "b" * (1 << 17)}}, {"prompt": ["a"]},
        {"kind": "rank", "template": "{query}"}, {"instruction": None},
    ],
)  # fmt: skip
def test_a_header_that_is_wrong(changed: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"the header's pooling\."):
        Pooling.from_header({"kind": "last", **changed})


def test_a_header_and_back(converted: Callable[[str], Path]) -> None:
    for name in ("embedding", "reranker"):
        with formats.open_model(converted(name)) as file:
            models.check(file)
            header = file.header["pooling"]
            pooling = Pooling.from_header(header)
            assert Pooling.from_header({**pooling.to_header(), "more": 1}) == pooling
    with pytest.raises(FormatError, match="pooling is a list"):
        Pooling.from_header([])


def test_a_file_whose_classifier_is_not_there(tmp_path: Path, demo_checkpoint: Path) -> None:
    convert(demo_checkpoint, tmp_path / "m.edgeq", scheme="q8", words={"pooling": {"kind": "rank"}})
    with pytest.raises(FormatError, match="no tensor 'classifier'"):
        engine.load(tmp_path / "m.edgeq")


# ---- GGUF ----
def write(path: Path, name: str, pooling_type: int, *, output: bool = False, end: bool = False) -> Path:
    """A golden's checkpoint as a GGUF file in float32."""
    checkpoint = reference.load(GOLDEN / name)
    c, spoken = checkpoint.config, json.loads((GOLDEN / name / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_key_length(c["head_dim"])
    writer.add_value_length(c["head_dim"])
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_uint32("qwen3.pooling_type", pooling_type)
    words = {**spoken["model"]["vocab"], **{item["content"]: item["id"] for item in spoken["added_tokens"]}}
    kinds = {item["id"]: 3 if item["special"] else 4 for item in spoken["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(sorted(words, key=lambda word: words[word]))
    writer.add_token_types([kinds.get(id, 1) for id in range(len(words))])
    writer.add_token_merges([" ".join(pair) for pair in spoken["model"]["merges"]])
    writer.add_eos_token_id(words["<|endoftext|>"])
    writer.add_add_bos_token(False)
    if end:
        writer.add_add_eos_token(True)
    for tensor, values in checkpoint.weights.items():
        stem = tensor if tensor.startswith("model.") else f"model.{tensor}"
        writer.add_tensor(gguf_name(stem), values)
    if output:
        head = checkpoint("model.embed_tokens.weight")
        writer.add_tensor("cls.output.weight", head[[words["yes"], words["no"]]])
        writer.add_classifier_output_labels(["yes", "no"])
        template = reading.TEMPLATE.replace("{instruction}", reading.INSTRUCTION)
        writer.add_string("tokenizer.chat_template.rerank", template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_vectors_of_a_gguf_file(tmp_path: Path) -> None:
    convert(write(tmp_path / "m.gguf", "embedding", 3, end=True), tmp_path / "m.edgeq", scheme="f32")
    with engine.load(tmp_path / "m.edgeq", kv="f32", act="f32", threads=2) as model:
        assert model.pooling == Pooling("last")
        ours = model.embed([TEXTS[0], TEXTS[2]])
    assert np.abs(ours - expected("embedding")["vectors"][[0, 2]]).max() < 1e-5


def test_scores_of_a_gguf_file(tmp_path: Path) -> None:
    convert(write(tmp_path / "m.gguf", "reranker", 4, output=True), tmp_path / "m.edgeq", scheme="f32")
    with engine.load(tmp_path / "m.edgeq", kv="f32", act="f32", threads=2) as model:
        ours = model.rerank(TEXTS[0], TEXTS[1:5])
        other = model.rerank(TEXTS[0], TEXTS[1:5], instruction="Find the same question")
    assert np.abs(ours - expected("reranker")["scores"]).max() < 1e-5
    assert np.abs(other - expected("reranker")["other"]).max() < 1e-5


def test_what_of_a_gguf_file_is_refused(tmp_path: Path) -> None:
    for pooling_type, output, words in (
        (7, False, r"qwen3.pooling_type is 7, but only 0 \(none\), 1 \(mean\)"),
        (4, False, "cls.output.weight' is missing"),
        (3, True, "does not rank"),
    ):
        path = write(tmp_path / "m.gguf", "reranker", pooling_type, output=output)
        with pytest.raises(EdgeqError, match=words):
            open_source(path)
    path = write(tmp_path / "m.gguf", "embedding", 0, end=True)
    with pytest.raises(UnsupportedError, match="add_eos_token is true"):
        open_source(path).tokenizer()


NAMES = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
}  # fmt: skip


def bert_name(name: str) -> str:
    """The GGUF name of a tensor of BERT's."""
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("encoder.layer."):
        return f"{NAMES[stem]}.{kind}"
    _, _, block, stem = stem.split(".", 3)
    return f"blk.{block}.{NAMES[stem]}.{kind}"


@pytest.mark.parametrize("joined", [False, True])
def test_vectors_of_an_encoders_gguf_file(tmp_path: Path, joined: bool) -> None:
    """Words are spelled the other way round there: U+2581 before what begins one."""
    checkpoint = reference.load(GOLDEN / "encoder")
    c, spoken = checkpoint.config, json.loads((GOLDEN / "encoder" / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "bert")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_layer_norm_eps(c["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    words = list(spoken["model"]["vocab"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    spelled = [w if w.startswith("[") else w[2:] if w.startswith("##") else f"\u2581{w}" for w in words]
    writer.add_token_list(spelled)
    writer.add_token_types([3 if word.startswith("[") else 1 for word in words])
    writer.add_token_type_count(2)
    for name, word in (("unk", "[UNK]"), ("sep", "[SEP]"), ("pad", "[PAD]"), ("bos", "[CLS]")):
        getattr(writer, f"add_{name}_token_id")(words.index(word))
    tensors = {bert_name(name): values for name, values in checkpoint.weights.items() if "pooler" not in name}
    if joined:
        for i in range(c["num_hidden_layers"]):
            for kind in ("weight", "bias"):
                parts = [tensors.pop(f"blk.{i}.attn_{letter}.{kind}") for letter in "qkv"]
                tensors[f"blk.{i}.attn_qkv.{kind}"] = np.concatenate(parts)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(tmp_path / "m.gguf", tmp_path / "m.edgeq", scheme="f32")
    with engine.load(tmp_path / "m.edgeq", kv="f32", act="f32", threads=2) as model:
        assert model.pooling == Pooling("mean")
        ours = model.embed(TEXTS, truncate=True)
    assert np.abs(ours - expected("encoder")["vectors"]).max() < 1e-5
