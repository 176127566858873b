"""edgeq doctor: what edgeq finds on this machine, and whether it is well."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from edgeq.cli import EXIT_FAILED, terminal
from edgeq.cli.options import json_option
from edgeq.errors import EdgeqError
from edgeq.library.find import cache_directory

PACKAGES = (
    "numpy",
    "numba",
    "llvmlite",
    "tokenizers",
    "sentencepiece",
    "jinja2",
    "huggingface_hub",
)


@click.command("doctor")
@click.option("--tune", is_flag=True, help="Measure which tiles and threads are fastest here, and keep it.")
@json_option
@click.pass_context
def command(context: click.Context, tune: bool, as_json: bool) -> None:
    """Show processor, instruction set and why it was chosen, memory, cache and versions. Exit code 1 if
    something is wrong."""
    measured = measure() if tune else {}
    facts = {**examine(), **measured}
    if as_json:
        terminal.say_json(facts)
    else:
        for part, values in facts.items():
            if isinstance(values, dict):
                terminal.say(f"{part}:")
                for name, value in values.items():
                    terminal.say(f"  {name.replace('_', ' ')}: {spell(name, value)}")
        terminal.say("\n".join(f"problem: {problem}" for problem in facts["problems"]) or "all is well")
    if facts["problems"]:
        context.exit(EXIT_FAILED)


def spell(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {spell('', text)}" for key, text in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if name.endswith("bytes") and isinstance(value, int):
        return terminal.size(value)
    return terminal.one_line(str(value))


def examine() -> dict[str, Any]:
    """All facts, JSON-able; "problems" is a list of sentences."""
    import psutil

    from edgeq import __version__

    problems: list[str] = []
    memory = psutil.virtual_memory()
    return {
        "edgeq": {
            "version": __version__,
            "python": f"{platform.python_version()} ({sys.executable})",
            **{name: version(name, problems) for name in PACKAGES},
        },
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "page_size": os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None,
            "memory_bytes": memory.total,
            "memory_free_bytes": memory.available,
            "cores_physical": psutil.cpu_count(logical=False),
            "cores_allowed": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
        },
        "instructions": instructions(problems),
        "kernels": kernels(problems),
        "tuned": tuning(),
        "cache": cache(problems),
        "problems": problems,
    }


def version(name: str, problems: list[str]) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "huggingface_hub":
            problems.append(f"the package {name} is missing: install edgeq again with pip")
        return "not installed"


def instructions(problems: list[str]) -> dict[str, Any]:
    """The processor and the instruction set that is chosen for it, with the reason."""
    from edgeq.simd import host
    from edgeq.simd.isa import ISAS

    try:
        chosen = host.host_isa()
    except (
        EdgeqError
    ) as error:  # EDGEQ_ISA asks for what this processor lacks, or there are no kernels for it
        problems.append(str(error))
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


def kernels(problems: list[str]) -> dict[str, Any]:
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
    problems.extend(str(warning.message) for warning in refused)
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


def tuning() -> dict[str, Any]:
    """What `--tune` found to be better than the defaults, where the engine looks for it."""
    from edgeq import tuned
    from edgeq.cores import default_threads
    from edgeq.kernels import sources
    from edgeq.simd.host import host_isa

    cores = default_threads()
    try:
        found = tuned.read(host_isa().name, cores, sources.digest())
    except EdgeqError:  # told with the instructions
        return {}
    return {
        "threads": found.threads or f"{cores}, the default",
        "tiles": dict(found.tiles) or "the instruction set's own",
        "file": str(tuned.file()),
    }


def measure() -> dict[str, Any]:
    """Find what is fastest here and keep it; the figures."""
    from edgeq import tune, tuned
    from edgeq.cores import default_threads
    from edgeq.kernels import sources
    from edgeq.simd.host import host_isa

    status = terminal.Status()
    found, choices = tune.tune(lambda subject: status.show(f"measuring {subject}"))
    status.clear()
    tuned.write(found, host_isa().name, default_threads(), sources.digest())
    return {"measured": {choice.subject: choice.to_json() for choice in choices}}


def compiler(problems: list[str]) -> str:
    """What compiles kernels here, after a look whether it starts."""
    from edgeq.packs import build

    try:
        import edgeq.simd.compile
        import edgeq.simd.frontend  # noqa: F401
    except Exception as error:  # numba or LLVM cannot start here: that is what a doctor is asked for
        problems.append(f"the compiler does not start: {type(error).__name__}: {error}")
        return "does not start"
    return build.compiler()


def cache(problems: list[str]) -> dict[str, Any]:
    """Where the cache is, what it holds, and whether it can be written and belongs to this user alone."""
    models = cache_directory()
    root = models.parent
    files = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else []
    place = next(path for path in (root, *root.parents) if path.exists())
    writable = os.access(place, os.W_OK | os.X_OK)
    if not writable:
        problems.append(f"the cache {root} cannot be written: set XDG_CACHE_HOME to a directory that can be")
    if root.is_dir() and hasattr(os, "getuid"):
        facts = root.stat()
        if facts.st_uid != os.getuid():
            problems.append(f"the cache {root} belongs to another user (id {facts.st_uid})")
        elif facts.st_mode & 0o022:
            problems.append(f"the cache {root} can be written by other users: chmod go-w {root}")
    import shutil

    return {
        "directory": str(root),
        "writable": writable,
        "converted_models": [path.name for path in files if path.suffix == ".edgeq"],
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "disk_free_bytes": shutil.disk_usage(Path(place)).free,
    }
