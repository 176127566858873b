"""What `edgeq doctor` looks at: facts, JSON-able, and what is not well, by its lines."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from edgeq.cli import machine
from edgeq.errors import EdgeqError, size
from edgeq.library.find import cache_directory

PACKAGES = ("numpy", "numba", "llvmlite", "tokenizers", "sentencepiece", "jinja2", "huggingface_hub")
OPTIONAL = ("huggingface_hub",)
DISK_MIN = 500_000_000  # bytes free for converted models: one of half a billion weights takes 0.3 GB
TEMPORARY_MIN = 20_000_000  # of the folder for files that are needed for a moment
MEMORY_MIN = 100_000_000  # bytes free: a process takes half of it before the model

Facts = dict[str, Any]


class Problems:
    """Sentences of what is not well and what to do, by the line of the doctor's that they belong to."""

    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {}

    def add(self, line: str, sentence: str) -> None:
        self.of.setdefault(line, []).append(sentence)

    @property
    def all(self) -> list[str]:
        return [sentence for each in self.of.values() for sentence in each]


def examine() -> tuple[Facts, Problems]:
    """All facts by part, and what is not well."""
    problems = Problems()
    found = {
        "edgeq": installed(problems),
        "machine": hardware(problems),
        "instructions": instructions(problems),
        "kernels": kernels(problems),
        "cache": cache(problems),
        "temporary": temporary(problems),
    }
    return found, problems


def installed(problems: Problems) -> Facts:
    """Versions of edgeq and what it stands on."""
    from edgeq import __version__

    return {
        "version": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        **{name: version(name, problems) for name in PACKAGES},
    }


def version(name: str, problems: Problems) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name not in OPTIONAL:
            problems.add("edgeq", f"the package {name} is missing: install edgeq again with pip")
        return "not installed"


def hardware(problems: Problems) -> Facts:
    """Processor and memory."""
    import psutil

    from edgeq.cores import allowed_cpus, free_memory

    memory, free = psutil.virtual_memory(), free_memory()
    if free < MEMORY_MIN:
        problems.add(
            "memory", f"only {size(free)} of memory are free, too little for any model: end other programs"
        )
    return {
        "processor": machine.processor(),
        "board": machine.board(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "page_size": os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None,
        "memory_bytes": memory.total,
        "memory_free_bytes": free,
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_allowed": allowed_cpus(),
    }


def instructions(problems: Problems) -> Facts:
    """The instruction set that is chosen for the processor, with the reason."""
    from edgeq.simd import host
    from edgeq.simd.isa import ISAS

    try:
        chosen = host.host_isa()
    except (
        EdgeqError
    ) as error:  # EDGEQ_ISA asks for what is not here, or there are no kernels for the machine
        problems.add("processor", str(error))
        return {}
    forced = os.environ.get("EDGEQ_ISA")
    needs = ", ".join(sorted(chosen.needs))
    why = "EDGEQ_ISA asks for it" if forced else "the best that this processor has"
    others = {row.name: host.reason(row) or "would run too" for row in ISAS if row != chosen}
    return {
        "chosen": chosen.name,
        "forced": bool(forced),
        "why": why + (f": it has {needs}" if needs else ""),
        "features_found": sorted(host.host_features()),
        "others": others,
    }


def kernels(problems: Problems) -> Facts:
    """Where this machine's kernels come from, and whether the compiler starts for what no pack has."""
    from edgeq.packs import build, folder, store
    from edgeq.simd.host import host_isa
    from edgeq.simd.target import Target

    try:
        target = Target.of(host_isa().name)
    except EdgeqError:  # told with the instructions
        return {}
    with warnings.catch_warnings(record=True) as refused:
        warnings.simplefilter("always")
        used = list(store.packs(target))
    for warning in refused:
        problems.add("kernels", str(warning.message))
    needed = {tag.named(name) for name, tag in build.all_kernels(target)}
    there = {name for loaded in used for name in loaded.pack.kernels}
    return {
        "tier": target.name,
        "packs": {str(loaded.path): f"{len(loaded.pack.kernels)} kernels" for loaded in used},
        "to_compile": len(needed - there),
        "installed_packs": str(store.SHIPPED),
        "own_packs": str(folder.packs_folder()),
        "compiler": compiler(problems),
    }


def compiler(problems: Problems) -> str:
    """What compiles kernels here, after a look whether it starts."""
    from edgeq.packs import build

    try:
        import edgeq.simd.compile
        import edgeq.simd.frontend  # noqa: F401
    except Exception as error:  # numba or LLVM cannot start here: that is what a doctor is asked for
        problems.add(
            "kernels",
            f"the compiler does not start ({type(error).__name__}: {error}): install numba and llvmlite "
            "again, or copy a pack for this tier into the folder of packs",
        )
        return "does not start"
    return build.compiler()


def cache(problems: Problems) -> Facts:
    """Where the cache is, what it holds, whether it can be written, is this user's alone, and has room."""
    root = cache_directory().parent
    files = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else []
    place = next(path for path in (root, *root.parents) if path.exists())
    writable = os.access(place, os.W_OK | os.X_OK)
    if not writable:
        problems.add(
            "cache", f"the cache {root} cannot be written: set XDG_CACHE_HOME to a directory that can be"
        )
    if root.is_dir() and hasattr(os, "getuid"):
        facts = root.stat()
        if facts.st_uid != os.getuid():
            problems.add(
                "cache",
                f"the cache {root} belongs to another user (id {facts.st_uid}): set XDG_CACHE_HOME to "
                "a directory of your own",
            )
        elif facts.st_mode & 0o022:
            problems.add("cache", f"the cache {root} can be written by other users: chmod go-w {root}")
    disk = shutil.disk_usage(place)
    if disk.free < DISK_MIN:
        problems.add(
            "disk",
            f"the disk of the cache {root} has only {size(disk.free)} left: make room there, or set "
            "XDG_CACHE_HOME to a directory on another disk",
        )
    return {
        "directory": str(root),
        "writable": writable,
        "converted_models": [path.name for path in files if path.suffix == ".edgeq"],
        "files": len(files),
        "bytes": sum(map(bytes_of, files)),
        "disk_bytes": disk.total,
        "disk_free_bytes": disk.free,
    }


def bytes_of(path: Path) -> int:
    """Bytes of a file; 0 for one that another process removed meanwhile, as conversions do with theirs."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def temporary(problems: Problems) -> Facts:
    """The folder for files of a moment."""
    try:
        place = tempfile.gettempdir()
    except OSError:
        problems.add(
            "temporary", "no folder for temporary files can be written: set TMPDIR to one that can be"
        )
        return {}
    free = shutil.disk_usage(place).free
    if free < TEMPORARY_MIN:
        problems.add(
            "temporary",
            f"the folder for temporary files {place} has only {size(free)} left: make room there, or set "
            "TMPDIR to a directory on another disk",
        )
    return {"directory": place, "disk_free_bytes": free}
