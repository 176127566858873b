"""What single spellings become on each machine, and the one function that some CPUs lack."""

from __future__ import annotations

import ctypes
import re
from functools import cache

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from edgeq.simd import compile, isa, verbs
from edgeq.simd.isa.vectors import F16X16, F32X16, I64, at, put
from edgeq.simd.target import Target
from tests.simd.native import same

CALL = re.compile(r"^\s+(?:callq?|bl|jmp)\s+\*?(?!\.L)(\S+)", re.MULTILINE)


# ---- spellings, assembled for CPUs that need not be this one ----
@cache
def _targets() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def assembled(row: isa.ISA, machine: str, body: str) -> str:
    """The assembly of a spelling between a load and a store, for the row's tier on the machine."""
    _targets()
    target = Target(row.name, machine)
    module = ir.Module(name="spelling")
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 2), "spelling")
    b = ir.IRBuilder(function.append_basic_block())
    if body == "pause":
        row.lower["pause"](b)
    else:
        given = at(b, function.args[1], F16X16 if body == "widen_f16" else F32X16)
        put(b, function.args[0], row.lower[body](b, given))
    b.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return str(compile.target_machine(target).emit_assembly(parsed))


EXPECTED = [  # row, machine, spelling, what is there, what is not
    ("avx512vnni", "x86_64", "widen_f16", "vcvtph2ps", "vpsll"),
    ("avx512vnni", "x86_64", "narrow_f16", "vcvtps2ph", "vpsrl"),
    ("avx512vnni", "x86_64", "pause", "pause", "call"),
    ("avxvnni", "x86_64", "widen_f16", "vcvtph2ps", "vpsll"),
    ("avxvnni", "x86_64", "narrow_f16", "vcvtps2ph", "vpsrl"),
    ("avx2", "x86_64", "widen_f16", "vcvtph2ps", "vpsll"),
    ("avx2", "x86_64", "narrow_f16", "vcvtps2ph", "vpsrl"),
    ("avx2", "x86_64", "pause", "pause", "call"),
    ("generic", "x86_64", "widen_f16", "pslld", "call"),
    ("generic", "x86_64", "narrow_f16", "psrld", "call"),
    ("generic", "aarch64", "widen_f16", "shl", "bl"),
    ("generic", "aarch64", "narrow_f16", "shr", "bl"),
    *((name, "aarch64", "widen_f16", "fcvtl", "shl") for name in ("neon", "dotprod", "i8mm")),
    *((name, "aarch64", "narrow_f16", "fcvtn", "shr") for name in ("neon", "dotprod", "i8mm")),
    *((name, "aarch64", "pause", "isb", "yield") for name in ("neon", "dotprod", "i8mm")),
]


@pytest.mark.parametrize(("name", "machine", "body", "there", "absent"), EXPECTED)
def test_spelling(name: str, machine: str, body: str, there: str, absent: str) -> None:
    text = assembled(isa.by_name(name), machine, body)
    words = [line.split()[0] for line in text.splitlines() if line.startswith("\t") and line[1] != "."]
    assert any(there in word for word in words) and not any(absent in word for word in words)
    assert not CALL.findall(text)


def test_multiply_and_add_without_the_instruction() -> None:
    """The fmaf that baseline x86-64 calls rounds once: everyday numbers, ties that the lost bits break,
    subnormal results, cancellation, infinities.
    """
    module = llvm.parse_assembly(compile.FUSED)
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    word = ctypes.c_float
    fmaf = ctypes.CFUNCTYPE(word, word, word, word)(engine.get_function_address("fmaf"))
    rng = np.random.default_rng(0)
    x, y, z = rng.standard_normal((3, 2000)).astype(np.float32)
    z[::4] = -(x * y)[::4]
    x[1::4], y[1::4] = 1 + 2.0 ** -rng.integers(1, 23, 500).astype(np.float32), np.float32(2.0**-75)
    x[1::4] *= np.float32(2.0**-75)
    z[1::4] = rng.integers(0, 2**20, 500) * np.float32(2.0**-149)
    x[2::4] = rng.integers(0, 2**32, 500, dtype=np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        want = verbs.MEANING["fma"](x, y, z)
    got = np.array([fmaf(*map(float, row)) for row in zip(x, y, z, strict=True)], np.float32)
    assert same(got, want, np.float32)
