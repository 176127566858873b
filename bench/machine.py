"""What this machine can do at most: bytes read per second, and int8 multiply-adds per second.

usage: python -m bench.machine [--threads 1,2] [--repeat 7]        the last line of stdout is JSON

`read` sums a buffer of 1 GiB, each thread its own part: the rate at which decode could read weights. `dot`
runs the instruction set's int8 dot product on registers alone, in as many independent chains as hide its
latency: the rate at which prefill could multiply. The loop is one block of assembly that no optimizer looks
into.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

READ_BYTES = 1 << 30
DOT_MACS = 10**10  # per thread and measurement: about a tenth of a second


@dataclass(frozen=True)
class Loop:
    """One instruction set's dot product: `chain` is done for every accumulator a; all lanes count."""

    name: str
    features: tuple[str, ...]  # LLVM's names; the first row whose features the CPU has is the one
    setup: tuple[str, ...]  # operands into registers
    chain: tuple[str, ...]  # {a} is the accumulator's number
    accumulators: range
    macs: int  # multiply-adds of one chain
    registers: str  # the registers' name pattern


_X86_OPERANDS = (
    "movl $$0x0f070b03, %eax",  # codes 3, 11, 7, 15: within 4 bits
    "vmovd %eax, %xmm15",
    "vpbroadcastd %xmm15, %ymm15",
    "movl $$0x7f81550f, %eax",
    "vmovd %eax, %xmm14",
    "vpbroadcastd %xmm14, %ymm14",
)
_ONES = ("vpcmpeqd %ymm13, %ymm13, %ymm13", "vpsrlw $$15, %ymm13, %ymm13")
LOOPS = (
    Loop(
        "AVX-512 VNNI vpdpbusd",
        ("avx512vnni", "avx512f"),
        (
            *_X86_OPERANDS,
            "vinserti64x4 $$1, %ymm15, %zmm15, %zmm15",
            "vinserti64x4 $$1, %ymm14, %zmm14, %zmm14",
        ),
        ("vpdpbusd %zmm14, %zmm15, %zmm{a}",),
        range(14),
        64,
        "xmm{}",
    ),
    Loop(
        "AVX-VNNI vpdpbusd",
        ("avxvnni",),
        _X86_OPERANDS,
        ("{{vex}} vpdpbusd %ymm14, %ymm15, %ymm{a}",),
        range(14),
        32,
        "xmm{}",
    ),
    Loop(
        "AVX2 vpmaddubsw + vpmaddwd + vpaddd",
        ("avx2",),
        (*_X86_OPERANDS, *_ONES),
        (
            "vpmaddubsw %ymm14, %ymm15, %ymm12",
            "vpmaddwd %ymm13, %ymm12, %ymm12",
            "vpaddd %ymm12, %ymm{a}, %ymm{a}",
        ),
        range(10),
        32,
        "xmm{}",
    ),
    Loop(
        "NEON sdot",
        ("dotprod",),
        ("movi v30.16b, #7", "movi v31.16b, #0x55"),
        ("sdot v{a}.4s, v30.16b, v31.16b",),
        range(24),
        16,
        "v{}",
    ),
    Loop(
        "NEON smull + smlal2 + sadalp",
        ("neon",),
        ("movi v30.16b, #7", "movi v31.16b, #0x55"),
        (
            "smull v29.8h, v30.8b, v31.8b",
            "smlal2 v29.8h, v30.16b, v31.16b",
            "sadalp v{a}.4s, v29.8h",
        ),
        range(16),
        16,
        "v{}",
    ),
)
# Other ways to such sums on AVX2, whose dot product takes codes of 7 bits. Eight products of 4-bit codes and
# int8 fit a 16-bit lane (8 * 2 * 15 * 127 < 2**15): one widening multiply does for eight. Signed codes of 8
# bits need their sign moved to the other operand first.
AVX2_NARROW = Loop(
    "AVX2, 4-bit codes: 8 vpmaddubsw + 7 vpaddw per vpmaddwd",
    ("avx2",),
    (*_X86_OPERANDS, *_ONES),
    (
        "vpmaddubsw %ymm14, %ymm15, %ymm12",
        *("vpmaddubsw %ymm14, %ymm15, %ymm11", "vpaddw %ymm11, %ymm12, %ymm12") * 7,
        "vpmaddwd %ymm13, %ymm12, %ymm12",
        "vpaddd %ymm12, %ymm{a}, %ymm{a}",
    ),
    range(8),
    256,
    "xmm{}",
)


AVX2_SIGNED = Loop(
    "AVX2, signed 8-bit codes: vpsignb + the dot product",
    ("avx2",),
    (*_X86_OPERANDS, *_ONES),
    (
        "vpsignb %ymm15, %ymm14, %ymm11",
        "vpmaddubsw %ymm11, %ymm15, %ymm12",
        "vpmaddwd %ymm13, %ymm12, %ymm12",
        "vpaddd %ymm12, %ymm{a}, %ymm{a}",
    ),
    range(10),
    32,
    "xmm{}",
)


def cpu_features() -> dict[str, bool]:
    import llvmlite.binding as llvm

    return dict(llvm.get_host_cpu_features())


def dot_loop() -> Loop:
    """The best int8 dot product that this CPU has."""
    features = cpu_features()
    for loop in LOOPS:
        if all(features.get(feature) for feature in loop.features):
            return loop
    raise SystemExit("no int8 dot loop is known for this CPU; add a row to LOOPS in bench/machine.py")


def assembly(loop: Loop, x86: bool) -> str:
    """The body of the loop function: counts its argument down to zero."""
    body = [line.format(a=a) for a in loop.accumulators for line in loop.chain]
    again = ("decq $0", "jnz 1b") if x86 else ("subs $0, $0, #1", "b.ne 1b")
    return "\n".join([*loop.setup, ".p2align 5", "1:", *body, *again])


def loop_ir(loop: Loop) -> str:
    """LLVM IR of `loop(i64 iterations)`."""
    from llvmlite import ir

    x86 = "xmm" in loop.registers
    i64 = ir.IntType(64)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64]), "loop")
    builder = ir.IRBuilder(function.append_basic_block())
    registers = ["~{" + loop.registers.format(i) + "}" for i in range(16 if x86 else 32)]
    constraints = ",".join(["=r", "0", *registers, *(["~{eax}", "~{flags}"] if x86 else ["~{cc}"])])
    block = ir.InlineAsm(ir.FunctionType(i64, [i64]), assembly(loop, x86), constraints, side_effect=True)
    builder.call(block, function.args)
    builder.ret_void()
    return str(module)


def compile_loop(loop: Loop) -> tuple[Callable[[int], None], Any]:
    """(function of the iteration count, what must outlive it). Called through ctypes, which frees the GIL."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(loop_ir(loop)), machine)
    engine.finalize_object()
    return ctypes.CFUNCTYPE(None, ctypes.c_int64)(engine.get_function_address("loop")), engine


def read_kernel() -> Any:
    import numba

    @numba.njit(nogil=True, fastmath=True)
    def total(values: Any) -> Any:
        s = 0.0
        for i in range(values.size):
            s += values[i]
        return s

    return total


class Machine:
    """The two probes at a fixed number of threads; a call is one measurement of about a tenth of a second."""

    def __init__(self, threads: int, loop: Loop | None = None) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        self.loop = loop or dot_loop()
        self.run, self.alive = compile_loop(self.loop)
        self.buffer: Any = None

    def _all(self, call: Callable[..., Any], arguments: list[Any]) -> float:
        """Seconds until every thread has done its call."""
        start = time.perf_counter()
        for _ in self.pool.map(call, arguments):
            pass
        return time.perf_counter() - start

    def read_gbps(self) -> float:
        """10^9 bytes per second."""
        if self.buffer is None:
            self.total = read_kernel()
            self.buffer = np.ones(READ_BYTES // 4, np.float32)
            self.total(self.buffer[:16])
        return READ_BYTES / self._all(self.total, np.array_split(self.buffer, self.threads)) / 1e9

    def dot_gmacs(self) -> float:
        """10^9 multiply-adds per second."""
        chains = self.loop.macs * len(self.loop.accumulators)
        iterations = DOT_MACS // chains
        macs = iterations * chains * self.threads
        return macs / self._all(self.run, [iterations] * self.threads) / 1e9


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.machine", description=__doc__, formatter_class=raw)
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas")
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    loops = [dot_loop()]
    if loops[0].features == ("avx2",):
        loops += [AVX2_NARROW, AVX2_SIGNED]
    rows: list[dict[str, Any]] = []
    print(f"{'threads':>7} {'read GB/s':>10} {'dot GMAC/s':>11}   loop (medians of {arguments.repeat})")
    for threads in map(int, arguments.threads.split(",")):
        for loop in loops:
            machine = Machine(threads, loop)
            read = statistics.median(machine.read_gbps() for _ in range(arguments.repeat))
            dot = statistics.median(machine.dot_gmacs() for _ in range(arguments.repeat))
            figures = {"read_gbps": round(read, 2), "dot_gmacs": round(dot, 1)}
            rows.append({"threads": threads, "loop": loop.name, **figures})
            print(f"{threads:7} {read:10.1f} {dot:11.1f}   {loop.name}")
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
