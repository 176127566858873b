"""Small .edgeq files for the tests, and a forge that makes broken ones whose checksums are right."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import formats
from edgeq.formats.header import MAGIC

Array = np.ndarray[Any, Any]
HEADER: dict[str, Any] = {
    "family": "llama",
    "config": {"vocab_size": 7, "rms_norm_eps": 1e-05},
    "tokenizer": {"kind": "tokenizer.json", "tensor": "tokenizer"},
    "chat_template": "{{ messages }}",
    "generation": {"temperature": 0.5},
    "license": "MIT",
    "source": {"kind": "directory", "name": "a tiny modèl"},
    "required": [],
}
SHAPES: dict[str, tuple[str, str, tuple[int, ...]]] = {  # name: scheme, layout, shape
    "embed": ("q8", "lines16", (17, 33)),
    "blocks.0.q": ("q4", "lines16", (33, 40)),
    "blocks.0.k": ("f16", "lines16", (5, 3)),
    "blocks.0.v": ("bf16", "lines16", (16, 2)),
    "blocks.0.o": ("f32", "lines16", (3, 4)),
    "norm": ("f32", "plain", (40,)),
    "tokenizer": ("bytes", "plain", (5,)),
}


def plans() -> list[formats.TensorPlan]:
    return [formats.TensorPlan(name, *row) for name, row in SHAPES.items()]


def numbers() -> dict[str, Array]:
    """The float32 numbers (or bytes) that the sample is made of: the same on every machine, for ever."""
    made: dict[str, Array] = {}
    for seed, (name, (_, _, shape)) in enumerate(SHAPES.items()):
        steps = (np.arange(np.prod(shape), dtype=np.int64) * 7919 + 31 * seed) % 1009 - 504
        made[name] = (steps / 256).astype(np.float32).reshape(shape)
    made["tokenizer"] = np.frombuffer(b"hello", np.uint8)
    return made


def write_sample(path: Path) -> Path:
    with formats.Writer(path, HEADER, plans()) as writer:
        for name, values in numbers().items():
            writer.write(name, *formats.encode_blocks(values, SHAPES[name][0]))
        writer.commit()
    return path


def split_file(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, everything after it) of a sound file."""
    header_bytes = int.from_bytes(raw[16:24], "little")
    return json.loads(raw[64 : 64 + header_bytes]), raw[64 + header_bytes :]


def forge(header: bytes, rest: bytes, **changes: Any) -> bytes:
    """A file of these parts with right checksums, `changes` to the prelude's fields apart."""
    fields: dict[str, Any] = {
        "magic": MAGIC,
        "read": 1,
        "write": 1,
        "header_bytes": len(header),
        "file_bytes": 64 + len(header) + len(rest),
        "header_crc": zlib.crc32(header),
        "reserved": bytes(24),
    } | changes
    body = struct.pack("<8sIIQQI24s", *(fields[k] for k in list(fields)[:7]))
    return body + struct.pack("<I", changes.get("crc", zlib.crc32(body))) + header + rest


def forge_tensors(rows: list[Any], data_bytes: int, **more: Any) -> bytes:
    """A file with these "tensors" rows and that many zero bytes after the header."""
    header = {"format": "edgeq", "family": "llama", "config": {}, "tensors": rows} | more
    return forge(json.dumps(header).encode(), bytes(data_bytes))
