"""What must hold on a board, and what it is compared with: the same on the machine that runs this."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.weights import SHAPES, write
from edgeq.converters import convert
from edgeq.demo import checkpoint
from tests.board import wheels
from tests.board.root import PACKAGES, Installed, Root

Say = Callable[[str], None]
SCRIPT = Path(__file__).with_name("logits.py")
MANUAL = wheels.TREE / "docs" / "raspberry-pi.md"
TEST_PACKAGES = ("pytest>=8.3",)
TIMEOUT = 900  # seconds for one program on a board; the tests of the kernels have TESTS_TIMEOUT
TESTS_TIMEOUT = 3600
# tests of kernels that are not for an emulated board: GENERIC, which has no pack for ARM (tests/emulator runs
# it from the host's Python: an emulated compiler is slow), and two that count milliseconds
NOT_EMULATED = ("generic", "meaning", "interrupted_anywhere", "use_no_time")
STORY = ("-p", "Once upon a time", "-n", "48", "--temp", "0", "--json", "--quiet")


@dataclass(frozen=True)
class Board:
    """A processor that is emulated and the instruction set that edgeq must choose on it."""

    name: str
    cpu: str  # the emulator's word for it
    isa: str


BOARDS = (
    Board("Cortex-A53", "cortex-a53", "neon"),  # Raspberry Pi 3 and Zero 2 W
    Board("Cortex-A72", "cortex-a72", "neon"),  # Raspberry Pi 4
    Board("Cortex-A76", "cortex-a76", "dotprod"),  # Raspberry Pi 5
    Board("qemu's `max`", "max", "i8mm"),  # all that qemu knows
)

# model, tokens fed at once, of them one by one, options of edgeq.load
STORIES = [
    ("q4", {}),
    ("q8", {"kv": "f16"}),
    ("q4", {"kv": "f32", "act": "f32"}),
    ("bf16", {}),
]


class Failure(Exception):
    """What did not hold, in a sentence."""


@dataclass(frozen=True)
class Expected:
    """The models, and what this machine makes of them."""

    folder: Path  # of the models
    cases: list[dict[str, Any]]
    isas: tuple[str, ...]
    digests: list[str]
    stories: dict[str, str]  # the text that a model tells

    @classmethod
    def here(cls, work: Path, *, full: bool) -> Expected:
        """Make the models under `work` and run them on this machine's best instruction set and on GENERIC."""
        folder = work / "models"
        folder.mkdir()
        cases = [case(story(folder, scheme), 300, 8, options) for scheme, options in STORIES]
        cases.append(case(slice_of_1b(folder), 24, 2, {}))
        told = [story(folder, "q8")]
        if full:
            told.append(babyllama(folder))
            cases.append(case(told[-1], 200, 8, {}))
        found = [logits_here(cases, isa) for isa in ("", "generic")]
        if found[0]["digests"] != found[1]["digests"]:
            raise Failure(f"this machine's own instruction sets disagree: {found}")
        stories = {path.name: told_here(path) for path in told}
        return cls(folder, cases, tuple(f["isa"] for f in found), found[0]["digests"], stories)


def case(model: Path, tokens: int, single: int, options: dict[str, Any]) -> dict[str, Any]:
    return {"model": str(model), "tokens": tokens, "single": single, "options": {"threads": 2, **options}}


# ---- models ----
def story(folder: Path, scheme: str) -> Path:
    """The bundled stories260K."""
    path = folder / f"stories260K-{scheme}.edgeq"
    if not path.exists():
        convert(checkpoint(), path, scheme=scheme)
    return path


def slice_of_1b(folder: Path) -> Path:
    """Two layers of TinyLlama-1.1B's shape, random weights."""
    source, path = folder / "slice.gguf", folder / "slice-q4.edgeq"
    write(source, replace(SHAPES["tinyllama-1.1b"], layers=2), "q4_0")
    convert(source, path, scheme="q4")
    source.unlink()
    return path


def babyllama(folder: Path) -> Path:
    """A trained model of four layers, from the directory of real models."""
    data = Path(os.environ.get("EDGEQ_TEST_DATA") or wheels.TREE.parent / "shared" / "data")
    source, path = data / "models" / "babyllama_tok105", folder / "babyllama-q4.edgeq"
    if not source.is_dir():
        raise Failure(f"there is no {source}; EDGEQ_TEST_DATA names the directory of real models")
    convert(source, path, scheme="q4")
    return path


# ---- on this machine ----
def here(words: Sequence[str], isa: str = "") -> str:
    """Standard output of this Python running `words` with the tree's edgeq."""
    environment = {**os.environ, "PYTHONPATH": str(wheels.TREE), "EDGEQ_ISA": isa}
    done = subprocess.run(
        [sys.executable, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise Failure(f"on this machine `{' '.join(words[:3])}` ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def logits_here(cases: list[dict[str, Any]], isa: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(here([str(SCRIPT), json.dumps(cases)], isa))
    return found


def told_here(model: Path) -> str:
    return str(json.loads(here(["-m", "edgeq", "run", str(model), *STORY]))["text"])


# ---- on a board ----
Check = Callable[["Site", Board, Expected], str]  # what held, in words; Failure


@dataclass(frozen=True)
class Site:
    """edgeq in a root: the Python that has it, and the environment it wants."""

    root: Root
    python: str
    environment: dict[str, str]
    folder: Path  # the board's own files: models, scripts, cache

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def run(self, board: Board, words: Sequence[str], timeout: float = TIMEOUT) -> str:
        """Standard output of the board's Python running `words`."""
        done = self.root.run(board.cpu, [self.python, *words], self.environment, timeout)
        if done.returncode:
            shown = (done.stdout[-2000:] + done.stderr[-2000:]).strip()
            raise Failure(f"`{' '.join(words[:3])}` ended with {done.returncode}:\n{shown}")
        return done.stdout


def install(root: Root, wheelhouse: Path) -> Site:
    """edgeq in the root: unpacked beside it, or in an installed root by the documented commands."""
    folder = root.path / "srv" / "board"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cache").mkdir(parents=True)
    environment = {"XDG_CACHE_HOME": root.name(folder / "cache")}
    if not isinstance(root, Installed):
        wheels.unpack(wheelhouse, folder / "site", root.machine)
        environment["PYTHONPATH"] = root.name(folder / "site")
        return Site(root, "/usr/bin/python3", environment, folder)
    shutil.copytree(wheelhouse, folder / "wheels")
    home = root.path / "root"
    for old in (*home.glob("edgeq-*.whl"), home / "edgeq"):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    shutil.copy2(next(wheelhouse.glob("edgeq-*.whl")), home)
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": root.name(folder / "wheels"), "PIP_NO_COMPILE": "1"}
    site = Site(root, "/root/edgeq/bin/python", environment, folder)
    system, *commands = documented()
    if not set(system.split()[4:]) <= set(PACKAGES):
        raise Failure(f"{MANUAL.name} installs what the root does not have: {system}")
    for command in commands:
        done = root.run("max", ["/bin/bash", "-euc", f"cd ~ && {command}"], environment | pip, TIMEOUT)
        if done.returncode:
            raise Failure(f"`{command}` of {MANUAL.name} ended with {done.returncode}:\n{done.stderr}")
    return site


def documented() -> list[str]:
    """The commands with which a board's manual installs edgeq; the first of them is apt's."""
    found = re.search(r"^<!-- board -->\n```sh\n(.*?)^```$", MANUAL.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"{MANUAL} has lost its commands"
    return found[1].splitlines()


def all_boards(
    site: Site, expected: Expected, say: Say, boards: Sequence[Board] = BOARDS, tests: Sequence[str] = ()
) -> list[str]:
    """What did not hold, a sentence each; two boards at a time. `tests` are files and folders of tests/ that
    are run, too.
    """
    for file in (*expected.folder.iterdir(), SCRIPT):
        shutil.copy2(file, site.folder)
    failures: list[str] = []

    def prove(checks: Sequence[Check], board: Board) -> None:
        for check in checks:
            try:
                say(f"{board.cpu:11} {check(site, board, expected)}")
            except (Failure, subprocess.TimeoutExpired) as failure:
                failures.append(f"{board.cpu}: {failure}")
        site.root.leave(board.cpu)

    checks: list[Check] = [doctor, logits, stories]
    if tests:
        put_tests(site)
        checks.append(partial(kernel_tests, tests=tests))
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        list(pool.map(partial(prove, checks), boards))
    compiled = [path.name for path in site.cache.rglob("*") if path.is_file()]
    if compiled:
        failures.append(f"something was compiled: {', '.join(compiled[:5])} …")
    return failures


def doctor(site: Site, board: Board, expected: Expected) -> str:
    facts = json.loads(site.run(board, ["-m", "edgeq", "doctor", "--json"]))
    chosen = facts["instructions"]["chosen"]
    if chosen != board.isa:
        raise Failure(f"edgeq chose {chosen} where {board.isa} is right")
    return f"doctor: {chosen}, all is well"


def logits(site: Site, board: Board, expected: Expected) -> str:
    name = site.root.name
    cases = [{**c, "model": name(site.folder / Path(c["model"]).name)} for c in expected.cases]
    found = json.loads(site.run(board, [name(site.folder / SCRIPT.name), json.dumps(cases)]))
    if found["compilers"]:
        raise Failure(f"{', '.join(found['compilers'])} was imported: the kernels were not in the wheel")
    wrong = [
        Path(case["model"]).name
        for case, got, want in zip(cases, found["digests"], expected.digests, strict=True)
        if got != want
    ]
    if wrong:
        raise Failure(f"other bits than on {expected.isas[0]}: {', '.join(wrong)}")
    return f"logits: {len(cases)} cases on {found['isa']}, the bits of {' and '.join(expected.isas)}"


def stories(site: Site, board: Board, expected: Expected) -> str:
    for model, want in expected.stories.items():
        words = ["-m", "edgeq", "run", site.root.name(site.folder / model), *STORY]
        got = json.loads(site.run(board, words))["text"]
        if got != want:
            raise Failure(f"{model} tells {got!r}, here {want!r}")
    return f"run: {' and '.join(expected.stories)} told the same"


def put_tests(site: Site) -> None:
    """This tree's tests, without the tree's edgeq: the board's is tested; and pytest where it is not unpacked
    with all the rest.
    """
    tree = site.folder / "tree"
    shutil.copytree(wheels.TREE / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(wheels.TREE / "pyproject.toml", tree)
    if isinstance(site.root, Installed):
        house = site.root.name(site.folder / "wheels")
        pip = ("-m", "pip", "--quiet", "install", "--no-compile", "--no-index", "--find-links", house)
        site.run(BOARDS[-1], [*pip, *TEST_PACKAGES])


def kernel_tests(site: Site, board: Board, expected: Expected, tests: Sequence[str]) -> str:
    """The tests of the kernels (below tests/) on the tiers that this processor has: the wheel's packs. What
    has no pack, GENERIC for ARM and the rows that stand for others, is left out, as an emulated compiler is
    slow.
    """
    tree, name = site.folder / "tree", site.root.name
    own = {"EDGEQ_TEST_CACHE": name(site.folder / f"cache-{board.cpu}")}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={name(tree)}"]
    words += ["-k", " and ".join(f"not {word}" for word in NOT_EMULATED)]
    words += [f"--ignore={name(tree / 'tests' / 'kernels' / 'test_bounds.py')}"]
    words += [name(tree / "tests" / part) for part in tests]
    out = replace(site, environment=site.environment | own).run(board, words, TESTS_TIMEOUT)
    return f"tests of the kernels: {out.strip().splitlines()[-1]}"
