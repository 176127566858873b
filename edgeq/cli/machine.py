"""What this machine is, in the words of who bought it. `root` is where Linux's files stand, for tests."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

# ARM's cores by "CPU part" of /proc/cpuinfo where "CPU implementer" is 0x41: the system has no names for them
ARM = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse N1", 0xD0D: "Cortex-A77",
    0xD40: "Neoverse V1", 0xD41: "Cortex-A78", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD48: "Cortex-X2", 0xD49: "Neoverse N2", 0xD4D: "Cortex-A715", 0xD4F: "Neoverse V2",
    0xD80: "Cortex-A520", 0xD81: "Cortex-A720",
}  # fmt: skip

# instruction sets as those who sell processors write them
INSTRUCTIONS = {
    "avx512vnni": "AVX-512 VNNI", "avxvnni": "AVX-VNNI", "avx2": "AVX2",
    "i8mm": "NEON with i8mm", "dotprod": "NEON with dot products", "neon": "NEON",
    "generic": "no vectors that edgeq has kernels for",
}  # fmt: skip


def processor(root: Path = Path("/")) -> str:
    """The processor's name; "" where the system does not tell it."""
    if sys.platform != "linux":
        return platform.processor() or os.environ.get("PROCESSOR_IDENTIFIER", "")
    names = dict.fromkeys(_cores(_read(root / "proc/cpuinfo")))  # a kind once, in order
    return " and ".join(names)


def board(root: Path = Path("/")) -> str:
    """The name of a board, as "Raspberry Pi 5 Model B Rev 1.0"; "" on a PC."""
    return _read(root / "proc/device-tree/model").strip("\0\n ")


def _cores(cpuinfo: str) -> Iterator[str]:
    """The name of each processor that /proc/cpuinfo lists, where it has one."""
    for block in cpuinfo.split("\n\n"):
        facts = {
            name.strip(): value.strip()
            for name, _, value in (line.partition(":") for line in block.splitlines())
        }
        part = facts.get("CPU part", "")
        if name := facts.get("model name"):
            yield name
        elif facts.get("CPU implementer") == "0x41" and (known := ARM.get(_hexadecimal(part))):
            yield f"ARM {known}"
        elif part:
            yield f"ARM core {facts.get('CPU implementer', '')} {part}"


def _hexadecimal(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return -1


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
