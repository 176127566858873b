"""What a scheme's kernels take to compile, in seconds of processor time, beside what is wanted of them.

usage: python -m bench.compile [SCHEME ...] [--isa NAME] [--json]

Each kernel is compiled in this process, which has compiled another scheme's before: importing numba, and what
all schemes have in common, is paid once and is in the first line. With --json the last line of stdout is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from edgeq.kernels import sources
from edgeq.kernels.catalog import CODES, KERNELS
from edgeq.simd import isa
from edgeq.simd.host import host_isa
from edgeq.simd.tag import Tag

LIMIT_S = 3.0  # for all kernels of a scheme
FIRST = "q8"  # compiled before the others


def kernels(scheme: str) -> list[str]:
    """The names of those that are compiled for a scheme."""
    return [name for name, row in KERNELS.items() if scheme in row.schemes]


def seconds(kernel: str, tag: Tag) -> float:
    """Of processor time, for one kernel."""
    from edgeq.simd.compile import compile_kernel

    start = time.process_time()
    compile_kernel(sources.entry(kernel, tag), "kernel")
    return time.process_time() - start


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.compile", description=__doc__, formatter_class=raw)
    parser.add_argument("schemes", nargs="*", help="all, if none is named")
    parser.add_argument("--isa", default=host_isa().name, help="instruction set [the host's best]")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    tokens = isa.by_name(given.isa).tokens
    start = time.process_time()
    for name in kernels(FIRST):
        seconds(name, Tag(given.isa, FIRST, tokens))
    first_s = round(time.process_time() - start, 2)
    print(f"{given.isa}; numba and the first scheme {first_s} s; of each scheme after it at most {LIMIT_S} s")
    rows: list[dict[str, Any]] = []
    for scheme in given.schemes or list(CODES):
        took = {n: round(seconds(n, Tag(given.isa, scheme, tokens)), 2) for n in kernels(scheme)}
        total = round(sum(took.values()), 2)
        rows.append({"scheme": scheme, "seconds": total, "kernels": took})
        parts = ", ".join(f"{name} {s}" for name, s in took.items())
        print(f"{scheme:8}{total:6.2f}  {'over' if total > LIMIT_S else '    '}  {parts}")
    if given.json:
        print(json.dumps({"isa": given.isa, "first_s": first_s, "limit_s": LIMIT_S, "rows": rows}))


if __name__ == "__main__":
    main()
