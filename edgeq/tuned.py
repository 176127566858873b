"""What `edgeq doctor --tune` found to be faster here than the defaults, and the file that keeps it.

Sizes of tiles and numbers of threads change no bit of any result, so a file that is gone, damaged or from
another machine means nothing but the defaults.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeq.formats.schemes import SCHEMES, rounds_to
from edgeq.kernels.table import KERNELS
from edgeq.whole import write_whole

TILES = (
    2,
    4,
    6,
    8,
    12,
)  # tokens to a tile that may be chosen: instruction sets that pair tokens take no odd ones
# kernels whose tiles may be chosen: products of the shipped schemes that edgeq rounds to, as most models have
TILED = tuple(
    f"matmul {name}"
    for name in KERNELS["matmul"].schemes
    if SCHEMES[name].shipped and rounds_to(SCHEMES[name])
)
CPUINFO = (
    "model name",
    "CPU implementer",
    "CPU part",
    "CPU revision",
)  # in /proc/cpuinfo: the processor's kind


FILE_BYTES_MAX = 256 << 10  # of the file that keeps findings: those of hundreds of machines


@dataclass(frozen=True)
class Tuned:
    """What is better than the default."""

    tiles: Mapping[str, int] = field(default_factory=dict)  # tokens to a tile by kernel and scheme
    threads: int = 0  # 0 where the default is best


def file() -> Path:
    """Where findings are kept, of all machines that share a home."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgeq", appauthor=False)) / "tuned.json"


def key(isa: str, cores: int, sources: str) -> str:
    """What a finding holds for: this kind of processor, so many cores of it, and kernels of these sources."""
    return f"{processor()}, {cores} cores, {isa}, kernels {sources[:16]}"


def processor() -> str:
    """The kind of this processor, as far as the system tells it at once."""
    if sys.platform != "linux":
        return os.environ.get("PROCESSOR_IDENTIFIER", sys.platform)
    facts: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines.read(4096).splitlines():  # the first processor's: others take the system longer
                name, _, value = line.partition(":")
                facts.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    return " ".join(facts[name] for name in CPUINFO if name in facts)


def findings() -> dict[str, Any]:
    """All that is kept, by key."""
    try:
        with file().open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
        kept = json.loads(raw) if len(raw) <= FILE_BYTES_MAX else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def read(isa: str, cores: int, sources: str) -> Tuned:
    """What was found for this machine; what makes no sense is left out."""
    kept = findings()
    found = kept.get(key(isa, cores, sources)) if kept else None
    if not isinstance(found, dict):
        return Tuned()
    tiles, threads = found.get("tiles"), found.get("threads")
    tiles = tiles if isinstance(tiles, dict) else {}
    return Tuned(
        {name: tiles[name] for name in TILED if type(tiles.get(name)) is int and tiles[name] in TILES},
        threads if type(threads) is int and 1 <= threads <= (os.cpu_count() or 1) else 0,
    )


def forget() -> bool:
    """Let go of all findings for this kind of processor; whether there were any. OSError."""
    kept = findings()
    left = {name: value for name, value in kept.items() if not name.startswith(f"{processor()}, ")}
    if len(left) == len(kept):
        return False
    if left:
        keep(left)
    else:
        file().unlink(missing_ok=True)
    return True


def write(tuned: Tuned, isa: str, cores: int, sources: str) -> None:
    """Keep what was found, whole or not at all; findings for kernels of other sources go. OSError."""
    end = key("", 0, sources).rpartition(", ")[2]
    kept = {name: value for name, value in findings().items() if name.endswith(end)}
    kept[key(isa, cores, sources)] = asdict(tuned)
    keep(kept)


def keep(kept: Mapping[str, Any]) -> None:
    """Write the file of findings, whole or not at all. OSError."""
    place = file()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(place, json.dumps(kept, indent=1).encode())
