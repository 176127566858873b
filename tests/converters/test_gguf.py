"""GGUF files: codes arrive as they are, rows in the checkpoint's order, no key that matters is ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf as writer
import numpy as np
import pytest

from edgeq import models
from edgeq.converters import convert, gguf
from edgeq.converters.gguf_words import NEEDED
from edgeq.converters.source import SourceTensor
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.formats import dequantize, open_model, quantize, verify
from edgeq.formats.ggml import TYPES
from edgeq.models.rope import Rope
from tests.converters.checkpoints import config, gguf_name, interleave, weights, write_gguf
from tests.converters.test_huggingface import hf_name
from tests.formats.ggml_samples import blocks, reference

KINDS = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8", "Q4_0": "q4"}


def stored(value: Any, kind: str) -> Any:
    """What a tensor is worth after GGUF's own rounding."""
    type_ = writer.GGMLQuantizationType[kind if value.ndim == 2 else "F32"]
    return writer.quants.dequantize(writer.quants.quantize(value, type_), type_)


def arrays(path: Path) -> dict[str, Any]:
    assert verify(path) == []
    with open_model(path) as file:
        models.check(file)
        skipped = ("rope.inverse_frequencies", "tokenizer")
        return {name: tensor.array() for name, tensor in file.tensors.items() if name not in skipped}


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_scheme_of_the_same_name(tmp_path: Path, model_type: str, tied: bool, kind: str) -> None:
    """In the scheme of the same name every value is bit for bit what GGUF's own decoder gives."""
    words = config(
        model_type, tie_word_embeddings=tied, sliding_window=32 if model_type == "mistral" else None
    )
    tensors = weights(words)
    metadata: dict[str, Any] = {"attention__sliding_window": 32} if model_type == "mistral" else {}
    path = write_gguf(tmp_path / "in.gguf", words, tensors, kind=kind, **metadata)
    scheme = KINDS[kind]
    convert(path, tmp_path / "out.edgeq", scheme=scheme, embed_scheme=scheme, output_scheme=scheme)
    found = arrays(tmp_path / "out.edgeq")
    assert {hf_name(name) for name in found} == set(tensors)
    for name, value in found.items():
        np.testing.assert_array_equal(value, stored(tensors[hf_name(name)], kind), err_msg=name)
    with open_model(tmp_path / "out.edgeq") as file:
        assert file.config["sliding_window"] == words.get("sliding_window")
        assert file.config["tie_word_embeddings"] is tied
        assert file.header["source"]["name"] == "in.gguf"


def test_codes_are_moved_not_rounded_again(tmp_path: Path) -> None:
    """Blocks that our own rounding would never make (its largest code is always used) stay as they are."""
    words = config(tie_word_embeddings=True)
    tensors = weights(words)
    path = write_gguf(tmp_path / "in.gguf", words, tensors, kind="Q8_0")
    raw = bytearray(path.read_bytes())
    down = next(t for t in writer.GGUFReader(path).tensors if t.name == "blk.0.ffn_down.weight")
    block = np.frombuffer(raw, np.uint8, down.n_bytes, down.data_offset).reshape(64, -1, 34)
    block[:, :, 2:] = np.arange(32) - 16 & 255  # codes from -16 to 15
    path.write_bytes(raw)
    convert(path, tmp_path / "out.edgeq", scheme="q8")
    with open_model(tmp_path / "out.edgeq") as file:
        value = file.tensors["blocks.0.down"].array().reshape(64, -1, 32)
        scales = np.ascontiguousarray(block[:, :, :2]).view("<f2")[:, :, 0].astype(np.float32)
        np.testing.assert_array_equal(value, (np.arange(32) - 16) * scales[:, :, None])


def test_four_bit_codes_fit_into_eight_bits(tmp_path: Path) -> None:
    """A Q4_0 embedding goes into the default q8 with its own scales, without loss."""
    words = config()
    tensors = weights(words)
    convert(write_gguf(tmp_path / "in.gguf", words, tensors, kind="Q4_0"), tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        assert (file.tensors["embed"].scheme.name, file.tensors["blocks.0.q"].scheme.name) == ("q8", "q4")
    found = arrays(tmp_path / "out.edgeq")
    for name in ("embed", "output", "blocks.1.k"):
        np.testing.assert_array_equal(found[name], stored(tensors[hf_name(name)], "Q4_0"), err_msg=name)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_other_kinds_are_quantized(tmp_path: Path, kind: str) -> None:
    words = config()
    tensors = weights(words)
    convert(write_gguf(tmp_path / "in.gguf", words, tensors, kind=kind), tmp_path / "out.edgeq", scheme="q4")
    with open_model(tmp_path / "out.edgeq") as file:
        for name in ("blocks.0.q", "blocks.1.k", "blocks.1.down", "embed"):
            tensor = file.tensors[name]
            value = stored(tensors[hf_name(name)], kind)
            assert tensor.scheme.name == ("q8" if name == "embed" else "q4")
            expected = dequantize(quantize(value, tensor.scheme), tensor.scheme)
            np.testing.assert_array_equal(tensor.array(), expected, err_msg=name)


def random_blocks(kind: str, rows: int, columns: int) -> Any:
    """uint8 [rows, bytes]: random blocks of a type, each scale a small number."""
    row = TYPES[kind]
    return blocks(row, rows * columns // row.columns, scale=1 / 64).reshape(rows, -1)


EVERY = [row.name for row in TYPES.values() if row.scheme_name]


def test_every_type_is_kept(tmp_path: Path) -> None:
    """A file that mixes all of them: each matrix has the scheme of its type, and every value is gguf-py's."""
    words = config(hidden_size=256, intermediate_size=256, head_dim=64, num_hidden_layers=4)
    tensors = weights(words)
    matrices = [name for name, value in tensors.items() if value.ndim == 2]
    kinds = [kind for kind in EVERY if kind in writer.GGMLQuantizationType.__members__]  # that gguf-py writes
    assert len(matrices) >= len(kinds) > 20
    mixed = {}
    for number, name in enumerate(matrices):
        kind, (rows, columns) = kinds[number % len(kinds)], tensors.pop(name).shape
        mixed[gguf_name(name)] = (kind, random_matrix(kind, rows, columns))
    path = write_gguf(tmp_path / "in.gguf", words, tensors, blocks=mixed)
    convert(path, tmp_path / "out.edgeq", scheme="keep")
    found = arrays(tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        for name, tensor in file.tensors.items():
            if name in found and found[name].ndim == 2:
                kind, raw = mixed[gguf_name(hf_name(name))]
                assert tensor.scheme.name == TYPES[kind].scheme_name
                expected = reference(TYPES[kind], raw)
                if name.endswith((".q", ".k")):
                    heads = words["num_attention_heads" if name.endswith(".q") else "num_key_value_heads"]
                    expected = interleave(expected, heads, back=True)
                np.testing.assert_array_equal(found[name], expected, err_msg=f"{name} {kind}")


def random_matrix(kind: str, rows: int, columns: int) -> Any:
    """As `random_blocks`, of plain numbers too: as they are stored, [rows, bytes]."""
    if TYPES[kind].columns > 1:
        return random_blocks(kind, rows, columns)
    values = np.random.default_rng(8).standard_normal((rows, columns)).astype(np.float32)
    if kind == "F64":
        return values.astype(np.float64)
    type_ = writer.GGMLQuantizationType[kind]
    return writer.quants.quantize(values, type_)


@pytest.mark.parametrize("kind", EVERY)
def test_some_rows_of_every_type(kind: str) -> None:
    raw = random_matrix(kind, 5, 768)
    expected = reference(TYPES[kind], raw)
    tensor = SourceTensor("x", kind, (5, 768), raw.reshape(-1).view(np.uint8))
    np.testing.assert_array_equal(tensor.floats(), expected)
    np.testing.assert_array_equal(tensor.floats(slice(1, 3)), expected[1:3])
    assert tensor.floats().dtype == np.float32


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scheme", ["q4", "keep"])
def test_a_q4_0_file_as_everybody_makes_it(tmp_path: Path, tied: bool, scheme: str) -> None:
    """The usual tool stores the head, or a tied embedding, as Q6_K, and with an importance matrix the first
    down projections as Q4_1."""
    words = config(hidden_size=256, intermediate_size=256, tie_word_embeddings=tied)
    tensors = weights(words)
    mixed = {
        "token_embd.weight" if tied else "output.weight": ("Q6_K", random_blocks("Q6_K", 50, 256)),
        "blk.0.ffn_down.weight": ("Q4_1", random_blocks("Q4_1", 256, 256)),
    }
    kept = {name: value for name, value in tensors.items() if gguf_name(name) not in mixed}
    path = write_gguf(tmp_path / "in.gguf", words, kept, kind="Q4_0", blocks=mixed)
    convert(path, tmp_path / "out.edgeq", scheme=scheme)
    found = arrays(tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        schemes = {name: tensor.scheme.name for name, tensor in file.tensors.items()}
    high, down = ("k6", "q4m") if scheme == "keep" else ("q8", "q4")
    assert ("output" in found) is not tied
    assert schemes["embed" if tied else "output"] == high and schemes["blocks.0.down"] == down
    assert schemes["blocks.1.down"] == "q4"
    for name, value in found.items():
        theirs = gguf_name(hf_name(name))
        kind, raw = mixed.get(theirs, ("", None))
        if raw is None:
            np.testing.assert_array_equal(value, stored(tensors[hf_name(name)], "Q4_0"), err_msg=name)
        else:
            exact = writer.quants.dequantize(raw, writer.GGMLQuantizationType[kind])
            error = np.linalg.norm(value - exact) / np.linalg.norm(exact)
            assert error <= {"k6": 0, "q4m": 0, "q8": 0.01, "q4": 0.12}[schemes[name]]


def test_a_vector_is_never_in_blocks(tmp_path: Path) -> None:
    words = config(hidden_size=256)
    tensors = weights(words)
    del tensors["model.norm.weight"]
    norm = {"output_norm.weight": ("Q6_K", random_blocks("Q6_K", 1, 256).reshape(-1))}
    path = write_gguf(tmp_path / "in.gguf", words, tensors, blocks=norm)
    with pytest.raises(
        UnsupportedError, match="'output_norm.weight' is Q6_K, but only F32, F16, BF16, F64 can"
    ):
        gguf.open_file(path)


@pytest.mark.parametrize("holds", ["two", "equal", "embedding", "head"])
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_head_is_what_the_file_holds(tmp_path: Path, holds: str, kind: str) -> None:
    words = config()
    tensors = weights(words)
    embed, head = "model.embed_tokens.weight", "lm_head.weight"
    if holds == "equal":
        tensors[head] = tensors[embed]
    expected = tensors[embed if holds != "head" else head], tensors[head if holds != "embedding" else embed]
    kept = {
        name: value
        for name, value in tensors.items()
        if {"embedding": head, "head": embed}.get(holds) != name
    }
    convert(write_gguf(tmp_path / "in.gguf", words, kept, kind=kind), tmp_path / "out.edgeq", scheme="keep")
    found = arrays(tmp_path / "out.edgeq")
    assert ("output" in found) is (holds == "two")
    for value, right in zip((found["embed"], found.get("output", found["embed"])), expected, strict=True):
        np.testing.assert_array_equal(value, stored(right, kind))


def test_heads_that_the_file_does_not_tell_are_llama_cpps(tmp_path: Path) -> None:
    """Not the reference's defaults for config.json: Qwen3's 128, 32 key heads, Mistral's window."""
    for model_type in ("llama", "qwen2", "qwen3"):
        words = config(model_type, num_key_value_heads=4)
        absent: dict[str, Any] = {"attention__key_length": None, "attention__value_length": None,
                  "attention__head_count_kv": None}  # fmt: skip
        path = write_gguf(tmp_path / "in.gguf", words, weights(words), **absent)
        found = gguf.open_file(path).config
        assert (found.head_dim, found.num_key_value_heads, found.sliding_window) == (16, 4, None)


@pytest.mark.parametrize("word", ["bos", "eos", "eot", "eom", "padding"])
@pytest.mark.parametrize("id", [0xFFFFFFFF, 50])
def test_ids_that_name_no_token(tmp_path: Path, word: str, id: int) -> None:
    words = config()
    ids = {"bos": 1, "eos": 2, "eot": 3} | {word: id}
    keys: dict[str, Any] = {f"tokenizer__ggml__{name}_token_id": value for name, value in ids.items()}
    source = gguf.open_file(write_gguf(tmp_path / "in.gguf", words, weights(words), **keys))
    last = [ids[name] for name in ("eos", "eot") if name != word]
    first = {} if word == "bos" else {"bos_token_id": 1}
    assert source.generation == first | {"eos_token_id": last}


def test_tensors_that_nothing_reads(tmp_path: Path) -> None:
    """Whatever they hold, and of whatever type."""
    words = config()
    dead = {"blk.0.attn_rot_embd": ("F32", np.ones(8, np.float32)),
            "blk.1.attn_rot_embd.weight": ("Q6_K", random_blocks("Q6_K", 1, 256))}  # fmt: skip
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), blocks=dead)
    raw = path.read_bytes()
    row = raw.index(b"blk.1.attn_rot_embd.weight") + len("blk.1.attn_rot_embd.weight") + 4 + 2 * 8
    assert raw[row : row + 4] == (14).to_bytes(4, "little")
    path.write_bytes(raw[:row] + (99).to_bytes(4, "little") + raw[row + 4 :])
    assert len(gguf.open_file(path).tensors) == len(weights(words))


def test_keys_that_nothing_reads(tmp_path: Path) -> None:
    """How many experts are used is no question where there are none."""
    words = config()
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), expert_count=0, expert_used_count=2)
    assert gguf.open_file(path).family == "llama"


def test_header(tmp_path: Path) -> None:
    words = config()
    path = write_gguf(
        tmp_path / "in.gguf", words, weights(words), general__license="mit",
        tokenizer__chat_template="{{ x }}",
        tokenizer__ggml__eos_token_id=2, tokenizer__ggml__bos_token_id=1, tokenizer__ggml__eot_token_id=5,
        vocab_size=50, general__name="Tiny",
    )  # fmt: skip
    convert(path, tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        assert file.header["license"] == "mit" and file.header["chat_template"] == "{{ x }}"
        assert file.header["generation"] == {"bos_token_id": 1, "eos_token_id": [2, 5]}
        assert file.header["tokenizer"] is None
        assert file.config["rms_norm_eps"] == float(np.float32(1e-5))


def frequencies(path: Path) -> Any:
    return gguf.open_file(path).made["rope.inverse_frequencies"]


@pytest.mark.parametrize(
    ("metadata", "factor"),
    [
        ({}, 1), ({"rope__scaling__type": "none", "rope__scaling__factor": 4.0}, 1),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, 4),
        ({"rope__scaling__factor": 4.0}, 4),
        ({"rope__scale_linear": 2.0}, 2), ({"rope__scaling__factor": 0.0}, 1),
    ],
)  # fmt: skip
def test_rope(tmp_path: Path, metadata: dict[str, Any], factor: float) -> None:
    words = config()
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), rope__freq_base=5e5, **metadata)
    expected = Rope.from_hf({"rope_theta": 5e5}).inverse_frequencies(16) / np.float32(factor)
    np.testing.assert_array_equal(frequencies(path), expected)


def test_two_places_that_disagree(tmp_path: Path) -> None:
    words = config()
    both: dict[str, Any] = {"rope__scaling__factor": 4.0, "rope__scale_linear": 2.0}
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), **both)
    with pytest.raises(
        UnsupportedError, match=r"factor is 4\.0, but llama\.rope\.scale_linear is 2\.0; the two"
    ):
        gguf.open_file(path)


def test_rope_freqs_divide(tmp_path: Path) -> None:
    words = config()
    factors = np.linspace(1, 8, 8, dtype=np.float32)
    path = write_gguf(tmp_path / "in.gguf", words, weights(words) | {"rope_freqs.weight": factors})
    expected = Rope.from_hf({}).inverse_frequencies(16) / factors
    np.testing.assert_array_equal(frequencies(path), expected)
    assert frequencies(path).dtype == np.float32
    convert(path, tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        np.testing.assert_array_equal(file.tensors["rope.inverse_frequencies"].array(), expected)


@pytest.mark.parametrize("factors", [[0.0] * 8, [1.0] * 7, [np.nan] * 8, [-1.0] * 8])
def test_bad_rope_freqs(tmp_path: Path, factors: list[float]) -> None:
    words = config()
    bad = {"rope_freqs.weight": np.array(factors, np.float32)}
    with pytest.raises(FormatError, match=r"tensor 'rope_freqs\.weight'"):
        frequencies(write_gguf(tmp_path / "in.gguf", words, weights(words) | bad))


def test_rope_freqs_of_no_weights(tmp_path: Path) -> None:
    words = config()
    bad = {"rope_freqs.weight": ("I32", np.ones(8, np.int32))}
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), blocks=bad)
    with pytest.raises(
        UnsupportedError, match="^tensor 'rope_freqs.weight' is I32, but only F32, F16, BF16, F64"
    ):
        gguf.open_file(path)


REFUSED: list[tuple[str, str, Any]] = [
    ("qwen3", "expert_count", 8), ("llama", "no.such.key", 1.5),
    ("llama", "rope.scaling.type", "longrope"),
    ("llama", "rope.dimension_count", 8), ("llama", "attention.value_length", 32),
    ("llama", "attention.causal", False),
    ("llama", "attn_logit_softcapping", 50.0), ("llama", "logit_scale", 0.25),
    ("llama", "attention.scale", 0.5),
    ("llama", "rope.scaling.attn_factor", 1.5), ("llama", "vocab_size", 51), ("qwen2", "expert_count", 60),
    ("llama", "attention.head_count_kv", [2, 1]), ("llama", "feed_forward_length", [96, 64]),
    ("llama", "general.architecture", "mamba"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "key", "value"), REFUSED, ids=lambda value: f"{value!r:.40}")
def test_refused_by_key_and_value(tmp_path: Path, model_type: str, key: str, value: Any) -> None:
    words = config(model_type)
    path = write_gguf(tmp_path / "in.gguf", words, weights(words))
    source = gguf.open_gguf(path)
    source.metadata[key if key.split(".")[0] == "general" else f"{model_type}.{key}"] = value
    with pytest.MonkeyPatch.context() as patch, pytest.raises(EdgeqError) as caught:
        patch.setattr(gguf, "open_gguf", lambda _: source)
        gguf.open_file(path)
    assert key in str(caught.value) and repr(value)[:60] in str(caught.value)


def test_one_value_for_each_block(tmp_path: Path) -> None:
    words = config()
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), attention__head_count_kv=[2, 2])
    assert gguf.open_file(path).config.num_key_value_heads == 2


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_window_of_qwen_is_refused(tmp_path: Path, model_type: str) -> None:
    words = config(model_type)
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), attention__sliding_window=64)
    with pytest.raises(UnsupportedError, match=r"attention\.sliding_window is 64, but only 0 is supported"):
        gguf.open_file(path)


@pytest.mark.parametrize("key", NEEDED)
def test_missing_keys(tmp_path: Path, key: str) -> None:
    words = config()
    absent: dict[str, Any] = {key.replace(".", "__"): None}
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), kind="F32", **absent)
    with pytest.raises(FormatError, match=f"llama.{key} is missing"):
        gguf.open_file(path)


def test_tensors_that_are_wrong(tmp_path: Path) -> None:
    words = config()
    tensors = weights(words)
    norm = tensors.pop("model.norm.weight")
    path = write_gguf(tmp_path / "in.gguf", words, tensors)
    with pytest.raises(FormatError, match=r"tensor 'output_norm.weight' is missing; shape \[64\] is needed"):
        gguf.open_file(path)
    path = write_gguf(tmp_path / "in.gguf", words, tensors | {"model.norm.weight": norm[:32]})
    with pytest.raises(
        FormatError, match=r"'output_norm.weight' has shape \[32\], but the config needs \[64\]"
    ):
        gguf.open_file(path)
    extra = {"model.norm.weight": norm, "model.layers.0.self_attn.q_proj.bias": norm}
    path = write_gguf(tmp_path / "in.gguf", words, tensors | extra)
    with pytest.raises(UnsupportedError, match=r"'blk.0.attn_q.bias' is not one of family llama's"):
        gguf.open_file(path)
    del tensors["model.embed_tokens.weight"], tensors["lm_head.weight"]
    with pytest.raises(FormatError, match=r"'token_embd.weight' is missing"):
        gguf.open_file(write_gguf(tmp_path / "in.gguf", words, tensors))


def test_types_that_no_scheme_holds(tmp_path: Path) -> None:
    words = config()
    name = gguf_name("model.layers.0.mlp.up_proj.weight")
    source = gguf.open_gguf(write_gguf(tmp_path / "in.gguf", words, weights(words)))
    source.tensors[name].type = "I8"
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(UnsupportedError, match=f"^tensor '{name}' is I8, which no scheme holds$"),
    ):
        patch.setattr(gguf, "open_gguf", lambda _: source)
        gguf.open_file(tmp_path / "in.gguf")


# ---- the scale of an NVFP4 tensor ----
def scaled(tmp_path: Path, further: dict[str, tuple[str, Any]], **changes: Any) -> Path:
    """A GGUF file whose first query and whose head, or tied embedding, are NVFP4, with further tensors."""
    words = config(hidden_size=256, **changes)
    tensors = weights(words)
    head = "model.embed_tokens.weight" if words["tie_word_embeddings"] else "lm_head.weight"
    mixed = dict(further)
    for name in ("model.layers.0.self_attn.q_proj.weight", head):
        mixed[gguf_name(name)] = ("NVFP4", random_blocks("NVFP4", *tensors.pop(name).shape))
    return write_gguf(tmp_path / "in.gguf", words, tensors, blocks=mixed)


def one(value: float, count: int = 1) -> tuple[str, Any]:
    return "F32", np.full(count, value, np.float32)


def test_a_tensors_scale_is_taken_with_it(tmp_path: Path) -> None:
    """Each value is the block's times the scale, the row's order the checkpoint's; without a scale it is the
    block's. What activations are scaled by is passed over.
    """
    scale = float(np.float32(0.0123))
    further = {"blk.0.attn_q.scale": one(scale), "blk.0.attn_q.input_scale": one(7)}
    path = scaled(tmp_path, further)
    raw = random_blocks("NVFP4", 64, 256), random_blocks("NVFP4", 50, 256)
    query, head = (reference(TYPES["NVFP4"], blocks) for blocks in raw)
    query = interleave(query, 4, back=True) * np.float32(scale)
    convert(path, tmp_path / "out.edgeq", scheme="keep")
    found = arrays(tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        assert file.tensors["blocks.0.q"].scheme.name == file.tensors["output"].scheme.name == "nv4"
    np.testing.assert_array_equal(found["blocks.0.q"], query)
    np.testing.assert_array_equal(found["output"], head)
    convert(path, tmp_path / "q8.edgeq", scheme="q8")
    np.testing.assert_array_equal(
        arrays(tmp_path / "q8.edgeq")["blocks.0.q"], dequantize(quantize(query, "q8"), "q8")
    )


def test_a_head_with_another_scale_is_another_tensor(tmp_path: Path) -> None:
    """Though its blocks are those of the embedding."""
    head = random_blocks("NVFP4", 50, 256)
    for scale, tied in ((1.0, True), (2.0, False)):
        further = {"output.weight": ("NVFP4", head), "output.scale": one(scale)}
        out = tmp_path / f"{scale}.edgeq"
        convert(scaled(tmp_path, further, tie_word_embeddings=True), out, scheme="keep")
        found = arrays(out)
        assert ("output" in found) is not tied
        if not tied:
            np.testing.assert_array_equal(found["output"], 2 * found["embed"])


BAD_SCALES = [
    ("blk.0.attn_q", one(1, 2), r"tensor 'blk.0.attn_q.scale' has shape \[2\], but \[1\] is needed"),
    ("blk.0.attn_q", ("Q8_0", np.zeros(34, np.uint8)), r"'blk.0.attn_q.scale' has shape \[32\]"),
    ("blk.0.attn_q", one(np.nan), "tensor 'blk.0.attn_q.scale' is nan, but a finite number from 0 on"),
    ("blk.0.attn_q", one(np.inf), "tensor 'blk.0.attn_q.scale' is inf"),
    ("output", one(-0.5), "tensor 'output.scale' is -0.5"),
    ("blk.0.attn_k", one(1), "'blk.0.attn_k.scale' is a scale, but 'blk.0.attn_k.weight' is F32; only NVFP4"),
    ("blk.9.attn_q", one(1), "'blk.9.attn_q.scale' is there, but 'blk.9.attn_q.weight' is not, whose scale"),
]


@pytest.mark.parametrize(("name", "scale", "message"), BAD_SCALES)
def test_scales_that_are_none(tmp_path: Path, name: str, scale: tuple[str, Any], message: str) -> None:
    with pytest.raises((FormatError, UnsupportedError), match=message):
        gguf.open_file(scaled(tmp_path, {f"{name}.scale": scale}))


# ---- what is no number ----
NOT_FINITE = [  # type, field of its layout, the stored number, the part that it becomes
    ("Q4_K", "d", np.float16(np.inf), "scale"), ("Q4_K", "dmin", np.float16(np.nan), "min"),
    ("Q5_1", "m", np.float16(-np.inf), "min"), ("IQ3_S", "d", np.float16(np.nan), "scale"),
    ("MXFP4", "e", np.uint8(255), "scale"), ("NVFP4", "scale", np.uint8(128), "scale"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "field", "value", "part"), NOT_FINITE)
def test_kept_scales_that_are_no_numbers(
    tmp_path: Path, kind: str, field: str, value: Any, part: str
) -> None:
    words = config(hidden_size=256, intermediate_size=256)
    tensors = weights(words)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    raw = random_blocks(kind, 256, 256)
    raw[77].view(TYPES[kind].layout)[field][-1] = value
    path = write_gguf(tmp_path / "in.gguf", words, tensors, blocks={"blk.1.ffn_down.weight": (kind, raw)})
    with pytest.raises(
        FormatError, match=f"^tensor 'blk.1.ffn_down.weight': row 77: a {part} is not finite$"
    ):
        convert(path, tmp_path / "out.edgeq", scheme="keep")
    assert not (tmp_path / "out.edgeq").exists()


def test_parts_of_a_model_are_one(tmp_path: Path) -> None:
    """Whichever is named, the result is the same, and it is the one of the whole file."""
    words = config()
    tensors = weights(words)
    whole = write_gguf(tmp_path / "m.gguf", words, tensors, kind="Q8_0")
    convert(whole, tmp_path / "whole.edgeq", scheme="keep")
    write_gguf(tmp_path / "m.gguf", words, tensors, kind="Q8_0", split_max_tensors=9)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) == 3
    for number, path in enumerate(parts):
        convert(path, tmp_path / f"{number}.edgeq", scheme="keep")
    raw = [(tmp_path / f"{number}.edgeq").read_bytes() for number in range(3)]
    assert raw[0] == raw[1] == raw[2]
    with open_model(tmp_path / "0.edgeq") as file, open_model(tmp_path / "whole.edgeq") as other:
        assert file.header["source"]["name"] == "m-00001-of-00003.gguf"
        assert {t.name: t.xxh3 for t in file.tensors.values()} == {
            t.name: t.xxh3 for t in other.tensors.values()
        }


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
@pytest.mark.parametrize("scheme", ["q8", "q4", "f16"])
def test_scale_that_is_no_number(tmp_path: Path, kind: str, scheme: str) -> None:
    words = config()
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), kind=kind)
    down = next(t for t in writer.GGUFReader(path).tensors if t.name == "blk.1.ffn_down.weight")
    raw = bytearray(path.read_bytes())
    raw[down.data_offset : down.data_offset + 2] = np.float16(np.inf).tobytes()
    path.write_bytes(raw)
    with pytest.raises(FormatError, match=r"tensor 'blk.1.ffn_down.weight': .*not finite"):
        convert(path, tmp_path / "out.edgeq", scheme=scheme)
    assert not (tmp_path / "out.edgeq").exists()


def test_more_tokens_than_rows(tmp_path: Path) -> None:
    words = config()
    tokens = [f"t{i}" for i in range(51)]
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), tokenizer__ggml__tokens=tokens)
    with pytest.raises(FormatError, match=r"tokenizer.ggml.tokens has 51 entries, but .* 50 rows"):
        gguf.open_file(path)
