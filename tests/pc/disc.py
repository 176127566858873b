"""The disc that an emulated PC starts from: a boot loader, Linux, and a root that Linux unpacks into memory.

So the PC needs no disk and no driver: the root is Linux's first file system (initramfs) and stays it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.board.root import PYTHON, attempt
from tests.pc.emulator import Emulator

GUEST = Path(__file__).with_name("guest.py")
LEFT_OUT = {"boot", "debootstrap", "var", "usr/share", "usr/lib/apt"}  # folders that no program here reads
LOADER = """\
serial 0 115200
default edgeq
label edgeq
  kernel vmlinuz
  append initrd=root.cpio console=ttyS0,115200 mitigations=off quiet panic=-1
"""


def make(root: Path, emulator: Emulator, image: Path) -> None:
    """Write the disc, with the root as it now stands."""
    precompile(root)
    shutil.copy2(GUEST, root / "init")
    (root / "init").chmod(0o755)
    with tempfile.TemporaryDirectory(dir=image.parent) as folder:
        disc = Path(folder)
        shutil.copy2(emulator.kernel, disc / "vmlinuz")
        for part in emulator.loader:
            shutil.copy2(part, disc)
        (disc / "isolinux.cfg").write_text(LOADER)
        with open(disc / "root.cpio", "wb") as packed:
            subprocess.run(
                ["cpio", "--quiet", "--null", "--create", "--format=newc", "--owner=0:0"],
                input="\0".join(taken(root)).encode(), stdout=packed, cwd=root, check=True,
            )  # fmt: skip
        attempt(
            ["xorriso", "-as", "mkisofs", "-quiet", "-o", image, "-b", "isolinux.bin", "-c", "boot.cat",
             "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", disc]
        )  # fmt: skip


def precompile(root: Path) -> None:
    """Leave Python's bytecode beside its modules: the PC would take minutes to make it. What does not
    compile, or cannot run on this machine, is left to the PC.
    """
    if platform.machine() == "x86_64":
        compiling = ["python3", "-m", "compileall", "-qq", f"/usr/lib/python{PYTHON}", "/srv"]
        subprocess.run(["chroot", root, *compiling], stdin=subprocess.DEVNULL, capture_output=True)


def taken(root: Path) -> list[str]:
    """The names of the root's files that go onto the disc, a folder before what it holds."""
    names = []
    for folder, folders, files in os.walk(root):
        at = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if str(at / name) not in LEFT_OUT)
        names += [str(at / name) for name in (*folders, *sorted(files))]
    return names
