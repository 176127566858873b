"""What a scheme's kernels take to compile, in seconds of processor time, beside what is wanted of them.

usage: python -m bench.compile [SCHEME ...] [--isa NAME] [--turns 3] [--json]

Each kernel is compiled in a process that has compiled another scheme's before: importing numba, and what all
schemes have in common, is paid once and is in the first line. Every turn is a process of its own, and the
figures are of each kernel's fastest. With --json the last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from edgeq.kernels import sources
from edgeq.kernels.row import CODES
from edgeq.kernels.table import KERNELS
from edgeq.simd import isa
from edgeq.simd.host import host_isa
from edgeq.simd.tag import Tag

LIMIT_S = 3.0  # for all kernels of a scheme
FIRST = "q8"  # compiled before the others


def kernels(scheme: str) -> list[str]:
    """The names of those that are compiled for a scheme."""
    return [name for name, row in KERNELS.items() if scheme in row.schemes and "experts" not in row.module]


def seconds(kernel: str, tag: Tag) -> float:
    """Of processor time, for one kernel."""
    from edgeq.simd.compile import compile_kernel

    start = time.process_time()
    compile_kernel(sources.entry(kernel, tag), "kernel")
    return time.process_time() - start


Took = dict[str, dict[str, float]]  # seconds of each scheme's kernels


def turn(isa_name: str, schemes: list[str]) -> Took:
    """Compile all kernels of FIRST, then those of the schemes."""
    tokens = isa.by_name(isa_name).tokens
    return {
        scheme: {name: seconds(name, Tag(isa_name, scheme, tokens)) for name in kernels(scheme)}
        for scheme in (FIRST, *schemes)
    }


def fastest(turns: list[Took]) -> Took:
    """Each kernel's, rounded."""
    (first, *_) = turns
    return {
        s: {n: round(min(one[s][n] for one in turns), 2) for n in kernels} for s, kernels in first.items()
    }


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.compile", description=__doc__, formatter_class=raw)
    parser.add_argument("schemes", nargs="*", help="all, if none is named")
    parser.add_argument("--isa", default=host_isa().name, help="instruction set [the host's best]")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    schemes = [name for name in dict.fromkeys(given.schemes or CODES) if name != FIRST]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        took = fastest([processes.submit(turn, given.isa, schemes).result() for _ in range(given.turns)])
    first_s = round(sum(took.pop(FIRST).values()), 2)
    print(f"{given.isa}; numba and {FIRST} {first_s} s; of each scheme after it at most {LIMIT_S} s")
    rows: list[dict[str, Any]] = []
    for scheme, each in took.items():
        total = round(sum(each.values()), 2)
        rows.append({"scheme": scheme, "seconds": total, "kernels": each})
        parts = ", ".join(f"{name} {s}" for name, s in each.items())
        print(f"{scheme:8}{total:6.2f}  {'over' if total > LIMIT_S else '    '}  {parts}")
    if given.json:
        print(json.dumps({"isa": given.isa, "first_s": first_s, "limit_s": LIMIT_S, "rows": rows}))


if __name__ == "__main__":
    main()
