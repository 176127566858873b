"""Hostile inputs for every parser of edgeq.

usage: python -m tests.fuzz [--parser NAME]... [--count N] [--seconds S] [--seed S] [--jobs N] [--heavy]
    [--json] [--faults DIR]

Each parser of tests/fuzz/parsers.py gets its sound inputs, the corpus that is kept beside them, and mutants
that keep the file's structure (offsets, lengths, checksums), so that most of them get past the first
checks. A mutant whose outcome is a new sentence is mutated further. The rule: an input is taken or refused
with an error of edgeq's own, one printable line, within 2 s and 200 MB, and nothing writes to stderr.

--count is for each parser (by default that of a short run); with --seconds rounds follow one another, with
a new seed each and shares by the parsers' weights, until the time is over. A failing input is written to a
file, for `--replay FILE --parser NAME` and, once mended, for the corpus; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgeq.errors import EdgeqError
from tests.fuzz import heavy, worker
from tests.fuzz.parsers import PARSERS, Parser
from tests.fuzz.worker import Fault, Tally

ROUND = 20_000  # inputs of a parser of weight 1 in one round of a long run


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=raw)
    parser.add_argument(
        "--parser", action="append", choices=list(PARSERS), metavar="NAME", help=", ".join(PARSERS)
    )
    parser.add_argument("--count", type=int, metavar="N", help="mutants for each parser")
    parser.add_argument("--seconds", type=float, metavar="S", help="go on with new seeds for so long")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of all that is drawn [1]")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time [1]")
    parser.add_argument("--heavy", action="store_true", help="inputs as large as limits allow, nothing else")
    parser.add_argument("--json", action="store_true", help="one JSON object a round on stdout")
    parser.add_argument("--faults", type=Path, metavar="DIR", help="where failing inputs go [a new folder]")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="give this input to the one --parser")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    chosen = [PARSERS[name] for name in arguments.parser or PARSERS]
    if arguments.replay:
        return replay(chosen[0], arguments.replay)
    deadline = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    totals = {parser.name: Tally() for parser in chosen}
    number = 0
    while not arguments.heavy:
        one_round(chosen, arguments, number, deadline, totals)
        number += 1
        if deadline is None or time.monotonic() > deadline:
            break
    if arguments.heavy:
        all_heavy(chosen, arguments, totals)
    show(totals, arguments.json)
    faults = [fault for tally in totals.values() for fault in tally.faults]
    return 1 if faults else 0


def all_heavy(chosen: list[Parser], arguments: argparse.Namespace, totals: dict[str, Tally]) -> None:
    """Inputs at the parsers' limits, each in a process of its own."""
    for parser in chosen:
        sound = parser.seeds()
        for data in heavy.inputs(parser.name):
            one = replace(parser, seeds=partial(list, [*sound, data]))
            note(parser, worker.run(one, 0, "", kept=True), arguments, totals)


def replay(parser: Parser, path: Path) -> int:
    """Give one input to a parser, here, so that what it raises is seen whole."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            parser.read(path.read_bytes(), Path(folder))
        except EdgeqError as error:
            print(f"refused: {error}")
        else:
            print("taken")
    return 0


def one_round(
    chosen: list[Parser],
    arguments: argparse.Namespace,
    number: int,
    deadline: float | None,
    totals: dict[str, Tally],
) -> None:
    """Every parser's share, `jobs` at a time; faults are written as they are found."""

    def fed(parser: Parser) -> tuple[Parser, Tally]:
        count = arguments.count or (parser.count if deadline is None else int(ROUND * parser.weight))
        return parser, worker.run(
            parser, count, f"{arguments.seed}/{number}/{parser.name}", number == 0, deadline
        )

    with ThreadPoolExecutor(arguments.jobs) as pool:
        for parser, tally in pool.map(fed, chosen):
            note(parser, tally, arguments, totals)
    if arguments.json:
        show(totals, True)


def note(parser: Parser, tally: Tally, arguments: argparse.Namespace, totals: dict[str, Tally]) -> None:
    """Add what a worker did to the totals, and tell of its faults."""
    for fault in tally.faults:
        path = keep(fault, arguments)
        print(f"FAULT {parser.name}: {path}: the input {fault.what}", file=sys.stderr, flush=True)
    totals[parser.name].add(tally)


def keep(fault: Fault, arguments: argparse.Namespace) -> Path:
    """Write a failing input; the path of its file."""
    if arguments.faults is None:
        arguments.faults = Path(tempfile.mkdtemp(prefix="edgeq-fuzz-faults-"))
    arguments.faults.mkdir(parents=True, exist_ok=True)
    path: Path = arguments.faults / f"{fault.parser}-{hashlib.sha256(fault.data).hexdigest()[:12]}"
    path.write_bytes(fault.data)
    return path


def show(totals: dict[str, Tally], as_json: bool) -> None:
    """A line for each parser and the sum: as a table, or as one JSON object."""
    whole = Tally()
    for tally in totals.values():
        whole.add(tally)
    rows = {**totals, "all": whole}
    if as_json:
        told = {name: {"inputs": t.inputs, "accepted": t.accepted, "outcomes": t.outcomes,
                       "inputs_per_second": round(t.inputs / t.seconds) if t.seconds > 0.01 else None,
                       "slowest_seconds": round(t.slowest, 4), "peak_bytes": t.peak,
                       "faults": len(t.faults)} for name, t in rows.items()}  # fmt: skip
        print(json.dumps(told), flush=True)
        return
    print("parser                 inputs  accepted outcomes  inputs/s    slowest     memory  faults")
    for name, t in rows.items():
        rate = f"{t.inputs / t.seconds:.0f}" if t.seconds > 0.01 else "-"
        done = f"{name:18} {t.inputs:10} {t.accepted:9} {t.outcomes:8} {rate:>9}"
        print(f"{done} {t.slowest:8.3f} s {t.peak / 1e6:7.1f} MB  {len(t.faults)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
