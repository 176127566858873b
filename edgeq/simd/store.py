"""Compiled kernels: found on disk by content hash and loaded without numba, or compiled and put there.

A kernel's file holds the SHA-256 of its object and the object. Its name carries a digest of everything
that shaped it: the sources of verbs and kernels, the versions of numba and llvmlite, CPU, features and
tag. The folder belongs to the user alone; one that others can write is not read. A file that does not
match its checksum is compiled again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import stat
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm

from edgeq.errors import UsageError

from .isa import ISA, ISAS, by_name
from .tag import Tag

Request = tuple[str, Tag]  # a kernel's name and what to compile it for
Progress = Callable[[int, int, str], None]  # (done, total, kernel's name), called before each compilation


@cache
def host_features() -> frozenset[str]:
    """The features of this CPU, as LLVM names them."""
    return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)


@cache
def host_isa() -> ISA:
    """The best instruction set of this CPU, or the one that EDGEQ_ISA names; UsageError when it cannot run
    here.
    """
    usable = [i for i in ISAS if i.needs <= host_features() and i.machine in ("", platform.machine().lower())]
    forced = os.environ.get("EDGEQ_ISA", "")
    if not forced:
        return usable[0]
    try:
        isa = by_name(forced.lower())
    except KeyError as error:
        raise UsageError(f"EDGEQ_ISA: {error.args[0]}.") from None
    if isa not in usable:
        raise UsageError(
            f"EDGEQ_ISA={forced} needs {', '.join(sorted(isa.needs - host_features()))}, missing here; "
            f"it can run {', '.join(i.name for i in usable)}."
        )
    return isa


@cache
def _sources_digest() -> str:
    """Of all that shapes machine code besides CPU and tag."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    sources = [*(package / "simd").rglob("*.py"), *(package / "kernels").rglob("*.py")]
    for path in sorted(p for p in sources if p.name != "meaning.py"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for name in ("numba", "llvmlite"):
        digest.update(f"{name} {importlib.metadata.version(name)}".encode())
    digest.update(f"{llvm.get_host_cpu_name()} {sorted(host_features())}".encode())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where compiled kernels are kept: EDGEQ_KERNELS, or the user's cache folder."""
    forced = os.environ.get("EDGEQ_KERNELS")
    if forced:
        return Path(forced)
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgeq")) / "kernels"


def _private_folder() -> Path | None:
    """The cache folder, made if need be; None, with one warning, when it cannot be used safely."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = folder.stat()
        if hasattr(os, "getuid") and (
            facts.st_uid != os.getuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            raise OSError("others can write to it")
        if not os.access(folder, os.W_OK):
            raise OSError("it cannot be written")
    except OSError as error:
        warnings.warn(
            f"compiled kernels are not kept: {folder}: {error.strerror or error}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return folder


def _read(path: Path) -> bytes | None:
    """The object in a kernel file, or None where there is none or it is damaged."""
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    return blob[32:] if len(blob) > 32 and hashlib.sha256(blob[32:]).digest() == blob[:32] else None


def _publish(path: Path, obj: bytes) -> None:
    """Write whole or not at all: a reader never sees half a file. What cannot be kept is a warning."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(handle, "wb") as f:
            f.write(hashlib.sha256(obj).digest() + obj)
        os.replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        warnings.warn(f"compiled kernels are not kept: {error}", RuntimeWarning, stacklevel=4)
    except BaseException:
        _discard(temporary)
        raise


def _discard(temporary: str | None) -> None:
    if temporary is not None:
        Path(temporary).unlink(missing_ok=True)


class Kernels:
    """Native addresses of compiled kernels. They live as long as this object does."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._addresses: dict[Request, int] = {}
        self._lock = threading.Lock()

    def load(self, requests: Iterable[Request], progress: Progress | None = None) -> dict[Request, int]:
        """The addresses of the kernels asked for, loaded or compiled. Compilation takes about a second a
        kernel.
        """
        with self._lock:
            wanted = sorted({r for r in requests if r not in self._addresses}, key=str)
            if wanted:
                self._load(wanted, progress)
            return self._addresses

    def _load(self, wanted: Sequence[Request], progress: Progress | None) -> None:
        folder = _private_folder()
        digest = _sources_digest()
        found: dict[Request, tuple[str, Path | None, bytes | None]] = {}
        for name, tag in wanted:
            shape = tag.scheme_row if tag.scheme else ""
            key = hashlib.sha256(f"{digest} {name} {tag!r} {shape!r}".encode()).hexdigest()[:32]
            path = folder / f"{name}-{tag.scheme or 'any'}-{tag.isa}-{key}.kernel" if folder else None
            found[name, tag] = f"edgeq_{name}_{key}", path, _read(path) if path else None
        missing = [r for r in wanted if found[r][2] is None]
        for done, (name, tag) in enumerate(missing):
            if progress:
                progress(done, len(missing), f"{name} {tag}")
            from .compile import compile_kernel

            symbol, path, _ = found[name, tag]
            obj = compile_kernel(name, tag, symbol)
            found[name, tag] = symbol, path, obj
            if path:
                _publish(path, obj)
        if missing and progress:
            progress(len(missing), len(missing), "")
        for _, _, blob in found.values():
            assert blob is not None
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(blob))
        self._engine.finalize_object()
        for request, (symbol, _, _) in found.items():
            address = self._engine.get_function_address(symbol)
            if not address:
                raise RuntimeError(f"kernel {request[0]} was loaded but is not there")
            self._addresses[request] = address


@cache
def kernels() -> Kernels:
    """The process's one set of loaded kernels."""
    return Kernels()
