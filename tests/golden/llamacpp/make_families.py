"""Make families/*.npy here: the logits that llama.cpp gives for the checkpoints of ../families as GGUF files.

usage: python -m tests.golden.llamacpp.make_families [CASE ...]     from the top; needs llama_cpp and gguf

Matrices are float32, so that llama.cpp rounds no activations; its cache is float32, and there is no flash
attention. Only what its GELU reads is of 16 bits.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

from tests.golden.gguf_families import CASES, write_case
from tests.golden.llamacpp.make_llamacpp import HERE, llamacpp_logits

TOKENS = 32  # of the checkpoint's; the windows are of 16


def make(name: str) -> None:
    """Write families/NAME.npy: float32 [TOKENS, vocab]."""
    family = HERE.parent / "families" / CASES[name].family
    ids, theirs = np.load(family / "ids.npy")[:TOKENS], np.load(family / "logits.npy")[:TOKENS]
    with tempfile.TemporaryDirectory() as folder:
        path = write_case(Path(folder) / "model.gguf", name)
        logits = llamacpp_logits(path, ids.tolist(), theirs.shape[1])
    distance = np.abs(logits - theirs).max() / np.abs(theirs).max()
    print(f"{name:30} differs from what transformers gives for the checkpoint by {distance:.1e}")
    np.save(HERE / "families" / f"{name}.npy", logits)


if __name__ == "__main__":
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    (HERE / "families").mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or CASES:
        make(chosen)
