"""Every call that can fail, in convert, run, verify and the packs, failed once in each way that it can.

usage: python -m tests.faults [--command NAME]... [--step N] [--every] [--list]

A command runs once to count its calls (files, folders, maps, locks, arrays, threads); then once for each
call and each of EIO, ENOSPC, EINTR, EACCES and ENOMEM (arrays: MemoryError, threads: RuntimeError), which
that call raises. Afterwards the file that it makes is absent, as before, or valid; no temporary file is
left; the exit code is not 0 unless the answer is the right one, and stderr has one line of error, or at
most one warning where all went well. Exit code 1 where something else happened.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.commands import COMMANDS
from tests.faults.runs import Bench


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__, formatter_class=raw)
    names = [command.name for command in COMMANDS]
    parser.add_argument("--command", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--step", type=int, default=1, metavar="N", help="only every Nth failure [1]")
    parser.add_argument(
        "--every", action="store_true", help="each call of a loop, not only the first two and the last"
    )
    parser.add_argument("--list", action="store_true", help="list the calls that would be failed")
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="edgeq-faults-"))
    failed = total = 0
    try:
        bench = Bench(place)
        for command in COMMANDS:
            if arguments.command and command.name not in arguments.command:
                continue
            if arguments.list:
                ended, problems = bench.calls(command)
                print(f"{command.name}: exit code {ended.code}, {len(ended.calls)} calls {problems or ''}")
                for call, count in Counter(ended.calls).items():
                    print(f"    {count:4} {call}")
                continue
            start, runs, found = time.perf_counter(), 0, []
            for fault in bench.faults(command, arguments.step, arguments.every):
                runs += 1
                if fault is not None:
                    found.append(fault)
                    print(f"FAULT {fault}", flush=True)
            seconds = time.perf_counter() - start
            print(
                f"{command.name}: {runs} failures injected, {len(found)} wrong, {seconds:.0f} s", flush=True
            )
            failed, total = failed + len(found), total + runs
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"{total} failures injected, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
