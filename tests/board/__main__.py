"""Proof that edgeq is right on ARM boards, from any Linux machine: an arm64 Debian root under qemu.

usage: python -m tests.board [--full] [--root DIR] [--wheel FILE] [--mirror URL]

It builds edgeq's wheel, makes a root (tests/board/root.py), installs the wheel there with PyPI's wheels for
arm64, and on each emulated processor:

- `edgeq doctor` finds all well and chooses the instruction set of that processor;
- the logits of stories260K in several schemes, and of two layers of TinyLlama-1.1B's shape with random
  weights, have the same bits as on this machine's best instruction set and on GENERIC;
- `edgeq run` tells the same story as here;
- all that with the kernels of the wheel: no compiler is imported and nothing is compiled.

--full makes an installed Debian (a quarter of an hour), installs edgeq in it by the very commands of
docs/raspberry-pi.md, adds babyllama, and runs the tests of the kernels there on each processor.

It needs root and Debian's or Ubuntu's apt. Exit codes: 0 all holds, 1 something does not, 77 no board can be
emulated here, and the reason. --root keeps the root for the next time.
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
from tests.board.root import MIRROR, Installed, Unavailable, Unpacked, install_tools, make, need_qemu

EXIT_FAILED, EXIT_UNAVAILABLE = 1, 77
START = time.perf_counter()


def say(text: str) -> None:
    print(f"{time.perf_counter() - START:6.0f} s  {text}", flush=True)


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.board", description=__doc__, formatter_class=raw)
    parser.add_argument("--full", action="store_true", help="the installed root and everything in it")
    parser.add_argument("--root", type=Path, metavar="DIR", help="keep the root here, or use the one here")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="edgeq's wheel, if it is built already")
    parser.add_argument("--mirror", default=MIRROR, metavar="URL", help=f"Debian's packages [{MIRROR}]")
    return parser.parse_args()


def run(arguments: argparse.Namespace, work: Path) -> int:
    """The exit code of the proof; `work` is for files that nobody keeps."""
    install_tools()
    need_qemu(board.cpu for board in proof.BOARDS)
    with ThreadPoolExecutor() as pool:
        say("a root is made; meanwhile the wheel, the models and what this machine makes of them")
        place = arguments.root or work / "root"
        root = Installed(place) if arguments.full else Unpacked(place)
        making = pool.submit(make, root, arguments.mirror)
        wheel = arguments.wheel or wheels.build(work, sorted({board.isa for board in proof.BOARDS}))
        wheels.gather(wheel, work / "wheels", root.machine, proof.TEST_PACKAGES if arguments.full else ())
        expected = proof.Expected.here(work, full=arguments.full)
        say(f"{wheel.name}, {len(expected.cases)} cases on {' and '.join(expected.isas)}: the same bits")
        making.result()
    say(f"the root is ready: {root.path}")
    site = proof.install(root, work / "wheels")
    failures = proof.all_boards(site, expected, say, tests=("kernels",) if arguments.full else ())
    for failure in failures:
        print(f"FAILED {failure}")
    say(f"{len(failures)} failed" if failures else "all holds on every board")
    return EXIT_FAILED if failures else 0


def main() -> int:
    arguments = parse()
    work = Path(tempfile.mkdtemp(prefix="edgeq-board-"))
    try:
        return run(arguments, work)
    except proof.Failure as failure:
        print(f"FAILED {failure}")
        return EXIT_FAILED
    except Unavailable as reason:
        print(f"no board can be emulated here: {reason}")
        return EXIT_UNAVAILABLE
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
