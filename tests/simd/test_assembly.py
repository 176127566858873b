"""The hoped-for instructions are there: in whole kernels for this CPU, in single spellings for others."""

from __future__ import annotations

import ctypes
import hashlib
import re
import struct
import sys
from functools import cache

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from edgeq.formats.schemes import SCHEMES
from edgeq.kernels.catalog import KERNELS
from edgeq.simd import compile, isa, store, verbs
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target
from tests.simd.native import same
from tests.simd.rows import HERE, runnable

CALL = re.compile(r"^\s+(?:callq?|bl|jmp)\s+\*?(?!\.L)(\S+)", re.MULTILINE)
HAS_AVX2 = isa.by_name("avx2") in runnable()


# ---- spellings, assembled for CPUs that need not be this one ----
@cache
def _targets() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def assembled(cpu: str, triple: str, body: str, row: isa.ISA, bits: int = 4, zero: int = 8) -> str:
    """The assembly of a spelling between loads and stores, as the kernels use it."""
    _targets()
    module = ir.Module(name="spelling")
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [isa.I64] * 3), "spelling")
    b = ir.IRBuilder(function.append_basic_block())

    def load(n: int, t: ir.Type) -> ir.Value:
        return b.load(b.inttoptr(function.args[n], t.as_pointer()), align=1)

    def store(v: ir.Value) -> None:
        b.store(v, b.inttoptr(function.args[0], v.type.as_pointer()), align=1)

    if body == "dots":
        dots = row.lower["dots"](bits, zero)
        total = load(2, isa.I32X16)
        acc = dots.start(b, total)
        for _ in range(2):
            acc = dots.add(b, acc, load(1, isa.CODES), load(2, isa.CODES))
        store(dots.finish(b, acc, total))
    elif body == "dot4":
        store(row.lower["dot4"](b, load(0, isa.I32X16), load(1, isa.CODES), load(2, isa.CODES)))
    elif body == "widen":
        store(row.lower["widen_f16"](b, load(1, isa.F16X16)))
    elif body == "narrow":
        store(row.lower["narrow_f16"](b, load(1, isa.F32X16)))
    else:
        row.lower["pause"](b)
    b.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    return str(machine.emit_assembly(parsed))


X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
EXPECTED = [  # row, CPU, spelling, scheme, what is there, what is not
    ("avx512vnni", "znver4", "dots", "q4", "vpdpbusd", "vpmaddubsw"),
    ("avx512vnni", "znver4", "dots", "q8", "vpdpbusd", "vpmaddubsw"),
    ("avx512vnni", "cascadelake", "dots", "q4", "vpdpbusd", "vpmaddubsw"),
    ("avx512vnni", "znver4", "dot4", "", "vpdpbusd", "vpmaddubsw"),
    ("avx512vnni", "znver4", "widen", "", "vcvtph2ps", "vpsll"),
    ("avx512vnni", "znver4", "narrow", "", "vcvtps2ph", "vpsrl"),
    ("avx2", "haswell", "dots", "q4", "vpmaddubsw", "vpdpbusd"),
    ("avx2", "haswell", "dots", "q8", "vpsignb", "vpdpbusd"),
    ("avx2", "haswell", "dots", "q8", "vpmaddubsw", "vpdpbusd"),
    ("avx2", "haswell", "dot4", "", "vpmaddubsw", "vpdpbusd"),
    ("avx2", "haswell", "widen", "", "vcvtph2ps", "vpsll"),
    ("avx2", "haswell", "narrow", "", "vcvtps2ph", "vpsrl"),
    ("avx2", "haswell", "pause", "", "pause", "call"),
    ("generic", "x86-64", "dots", "q4", "pmaddwd", "ymm"),
    ("generic", "x86-64", "dots", "q8", "ret", "ymm"),
    ("generic", "x86-64", "widen", "", "pslld", "call"),
    ("generic", "x86-64", "narrow", "", "psrld", "call"),
]


@pytest.mark.parametrize(("name", "cpu", "body", "scheme", "there", "absent"), EXPECTED)
def test_spelling(name: str, cpu: str, body: str, scheme: str, there: str, absent: str) -> None:
    row = SCHEMES[scheme or "q4"]
    text = assembled(cpu, X86, body, isa.by_name(name), row.bits, row.zero)
    assert there in text and absent not in text
    assert not CALL.findall(text)


def test_vnni_takes_a_line_whole() -> None:
    """One instruction for 16 rows and 4 columns, in 512 bits."""
    text = assembled("znver4", X86, "dots", isa.by_name("avx512vnni"))
    assert len(re.findall(r"vpdpbusd\s.*%zmm", text)) == 2


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76"])
@pytest.mark.parametrize("body", ["dots", "dot4", "widen", "narrow"])
def test_generic_needs_no_library_on_arm(cpu: str, body: str) -> None:
    text = assembled(cpu, ARM, body, isa.by_name("generic"))
    assert "ret" in text and not CALL.findall(text)


# ---- whole kernels, for this CPU ----
@cache
def assembly(name: str, tag: Tag) -> str:
    return compile.assembly(name, tag)


def inner_loops(text: str) -> list[list[str]]:
    """The innermost loops of the assembly: from a label to the jump back to it, with no such jump between."""
    lines = text.splitlines()
    labels = {line.split(":")[0]: n for n, line in enumerate(lines) if re.match(r"\S+:", line)}
    loops = []
    for n, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\S+)", line)
        if jump and labels.get(jump[1], n) < n:
            loops.append((labels[jump[1]], n))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [lines[start : end + 1] for start, end in inner]


def test_inner_loops_are_found() -> None:
    text = "a:\n  nop\n.Lb:\n  add %rax, %rbx\n  jne .Lb\n  jmp a\nc:\n jne d\nd:\n"
    assert inner_loops(text) == [[".Lb:", "  add %rax, %rbx", "  jne .Lb"]]


@pytest.mark.skipif(not HAS_AVX2, reason="this CPU has no AVX2")
@pytest.mark.parametrize(("scheme", "lines"), [("q4", 8), ("q8", 8)])
def test_matmul_avx2(scheme: str, lines: int) -> None:
    """The line loops multiply with vpmaddubsw, and for four-bit codes never touch the stack."""
    text = assembly("matmul", Tag("avx2", scheme, isa.by_name("avx2").tokens))
    loops = [loop for loop in inner_loops(text) if any("vpmaddubsw" in line for line in loop)]
    assert loops and "vpdpbusd" not in text
    products = [sum("vpmaddubsw" in line for line in loop) for loop in loops]
    assert max(products) >= lines, products
    if scheme == "q4":
        assert not [line for loop in loops for line in loop if "rsp" in line]


def undefined(blob: bytes) -> set[str]:
    """The names that an ELF object of 64 bits wants from outside."""
    assert blob[:6] == b"\x7fELF\x02\x01"
    at, size, count = struct.unpack_from("<Q", blob, 40)[0], *struct.unpack_from("<HH", blob, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", blob, at + n * size) for n in range(count)]
    names = set()
    for section in sections:
        if section[1] != 2:  # a table of symbols
            continue
        strings = sections[section[6]][4]
        for n in range(section[5] // 24):
            name, _, _, where = struct.unpack_from("<IBBH", blob, section[4] + n * 24)
            if name and not where:
                names.add(blob[strings + name : blob.index(b"\0", strings + name)].decode())
    return names


def every_request() -> list[store.Request]:
    """The kernels of the catalog for this CPU, with the schemes that their tests use."""
    schemes = {
        "embed": ("q4", "q8"),
        "matmul": ("q4", "q8"),
        "matmul_act": ("q4", "q8"),
        "store_float": ("f32", "f16"),
        "embed_float": ("f32", "f16", "bf16"),
        "matmul_float": ("f32", "f16", "bf16"),
        "store_int8": ("q8",),
        "attend_float": ("f32", "f16"),
        "attend_int8": ("q8",),
    }
    row = isa.by_name(HERE)
    requests = [(name, Tag(row.name, s, row.tokens)) for name in KERNELS for s in schemes.get(name, ("",))]
    return [(name, Tag(tag.isa) if KERNELS[name].plain else tag) for name, tag in requests]


def key_of(name: str, tag: Tag) -> str:
    """The end of the name of a kernel's file."""
    shape = tag.scheme_row if tag.scheme else ""
    return hashlib.sha256(f"{store._sources_digest()} {name} {tag!r} {shape!r}".encode()).hexdigest()[:32]


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF objects")
def test_kernels_want_nothing_from_outside() -> None:
    """No object calls fmaf, __extendhfsf2, memset or any other function by name."""
    requests = every_request()
    store.kernels().load(requests)
    folder = store.cache_folder()
    for name, tag in requests:
        (path,) = folder.glob(f"{name}-{tag.scheme or 'any'}-{tag.isa}-{key_of(name, tag)}.kernel")
        assert not undefined(path.read_bytes()[32:]), (name, tag)


def test_undefined_names_are_seen() -> None:
    """An object that does call fmaf says so."""
    source = (
        "declare float @fmaf(float, float, float)\ndefine float @f(float %x) {\n"
        "%y = call float @fmaf(float %x, float %x, float %x)\nret float %y\n}"
    )
    blob = compile.target_machine(Target.of(HERE)).emit_object(llvm.parse_assembly(source))
    assert undefined(bytes(blob)) == {"fmaf"}


# ---- whole kernels, for CPUs that this machine is not ----
ELSEWHERE = [  # tier, machine, what multiplies there, what does not
    ("avx512vnni", "x86_64", r"vpdpbusd\s.*%zmm", "vpmaddubsw"),
    ("avx2", "x86_64", r"vpmaddubsw\s.*%ymm", "zmm"),
    ("generic", "x86_64", r"pmaddwd\s.*%xmm", "ymm"),
    ("generic", "aarch64", r"fmla\s+v\d+\.4s", "sdot"),
]


@pytest.mark.parametrize(("name", "machine", "there", "absent"), ELSEWHERE)
def test_kernels_are_made_for_any_machine(name: str, machine: str, there: str, absent: str) -> None:
    """Whatever this CPU is: LLVM optimizes for the target and nothing is emitted for this one."""
    tag = Tag(name, "q4", isa.by_name(name).tokens)
    text = compile.assembly("matmul", tag, Target(name, machine))
    assert re.search(there, text) and absent not in text


def test_a_tier_is_all_that_its_code_uses() -> None:
    """AVX2 code for the tier has no instruction of a later extension, though this CPU may."""
    text = compile.assembly("attend_int8", Tag("avx2", "q8", 4), Target("avx2", "x86_64"))
    assert not re.search(r"\s(mulx|shlx|shrx|sarx|rorx|tzcnt\w|lzcnt\w|vpdpbusd)\s", text)


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
