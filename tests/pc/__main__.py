"""Proof that edgeq is right on x86-64 processors that few have at hand: Linux on PCs that Bochs emulates.

usage: python -m tests.pc [--full] [--keep DIR] [--wheel FILE] [--mirror URL] [--only CPU]

It builds Bochs and edgeq's wheel, makes a small Debian with the wheel in it, starts that on a PC with each of
the processors below, and there, as tests.board does on boards:

- `edgeq doctor` finds all well and chooses the instruction set of that processor;
- the logits of stories260K in several schemes, and of two layers of TinyLlama-1.1B's shape with random
  weights, have the same bits as on this machine's best instruction set and on GENERIC;
- `edgeq run` tells the same story as here;
- all that with the kernels of the wheel: no compiler is imported and nothing is compiled.

--full runs those tests of the kernels, too, whose code differs between instruction sets (hours).

It needs root and Debian's or Ubuntu's apt, and a quarter of an hour on two cores of its own: too slow for
every change, so CI does not run it. Exit codes: 0 all holds, 1 something does not, 77 no PC can be emulated
here, and the reason. --keep keeps emulator and root for the next time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.board import proof, wheels
from tests.board.proof import Board
from tests.board.root import MIRROR, Unavailable, install_tools, make
from tests.pc import emulator
from tests.pc.machine import Emulated

EXIT_FAILED, EXIT_UNAVAILABLE = 1, 77
START = time.perf_counter()

PCS = (  # by Bochs's words
    Board("Tiger Lake", "tigerlake", "avx512vnni"),
    Board("Arrow Lake", "arrow_lake", "avxvnni"),
    Board("Haswell", "corei7_haswell_4770", "avx2"),
    Board("Sandy Bridge", "corei7_sandy_bridge_2600k", "generic"),
)
TESTS = tuple(f"kernels/test_{subject}.py" for subject in ("products", "rows", "attention"))


def say(text: str) -> None:
    print(f"{time.perf_counter() - START:6.0f} s  {text}", flush=True)


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.pc", description=__doc__, formatter_class=raw)
    parser.add_argument("--full", action="store_true", help="the tests of the kernels, too")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep emulator and root here, or use those here"
    )
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="edgeq's wheel, if it is built already")
    parser.add_argument("--mirror", default=MIRROR, metavar="URL", help=f"Debian's packages [{MIRROR}]")
    parser.add_argument("--only", choices=[pc.cpu for pc in PCS], metavar="CPU", help="this processor alone")
    return parser.parse_args()


def run(arguments: argparse.Namespace, work: Path) -> int:
    """The exit code of the proof; `work` is for files that nobody keeps."""
    install_tools(emulator.TOOLS)
    pcs = [pc for pc in PCS if arguments.only in (None, pc.cpu)]
    kept = arguments.keep or work / "kept"
    root = Emulated(kept / "root", emulator.Emulator(kept / "bochs"), work / "pc")
    root.work.mkdir()
    with ThreadPoolExecutor() as pool:
        say("Bochs and a root are made; meanwhile the wheel, the models and what this machine makes of them")
        making = [
            pool.submit(make, root, arguments.mirror),
            pool.submit(root.emulator.make, arguments.mirror),
        ]
        wheel = arguments.wheel or wheels.build(work, [pc.isa for pc in PCS])
        wheels.gather(wheel, work / "wheels", root.machine, proof.TEST_PACKAGES if arguments.full else ())
        expected = proof.Expected.here(work, full=False)
        say(f"{wheel.name}, {len(expected.cases)} cases on {' and '.join(expected.isas)}: the same bits")
        for one in making:
            one.result()
    say("Bochs and the root are ready")
    site = proof.install(root, work / "wheels")
    try:
        failures = proof.all_boards(site, expected, say, pcs, TESTS if arguments.full else ())
    finally:
        for pc in pcs:
            root.leave(pc.cpu)
    for failure in failures:
        print(f"FAILED {failure}")
    say(f"{len(failures)} failed" if failures else "all holds on every PC")
    return EXIT_FAILED if failures else 0


def main() -> int:
    arguments = parse()
    work = Path(tempfile.mkdtemp(prefix="edgeq-pc-"))
    try:
        return run(arguments, work)
    except proof.Failure as failure:
        print(f"FAILED {failure}")
        return EXIT_FAILED
    except Unavailable as reason:
        print(f"no PC can be emulated here: {reason}")
        return EXIT_UNAVAILABLE
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
