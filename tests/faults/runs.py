"""Runs of a command, each in a process forked from one that has everything imported."""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.faults.commands import (
    TEXT,
    Command,
    Ended,
    environment,
    make_world,
    methods_compiled,
    objects_kept,
)
from tests.faults.inject import Injector, errors_of

SECONDS_MAX = 60  # of one run, by the system's alarm
NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")


@dataclass(frozen=True)
class Fault:
    """A failed call after which something was wrong."""

    command: str
    call: str
    error: str
    what: str

    def __str__(self) -> str:
        return f"{self.command}: {self.call} fails with {self.error}: {self.what}"


class Bench:
    """A folder in which commands run again and again."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.world = place / "world"
        make_world(self.world)
        methods_compiled()
        words = ("-p", "a", "-n", "1", "--threads", "2")
        for arguments, around in (
            (("run", "model.edgeq", *words), objects_kept),
            (("run", "checkpoint", *words), lambda folder: nullcontext()),
            (("calibrate", "checkpoint", "-o", "kept.stats", *TEXT), lambda folder: nullcontext()),
        ):
            ended = self._forked(Command("warm", arguments), self.world, Injector(), around)
            assert ended.code == 0, ended
        shutil.rmtree(self.world / "cache", ignore_errors=True)

    def calls(self, command: Command) -> tuple[Ended, list[str]]:
        """How the command ends undisturbed, and what is wrong then."""
        return self._run(command, Injector())

    def faults(self, command: Command, step: int = 1, every: bool = False) -> Iterator[Fault | None]:
        """Fail each call in each way it can; None for a run after which all was well.

        Of calls from one place of the sources the first two and the last, unless `every` one is wanted; of
        the failures that this makes every `step`th.
        """
        whole, problems = self.calls(command)
        if whole.code or problems:
            yield Fault(
                command.name, "no call", "nothing", f"exit code {whole.code}, {problems}, {whole.err}"
            )
            return
        turn = 0
        for number, call in enumerate(whole.calls, 1):
            if not every and call in whole.calls[number:] and whole.calls[:number].count(call) > 2:
                continue
            for error in errors_of(call):
                turn += 1
                if turn % step == 0:
                    ended, problems = self._run(command, Injector(number, error))
                    problems += wrong(command, ended, whole, error)
                    yield Fault(command.name, call, repr(error), "; ".join(problems)) if problems else None

    def _run(self, command: Command, injector: Injector) -> tuple[Ended, list[str]]:
        folder = self.place / "folder"
        command.prepare(folder, self.world)
        try:
            ended = self._forked(command, folder, injector, command.around)
            return ended, command.problems(folder, ended)
        finally:
            shutil.rmtree(folder)

    def _forked(
        self,
        command: Command,
        folder: Path,
        injector: Injector,
        around: Callable[[Path], AbstractContextManager[None]],
    ) -> Ended:
        ends = {name: self.place / name for name in ("out", "err", "calls", "code")}
        for path in ends.values():
            path.unlink(missing_ok=True)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _child(command, folder, injector, around, ends)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        read = {name: path.read_text() if path.exists() else "" for name, path in ends.items()}
        code = int(read["code"]) if read["code"] and status == 0 else status or 99
        return Ended(code, read["out"], read["err"], read["calls"].splitlines())


def _child(
    command: Command,
    folder: Path,
    injector: Injector,
    around: Callable[[Path], AbstractContextManager[None]],
    ends: dict[str, Path],
) -> None:
    import signal

    from edgeq import cli

    try:
        signal.alarm(SECONDS_MAX)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(ends[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        os.environ.update(environment(folder))
        os.chdir(folder)
        cli.prepare_process()
        with around(folder), injector.patched():
            try:
                code = cli.run_command(command.arguments)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 98
        sys.stdout.flush()
        ends["calls"].write_text("\n".join(injector.calls))
        ends["code"].write_text(str(code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def wrong(command: Command, ended: Ended, whole: Ended, error: BaseException) -> list[str]:
    """What is wrong with how a command ended after one of its calls failed."""
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("edgeq: error: ")]
    said = [line for line in lines if line.startswith("edgeq: warning: ")]
    if ended.code < 0:
        return [f"ended by signal {-ended.code}"]
    if "Traceback" in ended.err or ended.code in (98, 99):
        return [f"exit code {ended.code} and a traceback: {lines[-1] if lines else ''}"]
    if ended.code == 0:
        found = [f"it succeeds with {len(said)} warnings: {said}"] if len(said) > 1 else []
        same = NUMBERS.sub("0", ended.out) == NUMBERS.sub("0", whole.out)
        if not same and not (command.may_say and command.may_say in ended.out):
            found.append(f"it succeeds with another answer: {ended.out[:200]!r}")
        return found + [f"it succeeds and says {line!r}" for line in errors]
    if ended.code not in (1, 2, 3, 4):
        return [f"exit code {ended.code}"]
    if isinstance(error, MemoryError) and ended.code != 4:
        return [f"exit code {ended.code} for memory that is not to be had: {errors}"]
    if len(errors) != 1 or lines[-1] != errors[0]:
        return [f"{len(errors)} lines of errors: {lines}"]
    return []
