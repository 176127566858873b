"""The model files that benches time: kept in one folder, made where missing or older than what makes them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.quantize import FILE_TYPES, ROOT, quantize
from bench.weights import SHAPES, write
from edgeq.converters import KEEP, convert
from edgeq.formats import open_model
from edgeq.formats.gguf import open_gguf

PLAIN = ("q4_0", "q8_0")  # every matrix in the one type: bench.weights writes them without llama.cpp
TYPES = (*PLAIN, *FILE_TYPES)


@dataclass(frozen=True)
class Files:
    """The same numbers for each engine."""

    gguf: Path
    edgeq: Path


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def default_directory() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgeq")) / "bench"


def stale(path: Path, *sources: Path) -> bool:
    """Whether `path` is missing or older than one of the files it is made of or by."""
    newest = max(source.stat().st_mtime for source in sources)
    return not path.exists() or path.stat().st_mtime < newest


def prepare(directory: Path, shape: str, kind: str, peer_python: str = sys.executable) -> Files:
    """The files of this shape and type; each appears under its name when it is whole.

    RuntimeError where llama.cpp's quantizer is needed and is missing or fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    plain = kind in PLAIN
    gguf = weights(directory, shape, kind) if plain else quantized(directory, shape, kind, peer_python)
    return Files(gguf, converted(gguf, gguf.with_suffix(".edgeq"), KEEP))


def converted(source: Path, path: Path, scheme: str) -> Path:
    """`path`, the model of `source` in that scheme; made anew where it is older than what makes it."""
    folders = [ROOT / "edgeq" / name for name in ("formats", "converters", "quantize")]
    if stale(path, source, *(code for folder in folders for code in folder.rglob("*.py"))):
        say(f"converting to {path}")
        convert(source, path, scheme=scheme, overwrite=True)
    return path


def weights(directory: Path, shape: str, kind: str) -> Path:
    """Random weights of a type that needs no rules."""
    path = directory / f"{shape}-{kind}.gguf"
    if stale(path, ROOT / "bench/weights.py"):
        say(f"writing {path}")
        write(path, SHAPES[shape], kind, name=f"random-{shape}")
    return path


def quantized(directory: Path, shape: str, kind: str, peer_python: str) -> Path:
    """The same weights as float16, quantized by llama.cpp."""
    path, source = directory / f"{shape}-{kind}.gguf", directory / f"{shape}-f16.gguf"
    if stale(path, ROOT / "bench/weights.py", ROOT / "bench/quantize.py"):
        weights(directory, shape, "f16")
        say(f"quantizing to {path}")
        quantize(source, path, kind, peer_python)
    return path


def decode_bytes(path: Path) -> int:
    """Bytes that one token must read: every tensor but blobs, the experts that it does not go to, and the
    embedding, where it needs one row.
    """
    with open_model(path) as file:
        tied, config = "output" not in file.tensors, file.config
        share = config.get("num_experts_per_tok", 1) / config.get("num_experts", 1)
        return round(
            sum(
                tensor.nbytes * (share if ".experts_" in name else 1)
                for name, tensor in file.tensors.items()
                if tensor.scheme.name != "bytes" and (tied or name != "embed")
            )
        )


def bits_per_weight(path: Path) -> float:
    """Of the matrices in a .gguf or .edgeq file, with their scales and padding."""
    with open_gguf(path) if path.suffix == ".gguf" else open_model(path) as file:
        matrices = [tensor for tensor in file.tensors.values() if len(tensor.shape) > 1]
        return 8 * sum(t.nbytes for t in matrices) / sum(math.prod(t.shape) for t in matrices)
