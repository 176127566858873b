"""GGUF files as people have them: quantized by llama.cpp, by its own rules for each file type.

usage: python -m bench.quantize SOURCE.gguf TYPE OUT.gguf

The library of llama-cpp-python does it or, without that, the command llama-quantize. The rules choose each
matrix's type: Q4_K_M is a mixture, the head is Q6_K, and where 256 does not divide the columns a type with
blocks of 32 takes the place. Needs nothing of edgeq, so it may run under another interpreter.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Q8_0 = 8  # ggml_type


@dataclass(frozen=True)
class FileType:
    """What to ask llama.cpp for."""

    number: int  # llama_ftype
    name: str  # llama-quantize's word
    pure: bool = False  # the one type for all matrices but embedding and head, which are Q8_0


FILE_TYPES = {
    "q4_1": FileType(3, "Q4_1"),
    "q5_0": FileType(8, "Q5_0"),
    "q4_k_m": FileType(15, "Q4_K_M"),
    "q5_k_m": FileType(17, "Q5_K_M"),
    "q6_k": FileType(18, "Q6_K"),
    "iq4_xs": FileType(30, "IQ4_XS"),
    "mxfp4": FileType(38, "MXFP4_MOE", pure=True),  # its own rules give a model without experts no MXFP4
}


def quantize(source: Path, target: Path, kind: str, python: str = sys.executable) -> None:
    """Write `target` from the float GGUF `source` in a process of `python`; it appears whole, by rename.

    RuntimeError, in one sentence, where neither the library nor the command is there, or where they fail.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    command = [python, "-m", "bench.quantize", str(source.absolute()), kind, str(part.absolute())]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
            raise RuntimeError(f"{source.name} was not quantized to {kind}: {lines[-1]}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def by_library(api: Any, source: str, target: str, kind: FileType) -> str | None:
    """None, or what went wrong."""
    said: list[str] = []
    log = api.llama_log_callback(lambda level, text, data: said.append(text.decode(errors="replace")))
    api.llama_log_set(log, ctypes.c_void_p(0))
    options = api.llama_model_quantize_default_params()
    options.ftype, options.pure, options.nthread = kind.number, kind.pure, os.cpu_count() or 1
    if kind.pure:
        options.output_tensor_type = options.token_embedding_type = Q8_0
    if not api.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(options)):
        return None
    return " ".join("".join(said).strip().splitlines()[-1:]) or "llama.cpp gives no reason"


def by_command(command: str, source: str, target: str, kind: FileType) -> str | None:
    """None, or what went wrong."""
    types = ["--pure", "--output-tensor-type", "q8_0", "--token-embedding-type", "q8_0"] if kind.pure else []
    done = subprocess.run(
        [command, *types, source, target, kind.name, str(os.cpu_count() or 1)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return (done.stderr.strip().splitlines() or [f"{command} failed"])[-1] if done.returncode else None


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[2] not in FILE_TYPES:
        sys.exit(__doc__)
    source, kind, target = sys.argv[1], FILE_TYPES[sys.argv[2]], sys.argv[3]
    try:
        import llama_cpp
    except ImportError:
        command = shutil.which("llama-quantize")
        if command is None:
            sys.exit("neither llama-cpp-python nor the command llama-quantize is installed")
        sys.exit(by_command(command, source, target, kind))
    sys.exit(by_library(llama_cpp, source, target, kind))


if __name__ == "__main__":
    main()
