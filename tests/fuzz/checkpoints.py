"""Mutants of the files of a Hugging Face checkpoint: one file is hostile, the others beside it are sound."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from edgeq import models
from edgeq.converters.huggingface import open_directory
from edgeq.converters.safetensors import ITEM_BYTES
from edgeq.converters.safetensors import read as read_safetensors
from edgeq.converters.tokenizers import from_directory
from edgeq.tokenizer import load, modelproto
from tests.fuzz import mutate, vocabularies
from tests.fuzz.edgeq_files import CONFIG
from tests.fuzz.sparse import parts, sparse, write

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
GENERATION = {"bos_token_id": 1, "eos_token_id": [2, 14], "temperature": 0.6, "top_k": 20, "top_p": 0.95,
              "min_p": 0.0, "repetition_penalty": 1.1, "do_sample": True}  # fmt: skip
TEXT = "A text <|im_end|> 12\n"


def config(family: str, **more: Any) -> dict[str, Any]:
    return {**CONFIG, "model_type": family, "architectures": [ARCHITECTURES[family]], "hidden_act": "silu",
            "rope_theta": 10000.0, "rope_scaling": None, "bos_token_id": 1, "eos_token_id": 2,
            "torch_dtype": "bfloat16", **more}  # fmt: skip


def configs() -> list[bytes]:
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192}  # fmt: skip
    mistral = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 16}
    rows = [
        config("llama", rope_scaling=llama3),
        config("llama", rope_scaling={"type": "linear", "factor": 2.0}, quantization_config=None),
        config("llama", rope_parameters={"rope_type": "default", "rope_theta": 5e5}, **mistral),
        config("qwen2", use_sliding_window=False, max_window_layers=1),
        config("qwen3", attention_bias=False, layer_types=["full_attention"]),
    ]
    return [json.dumps(row).encode() for row in rows]


@cache
def weights(family: str, part: int | None = None) -> bytes:
    """A .safetensors file of zeros: all tensors of the tiny model, or every second one."""
    config = models.family(family).Config.from_header(CONFIG)
    header, at = {}, 0
    for number, want in enumerate(models.expected(family, config)):
        if want.hf_name and part in (None, number % 2):
            dtype = ("F32", "BF16", "F16")[number % 3]
            size = ITEM_BYTES[dtype]
            for n in want.shape:
                size *= n
            header[want.hf_name] = {
                "dtype": dtype,
                "shape": list(want.shape),
                "data_offsets": [at, at + size],
            }
            at += size
    return tensors(header, at)


def tensors(header: dict[str, Any], data_bytes: int, raw: bytes | None = None) -> bytes:
    raw = json.dumps(header).encode() if raw is None else raw
    return sparse(struct.pack("<Q", len(raw)) + raw, data_bytes)


def safetensors_seeds() -> list[bytes]:
    scalar = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
              "b": {"dtype": "U8", "shape": [3, 0], "data_offsets": [4, 4]},
              "c": {"dtype": "I64", "shape": [2, 2], "data_offsets": [4, 36]}}  # fmt: skip
    return [weights("llama"), weights("qwen3"), tensors(scalar, 36), tensors({}, 0)]


def safetensors_mutant(random: Random, one: bytes, other: bytes) -> bytes:
    """Half of the mutants with offsets that tile the data again."""
    plain, zeros = parts(one)
    header = mutate.load_json(plain[8:])
    if not isinstance(header, dict) or mutate.chance(random, 0.05):
        return sparse(mutate.of_bytes(random, plain, other), zeros)
    changed = mutate.of_json(random, header, mutate.load_json(parts(other)[0][8:]))
    if not isinstance(changed, dict):
        return tensors({}, zeros, mutate.dumped(random, changed))
    if mutate.chance(random, 0.5):
        changed, zeros = _tiled(changed)
    if mutate.chance(random, 0.05):
        raw = mutate.dumped(random, changed)
        return sparse(struct.pack("<Q", mutate.integer(random, len(raw)) & ((1 << 64) - 1)) + raw, zeros)
    return tensors(changed, zeros, mutate.dumped(random, changed))


def _tiled(header: dict[str, Any]) -> tuple[dict[str, Any], int]:
    at, found = 0, {}
    for name, entry in header.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        size = ITEM_BYTES.get(str(entry.get("dtype"))) if isinstance(entry, dict) else None
        if size is not None and isinstance(shape, list) and all(type(n) is int for n in shape):
            for n in shape:
                size *= n
            entry = {**entry, "data_offsets": [at, at + size]}
            at += max(size, 0)
        found[name] = entry
    return found, min(at, 1 << 62)


def read_weights(data: bytes, folder: Path) -> None:
    """The container alone, then as the weights of a checkpoint."""
    place = directory(folder, "weights")
    write(place / "model.safetensors", data)
    for dtype, shape, raw in read_safetensors(place / "model.safetensors").values():
        size = ITEM_BYTES[dtype]
        for n in shape:
            size *= n
        assert len(raw) == size
    open_directory(place)


def directory(folder: Path, name: str) -> Path:
    """A sound checkpoint to put a hostile file into; made by the first call."""
    place = folder / name
    if not place.is_dir():
        place.mkdir()
        (place / "config.json").write_bytes(configs()[0])
        if name != "index":
            write(place / "model.safetensors", weights("llama"))
        else:
            for part in (0, 1):
                write(place / f"model-{part}.safetensors", weights("llama", part))
        if name == "tokenizer-json":
            return place
        (place / "tokenizer.model").write_bytes(vocabularies.pieces_model())
    return place


def index_seeds() -> list[bytes]:
    config = models.family("llama").Config.from_header(CONFIG)
    wants = [want.hf_name for want in models.expected("llama", config)]
    places = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(wants) if name}
    return [json.dumps({"metadata": {"total_size": 1}, "weight_map": places}).encode()]


def json_mutant(random: Random, one: bytes, other: bytes) -> bytes:
    value = mutate.load_json(one)
    if value is None or mutate.chance(random, 0.03):
        return mutate.of_json_text(random, one)
    return mutate.dumped(random, mutate.of_json(random, value, mutate.load_json(other)))


def reader(name: str, file: str) -> Callable[[bytes, Path], None]:
    """A parser of a whole checkpoint in which one file is the input."""

    def read(data: bytes, folder: Path) -> None:
        place = directory(folder, name)
        write(place / file, data)
        open_directory(place)

    return read


def tokenizer_reader(name: str, file: str) -> Callable[[bytes, Path], None]:
    """A parser of a checkpoint's tokenizer in which one file is the input, and of a text through it."""

    def read(data: bytes, folder: Path) -> None:
        place = directory(folder, name)
        write(place / file, data)
        made = from_directory(place)
        assert made is not None
        loaded = load(*made)
        loaded.decode(loaded.encode(TEXT, special=True))
        loaded.decode(range(min(loaded.vocab_size, 4096)), special=True)

    return read


# ---- sentencepiece ----


def pieces_seeds() -> list[bytes]:
    model = vocabularies.pieces_model()
    trainer = modelproto.write_message(2, modelproto.write_int(3, modelproto.UNIGRAM))
    charsmap = modelproto.write_message(3, modelproto.write_message(2, bytes(4)))
    return [model, vocabularies.with_bytes(), model + trainer, model + charsmap]


def pieces_mutant(random: Random, one: bytes, other: bytes) -> bytes:
    """Messages changed field by field, their lengths right again."""
    if mutate.chance(random, 0.1):
        return mutate.of_bytes(random, one, other)
    return _message(random, one, other, 0)


def _message(random: Random, raw: bytes, other: bytes, depth: int) -> bytes:
    fields = _fields(raw)
    if not fields:
        return mutate.of_bytes(random, raw, other)
    for _ in range(1 << random.randrange(2)):
        at = random.randrange(len(fields))
        number, wire, value = fields[at]
        choice = random.random()
        if choice < 0.6 and isinstance(value, bytes):
            inner = depth == 0 and mutate.chance(random, 0.8)
            new = _message(random, value, other, 1) if inner else mutate.of_bytes(random, value, other)
            fields[at] = number, wire, new
        elif choice < 0.6:
            fields[at] = number, wire, mutate.integer(random, int(value)) & ((1 << 64) - 1)
        elif choice < 0.7:
            del fields[at]
        elif choice < 0.8:
            fields[at:at] = [fields[at]] * random.choice((1, 2, 20))
        elif choice < 0.9:
            fields[at] = random.choice((1, 2, 3, 4, 5, 10, 35, 40, 1 << 20)), wire, value
        else:
            there = random.randrange(len(fields))
            fields[at], fields[there] = fields[there], fields[at]
        if not fields:
            break
    return b"".join(_written(*field) for field in fields)


def _fields(raw: bytes) -> list[tuple[int, int, int | bytes]]:
    try:
        return list(modelproto.read_fields(raw))
    except Exception:
        return []


def _written(number: int, wire: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return modelproto.write_message(number, value)
    if wire == modelproto.VARINT:
        return modelproto.write_int(number, value)
    size = 8 if wire == modelproto.FIXED64 else 4
    return modelproto.write_varint(number << 3 | wire) + (value & ((1 << 8 * size) - 1)).to_bytes(
        size, "little"
    )
