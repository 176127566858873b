"""Mutants of .edgeq files: headers changed by their structure, offsets, lengths and checksums right again.

So a mutant gets past what a checksum finds, to the checks behind: of the tensors, the family's table, the
tokenizer, the data, and for `edgeq-run` of the engine itself.
"""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import edgeq
from edgeq import models, tokenizer
from edgeq.errors import EdgeqError
from edgeq.formats import SCHEMES, TensorPlan, Writer, encode_blocks, open_model, verify
from edgeq.formats.header import MAGIC, PRELUDE_BYTES
from edgeq.formats.layout import geometry, place
from tests.fuzz import mutate
from tests.fuzz.sparse import parts, sparse, write

FAMILIES = ("llama", "qwen2", "qwen3")
VERIFIED_BYTES_MAX = 1 << 18  # of files that are read to their end
VERIFIED_ONE_IN = 4  # of them: it takes longer than all else
CONFIG: dict[str, Any] = {
    "vocab_size": 20, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "sliding_window": None,
}  # fmt: skip
HASH = "0" * 32


@cache
def model_bytes(family: str, matrix: str = "q4", tied: bool = False) -> bytes:
    """A whole tiny model with random weights and a tokenizer."""
    from tests.fuzz.vocabularies import SPEC, pieces_model

    config = models.family(family).Config.from_header({**CONFIG, "tie_word_embeddings": tied})
    random = np.random.default_rng(0)
    blob = pieces_model()
    header = {"family": family, "config": config.to_header(), "tokenizer": {**SPEC, "tensor": "tokenizer"},
              "chat_template": "{{ messages[0].content }}", "generation": {"eos_token_id": [2]},
              "license": None,
              "source": {"kind": "gguf", "name": "x"}, "required": []}  # fmt: skip
    plans = [
        TensorPlan(want.name, "f32", "plain", want.shape)
        if want.role == "vector"
        else TensorPlan(want.name, matrix, "lines16", want.shape)
        for want in models.expected(family, config)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.edgeq")
        with Writer(
            path, header, [*plans, TensorPlan("tokenizer", "bytes", "plain", (len(blob),))]
        ) as writer:
            for plan in plans:
                values = random.standard_normal(plan.shape).astype(np.float32) * 0.3
                writer.write(plan.name, *encode_blocks(values, plan.scheme))
            writer.write("tokenizer", blob)
            writer.commit()
        return path.read_bytes()


def seeds() -> list[bytes]:
    """Whole models of every family, without their data: zeros do for all but `edgeq-run`."""
    found = []
    for raw in run_seeds():
        header, _ = split(raw)
        found.append(built(header, len(raw) - data_start(raw), b""))
    words: dict[str, Any] = {
        "format": "edgeq",
        "family": "llama",
        "config": {},
        "tensors": [],
        "required": [],
    }
    rows = [
        ("bf16", "lines16", [5, 3]), ("f16", "plain", [2, 3, 4]), ("q8", "lines16", [17, 33]),
        ("f32", "plain", [40]), ("q8", "lines16", [4096, 4096]),
        *((scheme.name, "lines16", [17, 33]) for scheme in SCHEMES.values() if scheme.planes),
    ]  # fmt: skip
    small = {**words, "tensors": [row(f"t.{i}", *fields) for i, fields in enumerate(rows)]}
    few = {
        **words,
        "tensors": small["tensors"][:2],
        "generation": {"top_k": 1},
        "license": "mit",
        "chat_template": "",
    }
    return [*found, *(laid_out(header, b"") for header in (small, few, words, {**few, "tensors": []}))]


def run_seeds() -> list[bytes]:
    return [
        model_bytes("llama"),
        model_bytes("qwen2", "q8", True),
        model_bytes("qwen3"),
        model_bytes("llama", "f32"),
    ]


def row(name: str, scheme: str, layout: str, shape: list[int]) -> dict[str, Any]:
    fields = {"name": name, "scheme": scheme, "layout": layout, "shape": shape}
    return {**fields, "offset": 0, "nbytes": 0, "xxh3": HASH}


def data_start(raw: bytes) -> int:
    return PRELUDE_BYTES + int.from_bytes(raw[16:24], "little")


@lru_cache(256)
def split(raw: bytes) -> tuple[Any, bytes]:
    """(header or None, data) of a file's bytes; the header is not to be changed."""
    start = data_start(raw)
    return mutate.load_json(raw[PRELUDE_BYTES:start]), raw[start:]


def prelude(header: bytes, file_bytes: int, **changes: Any) -> bytes:
    """The 64 bytes before a header, checksums right, `changes` to the fields apart."""
    fields = {"magic": MAGIC, "read": 1, "write": 1, "header_bytes": len(header), "file_bytes": file_bytes,
              "crc": zlib.crc32(header), "reserved": bytes(24)} | changes  # fmt: skip
    try:
        body = struct.pack("<8sIIQQI24s", *fields.values())
    except struct.error:  # a size of more than 64 bits
        body = struct.pack(
            "<8sIIQQI24s", MAGIC, 1, 1, len(header), (1 << 64) - 1, zlib.crc32(header), bytes(24)
        )
    return body + struct.pack("<I", zlib.crc32(body))


def built(header: Any, data_bytes: int, data: bytes, raw: bytes | None = None) -> bytes:
    """A file of this header, or of these `raw` bytes of one, and that many of data: `data`, then zeros."""
    raw = json.dumps(header, separators=(",", ":")).encode() if raw is None else raw
    file_bytes = PRELUDE_BYTES + len(raw) + data_bytes
    return sparse(prelude(raw, file_bytes) + raw + data, data_bytes - len(data))


def laid_out(header: dict[str, Any], data: bytes, raw_of: Any = None) -> bytes:
    """A file whose tensors stand where they belong, with the sizes that their shapes have."""
    raw_of = raw_of or (lambda value: json.dumps(value, separators=(",", ":")).encode())
    raw, position = bytes(len(json.dumps(header))), 0
    sizes = [size_of(fields) for fields in header["tensors"]]
    for _ in range(3):  # offsets have digits, so the header's length depends on them
        start = position = PRELUDE_BYTES + len(raw)
        tensors = []
        for fields, nbytes in zip(header["tensors"], sizes, strict=True):
            if nbytes is not None:
                offset = place(position, nbytes)
                fields = {**fields, "offset": offset, "nbytes": nbytes}
                position = offset + nbytes
            tensors.append(fields)
        new = raw_of({**header, "tensors": tensors})
        if len(new) == len(raw):
            raw = new
            break
        raw = new
    total = position - start
    return built(None, max(total, len(data[:total])), data[:total], raw)


def size_of(fields: Any) -> int | None:
    """Bytes of a tensor that the header describes, None where it makes no sense."""
    try:
        return geometry(SCHEMES[fields["scheme"]], fields["layout"], fields["shape"]).nbytes
    except (EdgeqError, KeyError, TypeError, AttributeError):
        return None


def mutant(random: Random, one: bytes, other: bytes) -> bytes:
    """Half of the mutants laid out right, the rest with some number or byte that is not."""
    plain, zeros = parts(one)
    header, data = split(plain)
    if not isinstance(header, dict) or mutate.chance(random, 0.05):
        return sparse(mutate.of_bytes(random, plain, other), zeros)
    lent, _ = split(parts(other)[0])
    kind = random.random()
    if kind < 0.1:
        changed = header
    elif kind < 0.35 and isinstance(header.get("tensors"), list):
        rows = mutate.of_json(random, header["tensors"], mutate.part(lent, "tensors"))
        changed = {**header, "tensors": rows if isinstance(rows, list) else header["tensors"]}
    elif kind < 0.6:
        field = random.choice(("config", "tokenizer", "generation", "source"))
        changed = {**header, field: mutate.of_json(random, header.get(field), mutate.part(lent, field))}
    else:
        changed = mutate.of_json(random, header, lent)
    if not isinstance(changed, dict):
        return built(changed, len(data) + zeros, data)
    kind = random.random()
    if kind < 0.6 and isinstance(changed.get("tensors"), list):
        if mutate.chance(random, 0.3):
            data = mutate.of_bytes(random, data)
        return laid_out(changed, data)
    raw = mutate.dumped(random, changed)
    if kind < 0.9:
        return built(None, len(data) + zeros, data, raw)
    file_bytes = PRELUDE_BYTES + len(raw) + len(data) + zeros
    field, near, bits = random.choice(
        (
            ("read", 1, 32),
            ("write", 1, 32),
            ("crc", 1, 32),
            ("header_bytes", len(raw), 64),
            ("file_bytes", file_bytes, 64),
        )
    )
    changes = {field: mutate.integer(random, near) & ((1 << bits) - 1)}
    return sparse(prelude(raw, **{"file_bytes": file_bytes} | changes) + raw + data, zeros)


def read(data: bytes, folder: Path) -> None:
    """Open it, hold it against its family, load its tokenizer, and read a small one to its end."""
    path = folder / "fuzz.edgeq"
    size = write(path, data)
    try:
        with open_model(path) as file:
            models.check(file)
            spec = file.header.get("tokenizer")
            if spec is not None:
                tensor = file.tensors[spec["tensor"]]
                tokenizer.Spec.from_header(spec)
                if 0 < tensor.nbytes < VERIFIED_BYTES_MAX and tensor.data.any():
                    loaded = tokenizer.load(spec, tensor.data.tobytes(), file.config["vocab_size"])
                    loaded.decode(loaded.encode("a text"))
    finally:
        if size <= VERIFIED_BYTES_MAX and zlib.crc32(data) % VERIFIED_ONE_IN == 0:
            for problem in verify(path):
                assert problem.isprintable(), problem


def run(data: bytes, folder: Path) -> None:
    """Load it and run a token, where it is a model and a small one."""
    path = folder / "run.edgeq"
    if write(path, data) > VERIFIED_BYTES_MAX:
        return
    with edgeq.load(path, threads=1, context=1) as model:
        sequence = model.sequence()
        sequence.feed([model.vocab_size - 1])
        assert -1 <= sequence.likeliest < model.vocab_size
        if model.tokenizer is not None:
            model.tokenizer.decode([0, model.vocab_size - 1])
