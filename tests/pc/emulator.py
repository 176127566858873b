"""Bochs, a PC in software, and what a PC starts with: a BIOS, a boot loader, Linux.

qemu's own emulation has neither AVX-512 nor AVX-VNNI; Bochs has both. Debian's build of it is for debugging
and slow, so its source is built here. Release 3.0 is the first whose processors describe their registers as
Linux wants it. All comes from Debian's archive, with signatures checked by apt, whatever Debian or Ubuntu
this is.

Knows nothing of edgeq.
"""

from __future__ import annotations

import os
import shutil
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

    environment = os.environ | {"APT_CONFIG": str(apt / "settings")}
    attempt(["apt-get", "-qq", "update"], environment)
    depends = attempt(["apt-cache", "depends", KERNEL], environment).split()
    kernel = next(word for word in depends if word.startswith("linux-image-") and word != KERNEL)
    attempt(["apt-get", "-qq", "download", *PACKAGES, kernel], environment, folder)
    attempt(["apt-get", "-qq", "source", "--download-only", "--tar-only", "bochs"], environment, folder)
    for package in folder.glob("*.deb"):
        attempt(["dpkg-deb", "--extract", package, folder / "files"])
    (source,) = folder.glob("bochs_*.orig.tar.xz")
    (folder / "source").mkdir()
    attempt(["tar", "--extract", "--strip-components=1", "--file", source, "-C", folder / "source"])
    shutil.rmtree(apt)


def build(source: Path) -> None:
    """The program `bochs` in the folder of its source."""
    environment = os.environ | {"CFLAGS": "-O2 -w", "CXXFLAGS": "-O2 -w"}
    attempt(["./configure", *OPTIONS], environment, source)
    attempt(["make", f"-j{os.cpu_count()}"], folder=source)
