"""The commands whose calls are failed: what stands around them, and what must be true afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np

from edgeq.calibrate.statistics import Statistics
from edgeq.formats import SCHEMES, verify
from edgeq.packs import build, store
from edgeq.packs.pack import decoded
from edgeq.quantize.grid import inner
from edgeq.quantize.methods.search import importance, search
from edgeq.quantize.task import Seen, Task
from edgeq.runtime.dense import Dense
from tests.fuzz import checkpoints, edgeq_files, gguf_files
from tests.fuzz.sparse import write

OLD = b"what was there before"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int  # below 0 the signal
    out: str
    err: str
    calls: list[str]


@dataclass(frozen=True)
class Command:
    """A row: its name, its words, and the file that it makes, if any."""

    name: str
    arguments: tuple[str, ...]
    target: str | None = None
    there: bool = False  # the target exists before
    kernels: bool = True  # packs of what the command needs exist before
    may_say: str = ""  # what an answer may hold that differs from the undisturbed one, and is true
    around: Callable[[Path], Any] = lambda folder: nullcontext()

    def prepare(self, folder: Path, world: Path) -> None:
        """The folder in which the command runs: what `world` has, and a cache of its own."""
        shutil.copytree(world, folder, symlinks=True)
        if not self.kernels:
            shutil.rmtree(folder / "kernels")
        if self.there and self.target:
            (folder / self.target).write_bytes(OLD)

    def problems(self, folder: Path, ended: Ended) -> list[str]:
        """What is wrong in the folder after the command ended."""
        found = [f"{path.relative_to(folder)} is left" for path in folder.rglob("*") if temporary(path)]
        for path in folder.rglob("*"):
            if path.suffix == ".edgeq" and path.read_bytes() != OLD:
                found += [f"{path.name}: {problem}" for problem in verify(path)]
            if path.suffix == ".quantizing":
                found += [f"{name} of {path.name} is not whole" for name in not_whole(path)]
            if path.suffix == ".stats" and path.read_bytes() != OLD:
                Statistics(path)
            if path.suffix in (store.BUILT, store.COMPILED):
                decoded(memoryview(path.read_bytes()))
        if self.target:
            target = folder / self.target
            made = target.exists() and target.read_bytes() != OLD
            if ended.code == 0 and not made:
                found.append(f"{self.target} is not there, but the command says so")
            if self.there and not target.exists():
                found.append(f"{self.target} is gone")
            if made and "written" in ended.err:
                found.append(f"{self.target} is there, but the command says that it cannot be written")
        return found


def not_whole(folder: Path) -> Iterator[str]:
    """What a quantization that was broken off has left for the next, and the next would not take."""
    for path in folder.iterdir():
        data = path.read_bytes()
        if path.suffix == ".json":
            json.loads(data)
        elif path.suffix != ".part":
            end = 8 + int.from_bytes(data[:8], "little")
            if json.loads(data[8:end])["sha256"] != hashlib.sha256(data[end:]).hexdigest():
                yield path.name


def temporary(path: Path) -> bool:
    return path.name.endswith((".partial", ".part")) or path.name.startswith((".new-", ".tuned-", "tmp"))


def make_world(world: Path) -> None:
    """A model, a checkpoint and a GGUF file, tiny; packs come with the first run."""
    world.mkdir(parents=True)
    (world / "kernels").mkdir(mode=0o700)
    (world / "model.edgeq").write_bytes(edgeq_files.model_bytes("llama"))
    write(world / "model.gguf", gguf_files.model("qwen2", 0, "gpt2"))
    checkpoints.directory(world, "checkpoint")
    (world / "text.txt").write_text("A text <|im_end|> 12\n" * 2000)


def methods_compiled() -> None:
    """The loops of the methods that the commands below use, so that not each process compiles them again."""
    w, dense = np.ones((4, 64), np.float32), cast(Dense, SimpleNamespace(workers=1))
    for scheme in ("e4", "e8"):
        task = Task(w, SCHEMES[scheme], Seen(np.eye(64, dtype=np.float32), dense), dense)
        inner(w, task.values(importance(task, search(task, None))))


@contextmanager
def objects_at_hand(folder: Path) -> Iterator[None]:
    """Kernels are "compiled" by taking what was compiled once: what is under test is what becomes of them."""
    kept = pickle.loads((folder / "objects").read_bytes())

    def compiling(requests: Sequence[Any], *_: object) -> Iterator[tuple[Any, bytes]]:
        return ((request, kept[request]) for request in requests)

    with (
        mock.patch.object(build, "compiling", compiling),
        mock.patch.object(build, "all_kernels", lambda target: list(kept)[:3]),
    ):
        yield


@contextmanager
def objects_kept(folder: Path) -> Iterator[None]:
    """The objects of all kernels that are compiled meanwhile go into the folder."""
    kept: dict[Any, bytes] = {}
    compiling = build.compiling

    def keeping(*arguments: Any) -> Iterator[tuple[Any, bytes]]:
        for request, blob in compiling(*arguments):
            kept[request] = blob
            yield request, blob

    with mock.patch.object(build, "compiling", keeping):
        yield
    (folder / "objects").write_bytes(pickle.dumps(kept))


RUN = ("-p", "a text", "-n", "3", "--threads", "2", "--temperature", "0", "--context", "32")
METHODS = ("--method", "search,importance")
TEXT = ("-f", "text.txt", "--tokens", "1536", "--threads", "2")
MIXED = ("calibration", "build", "-o", "made.jsonl", "--bytes", "30000")
COMMANDS = (
    Command("convert", ("convert", "checkpoint", "-o", "made.edgeq"), "made.edgeq"),
    Command("convert --force", ("convert", "checkpoint", "-o", "made.edgeq", "--force"), "made.edgeq",
    there=True),
    Command("convert GGUF", ("convert", "model.gguf", "-o", "made.edgeq", "--scheme", "q8"), "made.edgeq"),
    Command("verify", ("verify", "model.edgeq")),
    Command("run", ("run", "model.edgeq", *RUN)),
    Command("run --json", ("run", "model.edgeq", *RUN, "--json")),
    Command("run, converting", ("run", "checkpoint", *RUN)),
    Command("run, compiling", ("run", "model.edgeq", *RUN), kernels=False, around=objects_at_hand),
    Command("kernels build", ("kernels", "build", "-j", "1"), kernels=False, around=objects_at_hand),
    Command("kernels build -o", ("kernels", "build", "-j", "1", "-o", "made.pack"), "made.pack",
            around=objects_at_hand),
    Command("kernels list", ("kernels", "list"), may_say="refused: "),
    Command("kernels clear", ("kernels", "clear")),
    Command("show", ("show", "model.edgeq")),
    Command("list", ("list",)),
    Command("rm", ("rm", "--all")),
    Command("quantize", ("quantize", "checkpoint", "-o", "made.edgeq", "--quality", "fast"), "made.edgeq"),
    Command("quantize --file", ("quantize", "checkpoint", "-o", "made.edgeq", *TEXT, *METHODS), "made.edgeq"),
    Command("quantize --stats --force",
            ("quantize", "checkpoint", "-o", "made.edgeq", "--stats", "kept.stats", "--force", *METHODS),
            "made.edgeq", there=True),
    Command("calibrate", ("calibrate", "checkpoint", "-o", "made.stats", *TEXT), "made.stats"),
    Command("calibrate --merge --force", ("calibrate", "-o", "made.stats", "--merge", "kept.stats", "--merge",
            "kept.stats", "--force"), "made.stats", there=True),
    Command("calibration build", (*MIXED, "--tokenizer", "model.edgeq"), "made.jsonl"),
    Command("calibration build --force", (*MIXED, "--force"), "made.jsonl", there=True),
)  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": os.fspath(folder / "cache"), "EDGEQ_KERNELS": os.fspath(folder / "kernels")}
