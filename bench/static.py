"""Cycles of the products' loops, counted by llvm-mca: for processors that are not at hand.

usage: python -m bench.static [SCHEME ...] [--cpu NAME,...] [--json]

The loop over a tile's groups, as LLVM compiles it for the tier, runs in llvm-mca's model of a processor. No
load misses the cache there and no branch is mispredicted, so that what is printed is a bound and no timing. A
row is a full tile, whose codes were unpacked before where the scheme does so, or a single token, or one of
attention's products. What is estimated of a board says so. Needs llvm-mca (Debian: llvm-19). With --json the
last line of stdout is one object.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.assembly import STACK, counted, functions, inner_loops, instructions, tile
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels import sources
from edgeq.kernels.row import CODES
from edgeq.simd import compile, isa
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target

TURNS = 200  # of a loop, for each count
COUNTED = ("q4", "q8", "k4", "k5", "k6", "e8", "e4", "e3", "t2")
MODEL_MACS = 0.969e9  # of a token of TinyLlama-1.1B's matrices, without head and embedding
REAL = 0.71, 0.85  # whole prompts beside this count: llama.cpp's Q5_K and Q6_K on a Pi 5
TOOLS = ("llvm-mca-19", "llvm-mca-20", "llvm-mca-21", "llvm-mca-18", "llvm-mca")


@dataclass(frozen=True)
class Cpu:
    """A processor, its model in LLVM, and what its integer units do at most."""

    name: str
    isa: str  # the tier that it runs
    model: str  # LLVM's name
    peak: int  # multiply-adds of bytes in a cycle, of one core
    dispatch: int = 0  # instructions a cycle where LLVM's model is of a kin; 0: as the model has it
    board: str = ""
    cores: int = 0
    ghz: float = 0.0

    @property
    def arguments(self) -> list[str]:
        machine = isa.by_name(self.isa).machine.replace("_", "-")
        features = [f"+{name}" for name in ("dotprod", "i8mm") if machine == "aarch64"]
        known = [f"-mattr={','.join(features)}"] if features else []
        width = [f"-dispatch={self.dispatch}"] if self.dispatch else []
        return [f"-march={machine}", f"-mcpu={self.model}", *width, *known]


# LLVM's own models of Cortex-A76 to A78 are those of Cortex-A57: Neoverse N1 is an A76 that dispatches more.
CPUS = (
    Cpu("Cortex-A76", "dotprod", "neoverse-n1", 32, 4, "Raspberry Pi 5", 4, 2.4),
    Cpu("Cortex-A72", "neon", "cortex-a72", 8, 0, "Raspberry Pi 4", 4, 1.8),
    Cpu("Cortex-A53", "neon", "cortex-a53", 8, 0, "Raspberry Pi 3B+", 4, 1.4),
    Cpu("Cortex-A710", "i8mm", "neoverse-n2", 64, 5),
    Cpu("Neoverse V1", "i8mm", "neoverse-v1", 128, 8),
    Cpu("Zen 3", "avx2", "znver3", 64),
    Cpu("Alder Lake", "avxvnni", "alderlake", 64),
    Cpu("Ice Lake", "avx512vnni", "icelake-server", 128),
    Cpu("Sapphire Rapids", "avx512vnni", "sapphirerapids", 128),
    Cpu("Zen 4", "avx512vnni", "znver4", 64),
)
PRODUCT = re.compile(r"\s(vpdp(?:busd|wssd)|vpmadd(?:ubsw|wd)|[us]+mmla|[us]+dot|sml?[au]ll?2?)\s")
ROWS, ATTENDED = 16, 32  # rows of a tile; columns of attention's groups


@dataclass(frozen=True)
class Loop:
    """What was counted of a loop on a processor."""

    cpu: str
    kernel: str  # a scheme, or what attention multiplies
    tokens: int
    cycles: float
    macs: int
    code: int  # instructions
    stack: int  # touches of the stack
    peak: int

    @property
    def rate(self) -> float:
        """Multiply-adds a cycle."""
        return self.macs / self.cycles

    def row(self) -> dict[str, Any]:
        return {
            "cpu": self.cpu,
            "kernel": self.kernel,
            "tokens": self.tokens,
            "cycles": round(self.cycles, 1),
            "macs_per_cycle": round(self.rate, 1),
            "of_peak": round(self.rate / self.peak, 2),
            "stack": self.stack,
            "instructions_per_1000_macs": round(1000 * self.code / self.macs),
        }


@cache
def mca() -> str:
    """The program; SystemExit where there is none."""
    for name in TOOLS:
        if found := shutil.which(name):
            return found
    raise SystemExit(f"none of {', '.join(TOOLS)} is installed; Debian has them in the package llvm-19")


def cycles(loop: list[str], cpu: Cpu) -> float:
    """Of one turn of the loop. SystemExit says what llvm-mca did not take."""
    command = [mca(), *cpu.arguments, f"-iterations={TURNS}", "-instruction-info=0", "-resource-pressure=0"]
    text = "\n".join(instructions(loop)) + "\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"{command[0]} for {cpu.name}: {done.stderr.strip()[:300]}")
    return int(found[1]) / TURNS


@cache
def assembly(kernel: str, tag: Tag) -> str:
    return compile.assembly(sources.entry(kernel, tag), Target(tag.isa, tag.isa_row.machine))


def group_loop(text: str) -> list[str]:
    """The innermost loop with the most products: all columns that share a scale, of a tile."""
    return max(inner_loops(text), key=lambda loop: counted(loop, PRODUCT))


def measured(cpu: Cpu, kernel: str, tokens: int, columns: int, loop: list[str]) -> Loop:
    code = instructions(loop)
    macs = ROWS * columns * tokens
    return Loop(cpu.name, kernel, tokens, cycles(loop, cpu), macs, len(code), counted(code, STACK), cpu.peak)


def products(cpu: Cpu, scheme: str) -> list[Loop]:
    """A full tile and a single token of a scheme's matrix product."""
    full = isa.by_name(cpu.isa).tokens
    tiles = {}
    for name, text in functions(assembly("matmul", Tag(cpu.isa, scheme, full))).items():
        if found := tile(name):
            tiles[found] = text
    best = next(tiles[full, codes] for codes in ("unpacked", "packed") if (full, codes) in tiles)
    return [
        measured(cpu, scheme, tokens, SCHEMES[scheme].group, group_loop(text))
        for tokens, text in ((full, best), (1, tiles[1, "packed"]))
    ]


def attention(cpu: Cpu) -> list[Loop]:
    """The products of queries and keys, and of probabilities and values, for a full tile and one query."""
    full = isa.by_name(cpu.isa).tokens
    loops = inner_loops(assembly("attend_int8", Tag(cpu.isa, "q8", full)))
    keys, values = (each for each in zip(*[(x for x in loops if counted(x, PRODUCT))] * 2, strict=True))
    return [
        measured(cpu, name, tokens, ATTENDED, loop)
        for name, both in (("keys", keys), ("values", values))
        for tokens, loop in zip((full, 1), sorted(both, key=len, reverse=True), strict=True)
    ]


def estimate(cpu: Cpu, loops: list[Loop]) -> list[str]:
    """Tokens a second of a prompt, of TinyLlama-1.1B's shape, that a board would do."""
    found = []
    for loop in loops:
        if loop.tokens > 1 and loop.kernel in ("q4", "q8"):
            bound = loop.rate * cpu.cores * cpu.ghz * 1e9 / MODEL_MACS
            low, high = (round(bound * part) for part in REAL)
            found.append(f"{loop.kernel} {low} to {high}")
    return found


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.static", description=__doc__, formatter_class=raw)
    parser.add_argument("schemes", nargs="*", help=f"[{' '.join(COUNTED)}]")
    parser.add_argument("--cpu", default="", help=f"of {', '.join(cpu.name for cpu in CPUS)} [all]")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    named = [name.strip().lower() for name in given.cpu.split(",") if name.strip()]
    known = [cpu.name.lower() for cpu in CPUS]
    if unknown := [name for name in named if name not in known]:
        sys.exit(f"no model of {', '.join(unknown)}; there are {', '.join(cpu.name for cpu in CPUS)}")
    if unknown := [name for name in given.schemes if name not in CODES]:
        sys.exit(f"no kernel multiplies by {', '.join(unknown)}; there are {', '.join(CODES)}")
    rows: list[dict[str, Any]] = []
    for cpu in CPUS:
        if named and cpu.name.lower() not in named:
            continue
        dispatch = f", {cpu.dispatch} instructions dispatched a cycle" if cpu.dispatch else ""
        print(f"{cpu.name} ({cpu.isa}): model {cpu.model}{dispatch}; at most {cpu.peak} MACs a cycle")
        print("  kernel   tokens  cycles  MACs/cycle  of peak  stack  instructions per 1000 MACs")
        loops = [loop for scheme in given.schemes or COUNTED for loop in products(cpu, scheme)]
        loops += [] if given.schemes else attention(cpu)
        for row in (loop.row() for loop in loops):
            rows.append(row)
            print(
                f"  {row['kernel']:8}{row['tokens']:7}{row['cycles']:8}{row['macs_per_cycle']:12}"
                f"{row['of_peak']:9.0%}{row['stack']:7}{row['instructions_per_1000_macs']:10}",
                flush=True,
            )
        if cpu.board and (found := estimate(cpu, loops)):
            low, high = REAL
            print(
                f"  ESTIMATE, nothing was run: prompts of a 1.1B model on a {cpu.board} ({cpu.cores} x "
                f"{cpu.ghz} GHz), at {low} to {high} of the count: {', '.join(found)} tokens a second"
            )
    if given.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
