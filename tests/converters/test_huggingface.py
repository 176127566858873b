"""Hugging Face directories: every tensor arrives, and what is wrong with a directory is one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgeq import models, sampling
from edgeq.converters import convert, huggingface
from edgeq.converters.source import DEAD
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.formats import open_model, verify
from edgeq.models.rope import Rope
from edgeq.sampling import check_option
from tests.converters.checkpoints import config, weights, write_directory

# .edgeq name -> Hugging Face name, written out once more so that a slip in the tables is seen
NAMES = {
    "embed": "model.embed_tokens.weight", "output": "lm_head.weight", "norm": "model.norm.weight",
    "norm1": "input_layernorm.weight", "norm2": "post_attention_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight", "v": "self_attn.v_proj.weight", "o": "self_attn.o_proj.weight",
    "gate": "mlp.gate_proj.weight", "up": "mlp.up_proj.weight", "down": "mlp.down_proj.weight",
    "q_bias": "self_attn.q_proj.bias", "k_bias": "self_attn.k_proj.bias", "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight", "k_norm": "self_attn.k_norm.weight",
}  # fmt: skip


def hf_name(name: str) -> str:
    if name.startswith("blocks."):
        _, block, part = name.split(".")
        return f"model.layers.{block}.{NAMES[part]}"
    return NAMES[name]


def arrays(path: Path) -> dict[str, Any]:
    """Every tensor of a checked file but the rotation and the tokenizer, as float32."""
    assert verify(path) == []
    with open_model(path) as file:
        models.check(file)
        skipped = ("rope.inverse_frequencies", "tokenizer")
        return {name: tensor.array() for name, tensor in file.tensors.items() if name not in skipped}


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("dtype", "shards"), [("float32", 1), ("float16", 3), ("bfloat16", 2)])
def test_every_tensor_arrives(tmp_path: Path, model_type: str, tied: bool, dtype: str, shards: int) -> None:
    words = config(model_type, tie_word_embeddings=tied, intermediate_size=100, vocab_size=51)
    tensors = weights(words)
    write_directory(tmp_path / "in", words, tensors, shards=shards, dtype=dtype)
    convert(tmp_path / "in", tmp_path / "out.edgeq", scheme="f32")
    found = arrays(tmp_path / "out.edgeq")
    assert {hf_name(name) for name in found} == set(tensors)
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    for name, value in found.items():
        np.testing.assert_array_equal(
            value, tensors[hf_name(name)].astype(kind).astype(np.float32), err_msg=name
        )


def test_header(tmp_path: Path) -> None:
    words = config(rope_scaling={"type": "linear", "factor": 2.0})
    source = write_directory(tmp_path / "tiny", words, weights(words))
    (source / "generation_config.json").write_text(
        '{"eos_token_id": [2, 7], "temperature": 0.5, "top_k": 9, "do_sample": true, "_from": "model"}'
    )
    (source / "tokenizer_config.json").write_text(
        '{"chat_template": "{{ messages }}", "add_bos_token": true}'
    )
    (source / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\nlicense: none\n")
    convert(source, tmp_path / "out.edgeq", scheme="q8")
    with open_model(tmp_path / "out.edgeq") as file:
        header = file.header
        assert header["generation"] == {
            "bos_token_id": 1, "eos_token_id": [2, 7], "temperature": 0.5, "top_k": 9, "do_sample": True,
        }  # fmt: skip
        assert header["chat_template"] == "{{ messages }}" and header["license"] == "apache-2.0"
        assert header["tokenizer"] is None and header["family"] == "llama"
        assert header["source"] == {
            "kind": "huggingface",
            "name": "tiny",
            "revision": None,
            "recipe": "q8",
        }
        np.testing.assert_array_equal(
            file.tensors["rope.inverse_frequencies"].array(), Rope.from_hf(words).inverse_frequencies(16)
        )


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        ({"temperature": True, "top_k": False, "do_sample": 1}, {}),
        ({"top_k": 50.0}, {"top_k": 50}),
        ({"top_k": 50.5, "top_p": "0.9", "min_p": None, "temperature": [1]}, {}),
        ({"top_k": -1, "top_p": 1.0, "min_p": 0, "temperature": 0}, {"top_k": -1, "top_p": 1.0, "min_p": 0,
        "temperature": 0}),
        ({"top_k": -2, "top_p": 1.5, "min_p": -0.1, "temperature": -1, "repetition_penalty": 0}, {}),
        ({"top_k": 1e300, "temperature": 1e300, "presence_penalty": 10**30}, {}),
        ({"repetition_penalty": 1.1, "frequency_penalty": -2.0}, {"repetition_penalty": 1.1,
        "frequency_penalty": -2.0}),
    ],
)  # fmt: skip
def test_sampling_defaults_that_the_sampler_takes(
    tmp_path: Path, words: dict[str, Any], stored: dict[str, Any]
) -> None:
    source = write_directory(tmp_path / "in", config(), weights(config()))
    (source / "generation_config.json").write_text(json.dumps(words))
    found = huggingface.open_directory(source).generation
    found = {key: value for key, value in found.items() if not key.endswith("_token_id")}
    assert sorted(map(repr, found.items())) == sorted(map(repr, stored.items()))  # 50 is not 50.0


def test_ranges_of_sampling_defaults_are_within_the_samplers() -> None:
    names = {"repetition_penalty": "repeat_penalty"}
    for key, (whole, least, most) in huggingface.GENERATION_NUMBERS.items():
        name = names.get(key, key)
        for value in (least, most):
            check_option(name, value)
        assert sampling.RANGES[name][0] is whole and sampling.RANGES[name][2] == most


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"chat_template": ""}}, None),
        ({"tokenizer_config.json": {"chat_template": [{"name": "rag",
        "template": "r"}, {"name": "default", "template": "d"}]}}, "d"),
        ({"tokenizer_config.json": {"chat_template": "old"}, "chat_template.jinja": "new"}, "new"),
        ({"chat_template.json": {"chat_template": "json"}}, "json"),
    ],
)  # fmt: skip
def test_chat_template(tmp_path: Path, files: dict[str, Any], template: str | None) -> None:
    words = config()
    source = write_directory(tmp_path / "in", words, weights(words))
    for name, content in files.items():
        (source / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert huggingface.open_directory(source).chat_template == template


@pytest.mark.parametrize(
    "template", ["x" * (256 * 1024 + 1), 7, "\ud83d"], ids=["long", "number", "half a pair"]
)
def test_refused_chat_template(tmp_path: Path, template: Any) -> None:
    words = config()
    source = write_directory(tmp_path / "in", words, weights(words))
    (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(FormatError, match=r"chat.template|tokenizer_config.json holds half"):
        huggingface.open_directory(source)


def test_license_from_its_file(tmp_path: Path) -> None:
    words = config()
    source = write_directory(tmp_path / "in", words, weights(words))
    assert huggingface.open_directory(source).license is None
    (source / "LICENSE").write_text("\n   MIT License\n\nCopyright\n")
    assert huggingface.open_directory(source).license == "MIT License"
    (source / "README.md").write_text("---\nlicense: other\nlicense_name: 'tiny-1'\n---\n")
    assert huggingface.open_directory(source).license == "tiny-1"


EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("flag", [True, False, None, "absent"])
@pytest.mark.parametrize("holds", ["two", "equal", "embedding", "head"])
def test_what_a_checkpoint_holds_counts_before_its_flag(
    tmp_path: Path, model_type: str, flag: Any, holds: str
) -> None:
    """A head that differs is the head; a shared tensor is found under either of its names."""
    words = config(model_type, tie_word_embeddings=False)
    tensors = weights(words)
    if flag == "absent":
        del words["tie_word_embeddings"]
    else:
        words["tie_word_embeddings"] = flag
    if holds == "equal":
        tensors[HEAD] = tensors[EMBED].copy()
    embed, head = tensors[EMBED], tensors[HEAD]
    if holds in ("embedding", "head"):
        missing = HEAD if holds == "embedding" else EMBED
        del tensors[missing]
        head = embed = tensors[EMBED if holds == "embedding" else HEAD]
    source = write_directory(tmp_path / "in", words, tensors, shards=2)
    if flag is False and holds in ("embedding", "head"):
        with pytest.raises(FormatError, match=rf"tensor '{missing}' is missing; shape \[50, 64\] is needed"):
            convert(source, tmp_path / "out.edgeq", scheme="f32")
        return
    convert(source, tmp_path / "out.edgeq", scheme="f32")
    found = arrays(tmp_path / "out.edgeq")
    np.testing.assert_array_equal(found["embed"], embed)
    assert ("output" in found) is (holds == "two")
    np.testing.assert_array_equal(found.get("output", found["embed"]), head)
    with open_model(tmp_path / "out.edgeq") as file:
        assert file.config["tie_word_embeddings"] is (holds != "two")


def test_no_flag_is_guessed(tmp_path: Path) -> None:
    words = config(tie_word_embeddings=True)
    source = write_directory(tmp_path / "in", words | {"tie_word_embeddings": 1}, weights(words))
    with pytest.raises(UnsupportedError, match="tie_word_embeddings is 1, but true or false is needed"):
        huggingface.open_directory(source)


def broken(tmp_path: Path, change: Any, **words: Any) -> str:
    """The sentence with which a directory is refused after `change(tensors)`, without its path."""
    settled = config(**words)
    tensors = weights(settled)
    change(tensors)
    source = write_directory(tmp_path / "in", settled, tensors)
    with pytest.raises(EdgeqError) as caught:
        convert(source, tmp_path / "out.edgeq", scheme="q8")
    assert sorted(os.listdir(tmp_path)) == ["in"]
    return str(caught.value).removeprefix(f"{source}: ")


def test_missing_tensor(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    assert broken(tmp_path, lambda t: t.pop(name)) == f"tensor '{name}' is missing; shape [96, 64] is needed"


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_tensor_that_would_be_ignored(tmp_path: Path, model_type: str) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    sentence = broken(tmp_path, lambda t: t.update({name: np.zeros(64, np.float32)}), model_type=model_type)
    assert sentence == f"tensor '{name}' is not one of family {model_type}'s"


@pytest.mark.parametrize("buffer", DEAD)
def test_buffers_that_nothing_reads_are_left_out(tmp_path: Path, buffer: str) -> None:
    words = config()
    tensors = weights(words)
    dead = {
        f"model.layers.0.self_attn.{buffer}": np.full(8, np.nan, np.float32),
        f"model.{buffer}": np.ones((3, 1, 2), np.int64),
        buffer: np.ones(0, np.float32),
    }
    convert(write_directory(tmp_path / "in", words, tensors | dead), tmp_path / "out.edgeq")
    assert len(arrays(tmp_path / "out.edgeq")) == len(tensors)
    name = "x_" + buffer  # another word that only ends alike
    with pytest.raises(UnsupportedError, match=f"'{name}' is not one of family"):
        convert(write_directory(tmp_path / "in", words, tensors | {name: np.ones(8)}), tmp_path / "no.edgeq")


@pytest.mark.parametrize(
    ("config_words", "generation", "ids"),
    [
        ({"bos_token_id": -1}, {}, {"eos_token_id": [2]}),
        ({"eos_token_id": -1}, {}, {"bos_token_id": 1}),
        ({"bos_token_id": 2**32 - 1, "eos_token_id": [2**64, 3]}, {}, {"eos_token_id": [3]}),
        ({}, {"eos_token_id": [2, -1]}, {"bos_token_id": 1, "eos_token_id": [2]}),
        ({}, {"eos_token_id": [-1], "bos_token_id": None}, {}),
        ({}, {"eos_token_id": [49, 50]}, {"bos_token_id": 1, "eos_token_id": [49]}),  # of 50 tokens
    ],
)
def test_ids_that_name_no_token(
    tmp_path: Path, config_words: dict[str, Any], generation: dict[str, Any], ids: dict[str, Any]
) -> None:
    words = config() | config_words
    source = write_directory(tmp_path / "in", words, weights(words))
    (source / "generation_config.json").write_text(json.dumps(generation))
    assert huggingface.open_directory(source).generation == ids


@pytest.mark.parametrize("value", ["2", 2.5, True, [2, None], {"id": 2}, [0] * 5000])
def test_ids_that_are_no_ids(tmp_path: Path, value: Any) -> None:
    words = config(eos_token_id=value)
    with pytest.raises(FormatError, match=r"eos_token_id is .*, but token ids are needed"):
        huggingface.open_directory(write_directory(tmp_path / "in", words, weights(words)))


@pytest.mark.parametrize("rows", [512, 511])
def test_more_tokens_than_rows_are_refused_before_anything_is_written(
    tmp_path: Path, demo_checkpoint: Path, rows: int
) -> None:
    """The bundled vocabulary has 512 pieces: a file that could not be opened afterwards is not made."""
    words = config(vocab_size=rows)
    source = write_directory(tmp_path / "in", words, weights(words))
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (source / name).write_bytes((demo_checkpoint / name).read_bytes())
    if rows == 512:
        convert(source, tmp_path / "out.edgeq")
        return
    with pytest.raises(FormatError, match="the tokenizer has 512 tokens, more than the 511 rows"):
        convert(source, tmp_path / "out.edgeq")
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("shape", [(64, 96), (96, 63), (6144,), (96, 64, 1), (), (0, 64)])
def test_wrong_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    name = "model.layers.0.mlp.gate_proj.weight"
    sentence = broken(tmp_path, lambda t: t.update({name: np.zeros(shape, np.float32)}))
    assert sentence == f"tensor '{name}' has shape {list(shape)}, but the config needs [96, 64]"


def test_wrong_dtype(tmp_path: Path) -> None:
    name = "model.norm.weight"
    sentence = broken(tmp_path, lambda t: t.update({name: np.zeros(64, np.int64)}))
    assert sentence == f"tensor '{name}' is I64, but only F32, F16, BF16, F64 can be read"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.norm.weight", "model.layers.1.self_attn.o_proj.weight"]
)
def test_weight_that_is_no_number(tmp_path: Path, name: str, value: float) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name].reshape(-1)[37] = value

    sentence = broken(tmp_path, change)
    assert sentence.startswith(f"tensor '{name}': ") and "not finite" in sentence


def test_weight_too_large_for_a_scale(tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.o_proj.weight"
    sentence = broken(tmp_path, lambda t: t[name].__setitem__((3, 40), 1e30))
    assert sentence.startswith(f"tensor '{name}': row 3") and "too large" in sentence


@pytest.mark.parametrize(
    "shard",
    ["../secret.safetensors", "/etc/secret.safetensors", "sub/x.safetensors", "sub\\x.safetensors", "..",
    "", "C:x.safetensors",
     "x\0.safetensors", "x.bin", "x" * 300 + ".safetensors",
     "missing.safetensors", 7, None, ["a.safetensors"]],
)  # fmt: skip
def test_hostile_shard_names(tmp_path: Path, shard: Any) -> None:
    words = config()
    tensors = weights(words)
    outside = write_directory(tmp_path, words, tensors) / "model.safetensors"
    outside.rename(tmp_path / "secret.safetensors")
    source = write_directory(tmp_path / "in", words, tensors, shards=2)
    index = source / "model.safetensors.index.json"
    places = dict.fromkeys(tensors, shard)
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(EdgeqError) as caught:
        huggingface.open_directory(source)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value) and len(str(caught.value)) < 300


def test_descriptions_are_taken_as_they_come(tmp_path: Path) -> None:
    """Neither broken text nor a link or directory of that name keeps a model from being converted."""
    source = write_directory(tmp_path / "in", config(), weights(config()))
    (source / "LICENSE").write_bytes(b"\xef\xbb\xbf\r\nLicen\xe7a \x1b[2J\r\n" + b"\xff" * (20 << 20))
    assert huggingface.open_directory(source).license == "Licen\ufffda  [2J"
    (source / "README.md").write_bytes(b"---\r\nlicense: mit\r\n---\r\n\xe9")
    assert huggingface.open_directory(source).license == "mit"
    (source / "README.md").write_bytes(b"\xff\xfe-\0-\0-\0")
    (source / "LICENSE").unlink()
    (tmp_path / "secret").write_text("secret")
    (source / "LICENSE").symlink_to(tmp_path / "secret")
    (source / "LICENSE.txt").symlink_to("LICENSE.txt")
    (source / "LICENSE.md").mkdir()
    assert huggingface.open_directory(source).license is None
    convert(source, tmp_path / "out.edgeq")


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "in", config(), weights(config()), shards=2)
    (source / "generation_config.json").write_text('{"top_k": 7}')
    for file in source.glob("*.json"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert huggingface.open_directory(source).generation["top_k"] == 7


def test_link_to_itself(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "in", config(), weights(config()))
    (source / "generation_config.json").symlink_to("generation_config.json")
    with pytest.raises(FormatError, match="'generation_config.json' is a link that leads"):
        huggingface.open_directory(source)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "model-00001-of-00002.safetensors"])
def test_links_that_lead_outside(tmp_path: Path, name: str) -> None:
    words = config()
    source = write_directory(tmp_path / "in", words, weights(words), shards=2 if "of" in name else 1)
    (source / name).rename(tmp_path / "elsewhere")
    (source / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match=f"'{name}' is a link that leads outside 'in'"):
        huggingface.open_directory(source)


def test_links_of_a_hub_cache(tmp_path: Path) -> None:
    """snapshots/REVISION holds links to ../../blobs, which are followed."""
    words = config()
    source = write_directory(tmp_path / "models--a--b" / "snapshots" / "abc", words, weights(words))
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(source.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(f"../../blobs/{number}")
    assert huggingface.open_directory(source).family == "llama"


def test_index_and_shards_must_agree(tmp_path: Path) -> None:
    words = config()
    source = write_directory(tmp_path / "in", words, weights(words), shards=2)
    index = source / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    first = min(places.values())
    changed = places | {"model.extra.weight": first}
    index.write_text(json.dumps({"weight_map": changed}))
    with pytest.raises(FormatError, match="'model.extra.weight' is missing, but .* promises it"):
        huggingface.open_directory(source)
    del (changed := dict(places))["model.norm.weight"]
    index.write_text(json.dumps({"weight_map": changed}))
    with pytest.raises(FormatError, match=r"'model\.norm\.weight' is not in the index's weight_map"):
        huggingface.open_directory(source)


def test_directories_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"has no config\.json"):
        huggingface.open_directory(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config()))
    with pytest.raises(UnsupportedError, match="it has no weights"):
        huggingface.open_directory(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UnsupportedError, match="pickled, which are never loaded"):
        huggingface.open_directory(tmp_path)


def test_real_checkpoints(tmp_path: Path, data_dir: Path) -> None:
    """Three trained models convert in every scheme; the error of quantization is what the scheme allows."""
    limits = {"f32": 0.0, "f16": 1e-3, "bf16": 5e-3, "q8": 0.01, "q4": 0.12}
    for model in sorted((data_dir / "models").iterdir()):
        exact = None
        for scheme, limit in limits.items():
            convert(model, tmp_path / "out.edgeq", scheme=scheme, overwrite=True)
            found = arrays(tmp_path / "out.edgeq")
            exact = exact or found
            for name, value in found.items():
                distance = np.linalg.norm(value - exact[name]) / np.linalg.norm(exact[name])
                assert distance <= limit, (model.name, scheme, name, distance)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Of the config, of the weights beside it, and of tensors, each with what would be right."""
    words = config(mlp_bias=True, rope_scaling={"type": "ntk", "factor": 4.0}, vocab_size=0)
    source = write_directory(tmp_path / "in", config() | words, weights(config()))
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(UnsupportedError) as caught:
        huggingface.open_directory(source)
    assert str(caught.value).count("; ") >= 3
    for told in (
        "config: mlp_bias is True",
        "; vocab_size is 0",
        "'ntk'",
        "pickled, which are never loaded",
    ):
        assert told in str(caught.value)
    (source / "pytorch_model.bin").unlink()
    tensors = weights(config())
    for name in ("model.norm.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:7]
    del tensors["model.layers.0.input_layernorm.weight"]
    write_directory(source, config(), tensors | {"x": np.ones(1, np.float32), "y": np.ones(1, np.float32)})
    with pytest.raises(FormatError) as found:
        convert(source, tmp_path / "out.edgeq")
    assert str(found.value).startswith(f"{source}: tensor ")
    told_of = (
        "norm.weight' has shape [7]", "lm_head.weight' has shape", "input_layernorm.weight' is missing",
        "'x' (and 1 more) is not one of family",
    )  # fmt: skip
    for told in told_of:
        assert told in str(found.value)


def test_only_the_first_of_many_are_told(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "in", config(), {"x": np.ones(1, np.float32)})
    with pytest.raises(FormatError) as caught:
        huggingface.open_directory(source)
    assert str(caught.value).count("is missing") == 8 and str(caught.value).endswith("; and 14 more")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "has no config.json, for it is empty"),
        (["notes.txt"], "has no config.json; a Hugging Face checkpoint directory is needed"),
        (["b.gguf", "a.gguf"], "name one of them, such as {path}/a.gguf"),
        (["m.edgeq"], "name one of them, such as {path}/m.edgeq"),
        (["sub/config.json"], "but the directory {path}/sub in it has: name that"),
        (["snapshots/0ab/config.json"], "but the directory {path}/snapshots/0ab in it has: name that"),
        (["Q4/m.gguf"], "name one of them, such as {path}/Q4/m.gguf"),
        (["adapter_config.json", "adapter_model.safetensors"], "a LoRA adapter"),
        (["params.json", "consolidated.00.pth"], "in its maker's own form"),
        (["model.safetensors"], "put the config.json of their model beside them"),
        (["pytorch_model.bin"], "weights that are pickled, such as {path}/pytorch_model.bin"),
        (["config.json"], "it has no weights; model.safetensors or model.safetensors.index.json is needed"),
        (["config.json", "m.gguf"], "its weights are in GGUF files: name one of them, such as {path}/m.gguf"),
        (["config.json", "model-00001-of-00002.safetensors"], "in parts without their index"),
        (["config.json", "pytorch_model.bin"], "its weights are pickled"),
        (["config.json", "unet.safetensors"], "names of their own, such as {path}/unet.safetensors"),
        (["config.json", "m.edgeq"], "name one of them, such as {path}/m.edgeq"),
    ],
)
def test_what_to_name_in_place_of_a_directory(tmp_path: Path, files: list[str], sentence: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(json.dumps(config()))
    with pytest.raises(EdgeqError) as caught:
        huggingface.open_directory(tmp_path)
    assert sentence.format(path=tmp_path) in str(caught.value)
