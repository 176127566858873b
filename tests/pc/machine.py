"""PCs of Bochs with Linux and a Debian root in their memory. The host speaks to the first process of each,
`guest.py`, over a serial line.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.board.root import Unpacked
from tests.pc import disc
from tests.pc.emulator import Emulator

MEMORY = 2048  # MB
INSTRUCTIONS = 50_000_000  # that a second of the PC's clock takes: about what Bochs does in a second
BOOT_TIMEOUT = 3600  # seconds
PATIENCE = 8  # a program may take that many times longer than on a board of qemu's
CONFIGURATION = """\
cpu: model={cpu}, count=1, ips={instructions}, reset_on_triple_fault=0
megs: {memory}
romimage: file={emulator.bios}
vgaromimage: file={emulator.vga_bios}
ata0-master: type=cdrom, path={image}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={console}
com2: enabled=1, mode=term, dev={line}
display_library: nogui
clock: sync=none
log: {log}
error: action=ignore
info: action=ignore
panic: action=fatal
"""


@dataclass(frozen=True)
class Emulated(Unpacked):
    """An unpacked amd64 root. Each processor of `run` is a PC, started when it is first asked for with the
    root as it is then.
    """

    emulator: Emulator
    work: Path  # an empty folder, for the disc and the PCs' files
    machine: ClassVar[str] = "x86_64"
    debian: ClassVar[str] = "amd64"
    _machines: dict[str, Machine] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def name(self, path: Path) -> str:
        return f"/{path.relative_to(self.path)}"

    def run(
        self, cpu: str, words: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        given = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LANG": "C.UTF-8"}
        return self._started(cpu).run(words, given | dict(environment), timeout * PATIENCE)

    def _started(self, cpu: str) -> Machine:
        image = self.work / "pc.iso"
        with self._lock:
            if not image.exists():
                disc.make(self.path, self.emulator, image)
            if cpu not in self._machines:
                self._machines[cpu] = Machine(cpu, self.emulator, image, self.work)
            return self._machines[cpu]

    def leave(self, cpu: str) -> None:
        machine = self._machines.pop(cpu, None)
        if machine:
            machine.stop()


class Machine:
    """One PC, on from the start, that runs one program after the other."""

    def __init__(self, cpu: str, emulator: Emulator, image: Path, work: Path) -> None:
        self._console = work / f"{cpu}.console"
        self._line, self._other = (
            os.openpty()
        )  # the other end stays open here: it is Bochs that comes and goes
        self._pending = b""
        self._up = False
        configuration = work / f"{cpu}.bochs"
        configuration.write_text(
            CONFIGURATION.format(
                cpu=cpu, emulator=emulator, image=image, memory=MEMORY, instructions=INSTRUCTIONS,
                console=self._console, line=os.ttyname(self._other), log=work / f"{cpu}.log",
            )
        )  # fmt: skip
        self._process = subprocess.Popen(
            [emulator.program, "-q", "-f", configuration],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a program. The code is -1 when the PC goes off meanwhile, and TimeoutExpired turns it off."""
        if not self._up:
            self._answer(disc.GUEST.name, BOOT_TIMEOUT)
            self._up = True
        request = json.dumps({"words": list(words), "environment": dict(environment)}).encode() + b"\n"
        while request:
            request = request[os.write(self._line, request) :]
        done = self._answer(" ".join(words), timeout)
        return subprocess.CompletedProcess(list(words), done["code"], done["out"], done["err"])

    def _answer(self, program: str, timeout: float) -> dict[str, Any]:
        """The next line that the PC says."""
        end = time.monotonic() + timeout
        while b"\n" not in self._pending:
            if select.select([self._line], [], [], 0.2)[0]:
                self._pending += os.read(self._line, 65536)
            elif self._process.poll() is not None:
                console = self._console.read_text(errors="replace") if self._console.exists() else ""
                return {"code": -1, "out": console[-2000:], "err": "the PC went off"}
            elif time.monotonic() > end:
                self._process.kill()
                raise subprocess.TimeoutExpired(program, timeout)
        line, self._pending = self._pending.split(b"\n", 1)
        return json.loads(line)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._line)
        os.close(self._other)
