"""A real model in each of llama.cpp's file types, by its own quantizer: this engine beside it and beside the
exact sum. Nothing of it is kept in the repository.

usage: python -m tests.golden.llamacpp.ftypes CHECKPOINT [FTYPE ...]
       CHECKPOINT is a directory with a Llama; FTYPE as in LLAMA_FTYPE_MOSTLY_*; needs llama_cpp and gguf
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

import edgeq
from edgeq.converters import convert
from tests.golden import gguf_checkpoint, reference
from tests.golden.llamacpp.make_llamacpp import cosines, llamacpp_logits, vocabulary

FTYPES = (
    "Q4_K_M", "Q5_K_M", "Q6_K", "Q3_K_M", "Q2_K", "IQ4_XS", "IQ4_NL", "IQ3_S", "Q4_1", "Q5_0", "Q5_1",
    "TQ2_0",
)  # fmt: skip
TOKENS = 64
EXACT, LIKE, LIKE_IN_SUPER_BLOCKS = 1e-5, 0.9995, 0.999  # error of the largest logit; worst cosines


def quantized(source: Path, target: Path, ftype: str) -> None:
    """The GGUF file in another file type, by llama.cpp."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{ftype}")
    params.nthread = 1
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp does not quantize {source} to {ftype}")


def compare(path: Path, ids: list[int], vocab: int) -> tuple[float, float, float]:
    """(largest error of float activations, of the largest logit; the worst cosine of int8 activations with
    llama.cpp; the worst of llama.cpp with the exact sum) of a GGUF file whose numbers are kept."""
    convert(path, path.with_suffix(".edgeq"), scheme="keep")
    exact = reference.logits(gguf_checkpoint.read(path), ids)
    with edgeq.load(path.with_suffix(".edgeq"), kv="f32", act="f32") as model:
        error = np.abs(model.logits(ids) - exact).max() / np.abs(exact).max()
    theirs = llamacpp_logits(path, ids, vocab)
    with edgeq.load(path.with_suffix(".edgeq"), kv="f32") as model:
        like = cosines(model.logits(ids), theirs).min()
    return float(error), float(like), float(cosines(theirs, exact).min())


def main(directory: Path, ftypes: list[str]) -> bool:
    """Print a line for each file type; whether all are within the bounds."""
    checkpoint, good = reference.load(directory), True
    vocab = checkpoint.config["vocab_size"]
    ids = np.random.default_rng(7).integers(3, vocab, TOKENS).tolist()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "bf16.gguf"
        gguf_checkpoint.write(
            source, checkpoint, gguf_checkpoint.rounded("bf16"), vocabulary(directory, vocab)
        )
        for ftype in ftypes:
            path = Path(folder) / f"{ftype}.gguf"
            quantized(source, path, ftype)
            error, like, other = compare(path, ids, vocab)
            bound = LIKE_IN_SUPER_BLOCKS if "K" in ftype or ftype.startswith(("IQ", "TQ")) else LIKE
            good &= error <= EXACT and like >= bound
            print(
                f"{ftype:8} error {error:.1e}  cosine with llama.cpp {like:.6f}  (its own with the exact sum "
                f"{other:.6f}){'' if error <= EXACT and like >= bound else '  OUTSIDE'}",
                flush=True,
            )
            path.unlink()
            path.with_suffix(".edgeq").unlink()
    return good


if __name__ == "__main__":
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    sys.exit(not main(Path(sys.argv[1]), sys.argv[2:] or list(FTYPES)))
