"""Bochs, a PC in software, and what a PC starts with: a BIOS, a boot loader, Linux.

Bochs is the one free emulator with AVX-512 VNNI and AVX-VNNI. Debian's own build is for debugging and slow,
so its source is built here; release 3.0 is the first whose processors describe their registers as Linux
wants it. Everything comes from Debian's archive, signatures checked by apt, whatever Debian or Ubuntu this is.

Knows nothing of edgeq.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.board.root import MIRROR, Unavailable, attempt

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TOOLS = {  # program: Debian package
    "g++": "g++",
    "make": "make",
    "xz": "xz-utils",
    "cpio": "cpio",
    "xorriso": "xorriso",
    "debootstrap": "debootstrap",
}
PACKAGES = ("bochsbios", "vgabios", "isolinux", "syslinux-common")
KERNEL = "linux-image-cloud-amd64"  # depends on the newest kernel
OPTIONS = (
    *("--enable-cpu-level=6", "--enable-x86-64", "--enable-avx", "--enable-evex", "--enable-cet"),
    *("--enable-protection-keys", "--enable-all-optimizations", "--with-nogui", "--disable-docbook"),
)
MADE = "made"  # in a finished folder


@dataclass(frozen=True)
class Emulator:
    """The files of an emulated PC, under one folder."""

    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / "source" / "bochs"

    @property
    def bios(self) -> Path:
        return self.folder / "files/usr/share/bochs/BIOS-bochs-latest"

    @property
    def vga_bios(self) -> Path:
        return self.folder / "files/usr/share/vgabios/vgabios.bin"

    @property
    def loader(self) -> list[Path]:
        files = self.folder / "files/usr/lib"
        return [files / "ISOLINUX/isolinux.bin", files / "syslinux/modules/bios/ldlinux.c32"]

    @property
    def kernel(self) -> Path:
        (found,) = (self.folder / "files/boot").glob("vmlinuz-*")
        return found

    def make(self, mirror: str = MIRROR) -> None:
        """Fetch and build (minutes) the files unless they are there already."""
        if (self.folder / MADE).exists():
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise Unavailable(
                f"{self.folder} is not empty and has no finished emulator; name another directory"
            )
        fetch(self.folder, mirror)
        build(self.folder / "source")
        (self.folder / MADE).touch()


def fetch(folder: Path, mirror: str) -> None:
    """Bochs's source and the files of the packages, by an apt of its own that leaves the system's alone."""
    if not KEYRING.exists():
        raise Unavailable(f"{KEYRING} is missing; the package debian-archive-keyring has it")
    apt = folder / "apt"
    (apt / "lists/partial").mkdir(parents=True)
    sources = "".join(f"{kind} [signed-by={KEYRING}] {mirror} {SUITE} main\n" for kind in ("deb", "deb-src"))
    (apt / "sources.list").write_text(sources)
    settings = {
        "APT::Architecture": "amd64",
        "APT::Architectures::": "amd64",
        "APT::Sandbox::User": "root",
        "Dir::Etc": apt,
        "Dir::State": apt,
        "Dir::State::status": os.devnull,
        "Dir::Cache": apt,
    }
    (apt / "settings").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))

    def run(*words: str) -> str:
        return output([*words], folder, {"APT_CONFIG": str(apt / "settings")})

    run("apt-get", "-qq", "update")
    depends = run("apt-cache", "depends", KERNEL).split()
    kernel = next(word for word in depends if word.startswith("linux-image-") and word != KERNEL)
    run("apt-get", "-qq", "download", *PACKAGES, kernel)
    run("apt-get", "-qq", "source", "--download-only", "--tar-only", "bochs")
    for package in folder.glob("*.deb"):
        attempt(["dpkg-deb", "--extract", package, folder / "files"])
    (source,) = folder.glob("bochs_*.orig.tar.xz")
    (folder / "source").mkdir()
    attempt(["tar", "--extract", "--strip-components=1", "--file", source, "-C", folder / "source"])
    shutil.rmtree(apt)


def build(source: Path) -> None:
    flags = {"CFLAGS": "-O2 -w", "CXXFLAGS": "-O2 -w"}
    output(["./configure", *OPTIONS], source, flags)
    output(["make", f"-j{os.cpu_count()}"], source, {})


def output(words: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """What a command says; Unavailable with its last lines when it fails."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise Unavailable(f"`{' '.join(words[:3])}` failed ({done.returncode}):\n{last}")
    return done.stdout
