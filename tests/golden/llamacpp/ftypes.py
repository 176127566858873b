"""A real model in each of llama.cpp's file types, by its own quantizer: this engine beside it and beside the
exact sum. Nothing of it is kept in the repository.

usage: python -m tests.golden.llamacpp.ftypes CHECKPOINT TEXT [FTYPE ...]
       CHECKPOINT is a directory with a Llama, TEXT a file in a language that it knows; FTYPE as in
       LLAMA_FTYPE_MOSTLY_*, or a type of ggml for all matrices; needs llama_cpp and gguf

Perplexity is of the second halves of windows of the text, as llama.cpp counts it.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

import edgeq
from edgeq.converters import convert
from tests.golden import gguf_checkpoint, reference
from tests.golden.llamacpp.make_llamacpp import cosines, ggml_rounded, llamacpp_logits

FTYPES = (
    "Q4_K_M", "Q5_K_M", "Q6_K", "Q3_K_M", "Q2_K", "IQ4_XS", "IQ4_NL", "IQ3_S", "Q4_1", "Q5_0", "Q5_1",
    "TQ2_0",
)  # fmt: skip
# Types that llama.cpp's quantizer makes no whole file of without data, or only with experts.
ALONE = ("IQ2_XS", "MXFP4")
ROUNDED_BY_32 = ("IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "MXFP4")  # activations, by llama.cpp; others by 256
Array = NDArray[np.float64]
TOKENS, WINDOWS = 128, 24
EXACT, LIKE, LIKE_IN_SUPER_BLOCKS = 1e-5, 0.9995, 0.999  # error of the largest logit; worst cosines
PERPLEXITY = 0.003  # of llama.cpp's


@dataclass(frozen=True)
class Likeness:
    """Of a GGUF file whose numbers are kept."""

    error: float  # of float activations and the exact sum, of the largest logit
    like: Array  # the cosine of int8 activations with llama.cpp at each position
    ours: Array  # of int8 activations with float ones
    theirs: Array  # of llama.cpp with float activations
    perplexity: float  # of llama.cpp
    ratio: float  # of this engine's to it

    def good(self, super_blocks: bool) -> bool:
        bound = LIKE_IN_SUPER_BLOCKS if super_blocks else LIKE
        return self.error <= EXACT and self.like.min() >= bound and abs(self.ratio - 1) <= PERPLEXITY

    def __str__(self) -> str:
        ours, more = self.ratio * self.perplexity, 100 * (self.ratio - 1)
        return (
            f"error {self.error:.1e}  worst of {len(self.like)} cosines with llama.cpp {self.like.min():.6f} "
            f"(with the exact sum {self.ours.min():.6f}, llama.cpp's own {self.theirs.min():.6f})  "
            f"perplexity {ours:.4f}, llama.cpp's {self.perplexity:.4f} ({more:+.3f} %)"
        )


def quantized(source: Path, target: Path, ftype: str) -> None:
    """The GGUF file in another file type, by llama.cpp."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{ftype}")
    params.nthread = 1
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp does not quantize {source} to {ftype}")


def surprise(logits: Any, ids: list[int]) -> Any:
    """Nats of each token of the second half of a window, float64."""
    half = len(ids) // 2
    rows = np.asarray(logits, np.float64)[half - 1 : -1]
    rows = rows - rows.max(1, keepdims=True)
    return np.log(np.exp(rows).sum(1)) - rows[np.arange(len(rows)), ids[half:]]


def compare(path: Path, windows: list[list[int]], vocab: int) -> Likeness:
    convert(path, path.with_suffix(".edgeq"), scheme="keep")
    first = windows[0]
    exact = reference.logits(gguf_checkpoint.read(path), first)
    with edgeq.load(path.with_suffix(".edgeq"), kv="f32", act="f32") as model:
        floats = [model.logits(ids) for ids in windows]
    error = np.abs(floats[0] - exact).max() / np.abs(exact).max()
    theirs = [llamacpp_logits(path, ids, vocab) for ids in windows]
    with edgeq.load(path.with_suffix(".edgeq"), kv="f32") as model:
        ours = [model.logits(ids) for ids in windows]
    mean = [
        np.mean([surprise(rows, ids) for rows, ids in zip(every, windows, strict=True)])
        for every in (ours, theirs)
    ]
    pairs = (ours, theirs), (ours, floats), (theirs, floats)
    like = [np.concatenate([cosines(x, y) for x, y in zip(*pair, strict=True)]) for pair in pairs]
    perplexity, ratio = float(np.exp(mean[1])), float(np.exp(mean[0] - mean[1]))
    return Likeness(float(error), like[0], like[1], like[2], perplexity, ratio)


def alone(kind: gguf.GGMLQuantizationType) -> Any:
    """All matrices of that type, by ggml's own rounding, but for those whose columns are no whole blocks."""
    block, _ = gguf.GGML_QUANT_SIZES[kind]

    def stored(name: str, values: Any) -> gguf_checkpoint.Stored:
        if values.shape[1] % block:
            return gguf.GGMLQuantizationType.F16, values.astype(np.float16), 1.0
        return ggml_rounded(kind, values)

    return stored


def main(directory: Path, text: Path, ftypes: list[str]) -> bool:
    """Print a line for each file type; whether all are within the bounds."""
    checkpoint, good = reference.load(directory), True
    vocab = checkpoint.config["vocab_size"]
    words = gguf_checkpoint.vocabulary(directory, vocab)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "bf16.gguf"
        gguf_checkpoint.write(source, checkpoint, gguf_checkpoint.rounded("bf16"), words)
        convert(source, source.with_suffix(".edgeq"), scheme="keep")
        with edgeq.load(source.with_suffix(".edgeq")) as model:
            ids = model.tokenizer.encode(text.read_text(encoding="utf-8")[: 8 * TOKENS * WINDOWS])
        windows = [ids[at : at + TOKENS] for at in range(0, len(ids) - TOKENS + 1, TOKENS)][:WINDOWS]
        for ftype in ftypes:
            path = Path(folder) / f"{ftype}.gguf"
            if ftype in ALONE:
                kind = gguf.GGMLQuantizationType[ftype]
                gguf_checkpoint.write(path, checkpoint, alone(kind), words)
            else:
                quantized(source, path, ftype)
            found = compare(path, windows, vocab)
            within = found.good(ftype not in ROUNDED_BY_32)
            good &= within
            print(f"{ftype:8} {found}{'' if within else '  OUTSIDE'}", flush=True)
            path.unlink()
            path.with_suffix(".edgeq").unlink()
    return good


if __name__ == "__main__":
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    sys.exit(not main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or [*FTYPES, *ALONE]))
