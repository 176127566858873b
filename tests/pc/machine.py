"""A PC of Bochs: its memory is filled from one file with Linux and a Debian root, and programs run in it.

The root is the first file system of Linux (initramfs) and stays in memory: no disk, no network. The host
speaks to `guest.py`, the first process, over a serial line.
"""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.board.root import Unpacked, attempt
from tests.pc.emulator import Emulator

GUEST = Path(__file__).with_name("guest.py")
MEMORY = 2048  # MB
INSTRUCTIONS = 50_000_000  # that a second of the PC's clock takes: about what Bochs does in a second
BOOT_TIMEOUT = 1800  # seconds
PATIENCE = 8  # a program may take that many times longer than on a board of qemu's
LEFT_OUT = {"boot", "debootstrap", "var", "usr/share", "usr/lib/apt"}  # folders that no program here reads
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
LOADER = """\
serial 0 115200
default edgeq
label edgeq
  kernel vmlinuz
  append initrd=root.cpio console=ttyS0,115200 mitigations=off quiet panic=-1
"""


@dataclass(frozen=True)
class Emulated(Unpacked):
    """An unpacked amd64 root; each processor of `run` is one PC, started when it is first asked for."""

    emulator: Emulator
    work: Path  # for the image and the PCs' files
    machine: ClassVar[str] = "x86_64"
    debian: ClassVar[str] = "amd64"
    machines: dict[str, Machine] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def name(self, path: Path) -> str:
        return f"/{path.relative_to(self.path)}"

    def run(
        self, cpu: str, words: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        with self.lock:
            if not self.image.exists():
                self.make_image()
            if cpu not in self.machines:
                self.machines[cpu] = Machine(cpu, self.emulator, self.image, self.work / cpu)
        given = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LANG": "C.UTF-8"}
        return self.machines[cpu].run(words, given | dict(environment), timeout * PATIENCE)

    @property
    def image(self) -> Path:
        return self.work / "pc.iso"

    def make_image(self) -> None:
        """The disc that PCs start from, with the root as it now stands."""
        if (
            platform.machine() == "x86_64"
        ):  # Python's cache of its own library: the PC would take minutes for it
            compiling = [
                "/usr/bin/python3",
                "-m",
                "compileall",
                "-q",
                "/usr/lib",
                self.name(self.path / "srv"),
            ]
            attempt(["chroot", self.path, *compiling])
        shutil.copy2(GUEST, self.path / "init")
        (self.path / "init").chmod(0o755)
        disc = self.work / "disc"
        disc.mkdir(parents=True)
        names = "\0".join(sorted(self.taken()))
        pack = f"cpio --quiet --null --create --format=newc --owner=0:0 > '{disc / 'root.cpio'}'"
        subprocess.run(["sh", "-c", pack], input=names.encode(), cwd=self.path, check=True)
        for part in (self.emulator.kernel, *self.emulator.loader):
            shutil.copy2(part, disc)
        (disc / self.emulator.kernel.name).rename(disc / "vmlinuz")
        (disc / "isolinux.cfg").write_text(LOADER)
        attempt(
            ["xorriso", "-as", "mkisofs", "-quiet", "-o", self.image, "-b", "isolinux.bin", "-c", "boot.cat",
             "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-iso-level", "3", disc]
        )  # fmt: skip
        shutil.rmtree(disc)

    def taken(self) -> list[str]:
        """The names of the root's files that go into the image."""
        names = []
        for folder, folders, files in os.walk(self.path):
            at = os.path.relpath(folder, self.path)
            names += [os.path.normpath(os.path.join(at, name)) for name in (*folders, *files)]
            folders[:] = [f for f in folders if os.path.normpath(os.path.join(at, f)) not in LEFT_OUT]
        return names

    def stop(self) -> None:
        """End all PCs."""
        for machine in self.machines.values():
            machine.stop()


class Machine:
    """One PC, on from the start, that runs one program after the other."""

    def __init__(self, cpu: str, emulator: Emulator, image: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._console = folder / "console.txt"
        self._line, line = os.openpty()
        configuration = CONFIGURATION.format(
            cpu=cpu, emulator=emulator, image=image, console=self._console, log=folder / "log.txt",
            line=os.ttyname(line), instructions=INSTRUCTIONS, memory=MEMORY,
        )  # fmt: skip
        (folder / "bochsrc").write_text(configuration)
        self._process = subprocess.Popen(
            [emulator.program, "-q", "-f", folder / "bochsrc"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._slave = line  # open here, too: the line does not hang up between two of Bochs's looks at it
        self._pending = b""
        self._up = False

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a program; TimeoutExpired when it takes too long, and the PC is off then."""
        if not self._up:
            self._answer(["guest.py"], BOOT_TIMEOUT)
            self._up = True
        request = json.dumps({"words": list(words), "environment": dict(environment)}).encode() + b"\n"
        while request:
            request = request[os.write(self._line, request) :]
        done = self._answer(words, timeout)
        return subprocess.CompletedProcess(list(words), done["code"], done["out"], done["err"])

    def _answer(self, words: Sequence[str], timeout: float) -> dict[str, Any]:
        """The next line that the PC says."""
        end = time.monotonic() + timeout
        while b"\n" not in self._pending:
            if select.select([self._line], [], [], 1)[0]:
                self._pending += os.read(self._line, 65536)
            elif self._process.poll() is not None:
                console = self._console.read_text(errors="replace") if self._console.exists() else ""
                return {"code": -1, "out": console[-2000:], "err": "the PC went off"}
            elif time.monotonic() > end:
                self.stop()
                raise subprocess.TimeoutExpired(list(words), timeout)
        line, self._pending = self._pending.split(b"\n", 1)
        return json.loads(line)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
