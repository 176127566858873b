"""A Debian root for an emulated machine: an arm64 one, and Python in it under qemu's user-mode emulation.

There are two sorts. An *unpacked* root is what debootstrap's first stage leaves with every package unpacked:
half a minute, and nothing of it was run; qemu is called by name and shows the root's files to the program.
An *installed* root is a Debian system: its packages were configured by their own scripts under emulation
(minutes), commands run in it by chroot, and the kernel hands their ARM programs to qemu (binfmt_misc).

Knows nothing of edgeq.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

SUITE = "bookworm"  # as Raspberry Pi OS of 2023 to 2025: Python 3.11, glibc 2.36
PYTHON = "3.11"
GLIBC = 36  # 2.36
PACKAGES = ("python3-venv", "ca-certificates")
MIRROR = "http://deb.debian.org/debian"
QEMU = "qemu-aarch64-static"
TOOLS = {QEMU: "qemu-user-static", "debootstrap": "debootstrap"}  # program: Debian package
BINFMT = Path("/proc/sys/fs/binfmt_misc")
BINFMT_RULE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")  # comes with qemu-user-static
MADE = "srv/made"  # in a finished root: its sort


class Unavailable(Exception):
    """This machine cannot emulate a board; the message says what it lacks."""


def install_tools(tools: Mapping[str, str] = TOOLS) -> None:
    """Programs, each with the Debian package that has it, installed with apt-get where that can be done."""
    missing = [package for program, package in tools.items() if not shutil.which(program)]
    if os.geteuid():
        raise Unavailable("debootstrap needs root")
    if missing and not shutil.which("apt-get"):
        raise Unavailable(f"{' and '.join(missing)} missing, and there is no apt-get to install them")
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            attempt(["apt-get", "-qq", *command], environment)


def need_qemu(cpus: Iterable[str]) -> None:
    """A qemu that knows the processors."""
    known = subprocess.run([QEMU, "-cpu", "help"], capture_output=True, text=True).stdout.split()
    unknown = sorted(set(cpus) - set(known))
    if unknown:
        raise Unavailable(f"this {QEMU} does not know {', '.join(unknown)}; Debian 12's does")


def attempt(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> str:
    """The output of a step of the preparation; Unavailable with the end of what it said when it fails."""
    done = subprocess.run(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise Unavailable(f"`{' '.join(map(str, command))}` failed ({done.returncode}):\n{last}")
    return done.stdout


def make(root: Root, mirror: str = MIRROR) -> None:
    """The files of the root, made unless a finished one of this sort is there already."""
    path, sort = root.path, f"{type(root).__name__.lower()} {root.debian}"
    made = path / MADE
    if made.is_file() and made.read_text() == sort:
        root.prepare()
        return
    if path.exists() and any(path.iterdir()):
        raise Unavailable(f"{path} is not empty and no {sort} root; name another directory")
    attempt(
        ["debootstrap", "--foreign", f"--arch={root.debian}", "--variant=minbase",
         f"--include={','.join(PACKAGES)}", SUITE, path, mirror]
    )  # fmt: skip
    root.prepare()
    root.finish()
    made.parent.mkdir(exist_ok=True)
    made.write_text(sort)


@dataclass(frozen=True)
class Root:
    """A root and how commands are run in it."""

    path: Path
    machine: ClassVar[str] = "aarch64"  # what it is for, and Debian's word for that
    debian: ClassVar[str] = "arm64"

    def prepare(self) -> None:
        """What the machine must have before anything can be run in the root."""

    def finish(self) -> None:
        """From debootstrap's first stage to a root of this sort."""
        raise NotImplementedError

    def name(self, path: Path) -> str:
        """What programs in the root call a file of it."""
        raise NotImplementedError

    def command(self, cpu: str, words: Sequence[str]) -> list[str]:
        """The host's command for `words`, a program of the root by its path there and its arguments."""
        raise NotImplementedError

    def run(
        self, cpu: str, words: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the root on an emulated processor; stdout and stderr are kept. It starts in the
        root, where Python finds no modules by accident.
        """
        given = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LANG": "C.UTF-8", "QEMU_CPU": cpu}
        return subprocess.run(
            self.command(cpu, words), cwd=self.path, env=given | dict(environment), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def leave(self, cpu: str) -> None:
        """No more programs will be run on this processor for now."""


class Unpacked(Root):
    """qemu is called by name. Only one program runs: it cannot start others of the root."""

    def finish(self) -> None:
        for package in sorted((self.path / "var/cache/apt/archives").glob("*.deb")):
            attempt(["dpkg-deb", "--extract", package, self.path])

    def name(self, path: Path) -> str:
        return str(path)  # qemu looks into the root first, and a path of the host is not there

    def command(self, cpu: str, words: Sequence[str]) -> list[str]:
        program = self.path / words[0].lstrip("/")
        return [QEMU, "-cpu", cpu, "-L", str(self.path), str(program), *words[1:]]


class Installed(Root):
    """chroot, in mounts of its own that end with it."""

    def prepare(self) -> None:
        if not (BINFMT / "register").exists():
            attempt(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
        if not (BINFMT / "qemu-aarch64").exists():
            try:
                (BINFMT / "register").write_bytes(BINFMT_RULE.read_bytes().strip())
            except OSError as error:
                raise Unavailable(f"the kernel does not hand ARM programs to qemu: {error}") from None

    def finish(self) -> None:
        attempt(self.command("cortex-a53", ["/debootstrap/debootstrap", "--second-stage"]))

    def name(self, path: Path) -> str:
        return f"/{path.relative_to(self.path)}"

    def command(self, cpu: str, words: Sequence[str]) -> list[str]:
        mounts = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, str(self.path), *words]
