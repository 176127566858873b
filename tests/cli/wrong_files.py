"""A folder with every wrong file and directory that the rows of `wrong_inputs` name."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from edgeq.converters import convert
from edgeq.formats.header import MAGIC, PRELUDE, pack_prelude, parse_prelude
from tests.converters.checkpoints import config, weights, write_directory, write_gguf

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1024\n"
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n"
TEXT = "Once upon a time there was a little cat who lived in a big red house. "


def make(folder: Path, story: Path, checkpoint: Path) -> None:
    """Fill the folder; `story` is a sound .edgeq file and `checkpoint` what it was made of."""
    shutil.copy(story, folder / "story.edgeq")
    shutil.copytree(checkpoint, folder / "checkpoint")
    words = config()
    write_gguf(folder / "tiny.gguf", words, weights(words))
    convert(write_directory(folder / "tiny", words, weights(words)), folder / "tiny.edgeq", scheme="q8")
    convert(checkpoint, folder / "small.edgeq", scheme="q4")
    foreign(folder)
    damaged(folder, story.read_bytes(), (folder / "tiny.gguf").read_bytes())
    gguf_files(folder)
    directories(folder, checkpoint)
    texts(folder)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.gguf")
    (folder / "locked.edgeq").write_bytes(story.read_bytes())
    (folder / "locked.edgeq").chmod(0)
    (folder / "locked").mkdir(mode=0o500)


def foreign(folder: Path) -> None:
    """Files of other programs under a model's name."""
    files = {
        "empty.edgeq": b"",
        "picture.edgeq": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(90),
        "model.onnx": b'\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xbc\xf6\x01\n"\n\x05input',
        "model.pkl": pickle.dumps({"weight": [1.0, 2.0]}),
        "old.bin": b"tjgg\3\0\0\0" + bytes(90),
        "page.gguf": HTML,
        "pointer.gguf": LFS,
        "zeros.gguf": bytes(4096),
        "packed.gguf": b"\x1f\x8b\x08\0" + bytes(range(90)),
        "noise.edgeq": bytes(range(200, 255)) * 3,
        "model.json": b'{"model_type": "llama"}\n',
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    shutil.copy(folder / "tiny" / "model.safetensors", folder / "model.safetensors")


def damaged(folder: Path, story: bytes, tiny: bytes) -> None:
    """Files that were sound once, or will be for a later edgeq."""
    (folder / "cut.edgeq").write_bytes(story[: len(story) // 2])
    (folder / "stub.edgeq").write_bytes(story[:30])
    (folder / "spoilt.edgeq").write_bytes(story[:200] + b"?" + story[201:])
    fields = list(PRELUDE.unpack(story[:64]))
    assert fields[0] == MAGIC
    prelude = parse_prelude(story[:64], len(story))
    header, rest = story[64 : 64 + prelude.header_bytes], story[64 + prelude.header_bytes :]
    for name, old, new in (
        ("family.edgeq", b'"family":"llama"', b'"family":"mamba"'),
        ("names.edgeq", b'"name":"norm"', b'"name":"nrom"'),
    ):
        assert header.count(old) == 1
        changed = header.replace(old, new)
        (folder / name).write_bytes(pack_prelude(changed, len(story)) + changed + rest)
    newer = PRELUDE.pack(fields[0], 9, 9, *fields[3:])[:-4]
    (folder / "newer.edgeq").write_bytes(newer + struct.pack("<I", zlib.crc32(newer)) + story[64:])
    (folder / "cut.gguf").write_bytes(tiny[: len(tiny) // 2])
    for name, version in (("one.gguf", "<I1"), ("four.gguf", "<I4"), ("big.gguf", ">I3")):
        number = struct.pack(version[:2], int(version[2:]))
        (folder / name).write_bytes(tiny[:4] + number + tiny[8:])


def gguf_files(folder: Path) -> None:
    """GGUF files that are no model, or none of ours."""
    of: dict[str, tuple[str, str | None]] = {
        "mamba.gguf": ("mamba", None), "vocabulary.gguf": ("llama", None), "mmproj.gguf": ("clip", "mmproj"),
        "lora.gguf": ("llama", "adapter"), "imatrix.gguf": ("llama", "imatrix"),
    }  # fmt: skip
    for name, (architecture, kind) in of.items():
        writer = gguf.GGUFWriter(str(folder / name), architecture)
        if kind is not None:
            writer.add_type(kind)
        if name != "vocabulary.gguf":
            writer.add_tensor("some.weight", np.ones(32, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    words = config()
    write_gguf(folder / "odd.gguf", words, weights(words), attention__scale=0.5, logit_scale=2.0)
    write_gguf(folder / "eight.gguf", words, weights(words), kind="Q8_0")


def directories(folder: Path, checkpoint: Path) -> None:
    """Directories that are no checkpoint, or none of ours."""
    words = config()

    def directory(name: str, files: dict[str, Any]) -> None:
        (folder / name).mkdir()
        for file, content in files.items():
            (folder / name / file).parent.mkdir(exist_ok=True)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (folder / name / file).write_bytes(data)

    safetensors = (folder / "model.safetensors").read_bytes()
    odd = words | {"mlp_bias": True, "attention_bias": True, "rope_scaling": {"type": "ntk", "factor": 4.0}}
    directory("nothing", {})
    directory("configless", {"model.safetensors": safetensors})
    directory("weightless", {"config.json": words})
    directory("pickled", {"config.json": words, "pytorch_model.bin": b"\x80\x02}q\0."})
    directory("gguf-only", {"model-Q4_0.gguf": b"GGUF", "README.md": b"read me"})
    directory("both", {"config.json": words, "model-Q4_0.gguf": b"GGUF"})
    directory("edgeq-only", {"model.edgeq": MAGIC})
    directory("outer", {"inner/config.json": words})
    directory("adapter", {"adapter_config.json": {}, "adapter_model.safetensors": safetensors})
    directory("mamba", {"config.json": {"model_type": "mamba"}, "pytorch_model.bin": b"\x80\x02}q\0."})
    directory("odd", {"config.json": odd, "model.safetensors": safetensors})
    directory("gptq", {"config.json": words | {"quantization_config": {"quant_method": "gptq"}},
                       "model.safetensors": safetensors})  # fmt: skip
    directory("broken", {"config.json": b'{"model_type": '})
    directory("page", {"config.json": HTML, "model.safetensors": safetensors})
    directory("pointers", {"config.json": words, "model.safetensors": LFS})
    sharded = write_directory(folder / "sharded", words, weights(words), shards=3)
    for number in (2, 3):
        (sharded / f"model-{number:05}-of-00003.safetensors").unlink()
    lacking = weights(words)
    del lacking["model.norm.weight"], lacking["model.layers.1.mlp.up_proj.weight"]
    write_directory(folder / "lacking", words, lacking)
    shutil.copytree(checkpoint, folder / "tokenizerless")
    (folder / "tokenizerless" / "tokenizer.model").write_bytes(LFS)


def texts(folder: Path) -> None:
    """Prompts, items, recipes and statistics."""
    files = {
        "latin.txt": b"caf\xe9",
        "empty.txt": b"",
        "short.txt": TEXT.encode(),
        "long.txt": TEXT.encode() * 80,
        "items.jsonl": b'{"context": "a", "choices": ["b", "c"], "answer": 0}\n{"context": \n',
        "range.jsonl": b'{"context": "a", "choices": ["b", "c"], "answer": 5}\n',
        "texts.jsonl": b'{"text": "a"}\n{"words": "b"}\n',
        "bad.toml": b"[[rule]\n",
        "rules.toml": b'[[rule]]\ntensors = ["*"]\nscheme = "q44"\n',
        "there.edgeq": b"precious",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
