"""The process's kernels: taken from packs, without a compiler; what no pack has is compiled and kept.

Packs are looked for where edgeq was installed (`SHIPPED`), then in the user's folder: first those that were
built or copied there (*.pack), then the one in which runs keep what they had to compile (*.compiled). A pack
counts where the digest of the kernels' sources is this edgeq's; what a run compiled counts for the compiler
that is installed, too.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from edgeq.formats import schemes

from . import build, folder
from .build import Progress
from .executable import Executable
from .pack import Pack, PackError, decoded
from .tag import Request
from .target import Target

SHIPPED = Path(__file__).parent.parent / "packs"
BUILT, COMPILED = ".pack", ".compiled"  # how the names of packs end
WAITING = "waiting for another edgeq that is compiling"  # told with a total of 0


class Foreign(PackError):
    """A sound pack for another tier."""


class Stale(PackError):
    """A sound pack of kernels that have changed since."""


@cache
def sources_digest() -> str:
    """Of all that shapes machine code besides compiler and tag."""
    package = Path(__file__).parent.parent
    paths = [*(package / "simd").rglob("*.py"), *(package / "kernels").rglob("*.py")]
    digest = hashlib.sha256(Path(schemes.__file__).read_bytes())
    for path in sorted(p for p in paths if p.name != "meaning.py"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def opened(path: Path) -> tuple[Pack, Executable]:
    """A pack and its code in memory; PackError says why it is not to be used, OSError why it cannot be read.

    A file that was installed with edgeq is as safe as edgeq's own sources; another must be the user's own.
    """
    with folder.opened(path, safe=path.parent == SHIPPED) as (descriptor, size):
        try:
            code = Executable.of_file(descriptor, size)
        except OSError:  # a file system from which nothing may run
            with open(descriptor, "rb", closefd=False) as file:
                code = Executable.of_bytes(file.read(size))
    return decoded(code.view), code


def checked(path: Path, target: Target) -> tuple[Pack, Executable]:
    """`opened`, and refused where it is not for the target or not of this edgeq's kernels."""
    pack, code = opened(path)
    if pack.target != target:
        raise Foreign(f"it is for {pack.target}, not for {target}")
    if pack.sources != sources_digest():
        raise Stale("it was built from other kernels than this edgeq's: build it again")
    return pack, code


def files(place: Path, ending: str) -> list[Path]:
    """The files of a folder whose names end so."""
    return sorted(path for path in place.iterdir() if path.name.endswith(ending)) if place.is_dir() else []


class Kernels:
    """Native addresses of kernels. They live as long as this object does."""

    def __init__(self) -> None:
        self._addresses: dict[Request, int] = {}
        self._code: list[Executable] = []
        self._lock = threading.Lock()

    def load(self, requests: Iterable[Request], progress: Progress | None = None) -> dict[Request, int]:
        """The addresses of the kernels asked for, found or compiled. Compilation takes about half a second a
        kernel; progress(done, total, kernel) is called before each, and with (0, 0, WAITING) where another
        process does it.
        """
        with self._lock:
            wanted = sorted({r for r in requests if r not in self._addresses}, key=str)
            for isa in sorted({tag.isa for _, tag in wanted}):
                self._load(Target.of(isa), [r for r in wanted if r[1].isa == isa], progress)
            return self._addresses

    def _load(self, target: Target, wanted: list[Request], progress: Progress | None) -> None:
        for _, pack, code in packs(target):
            self._take(wanted, pack.kernels, code, pack.image_at)
            if not self._missing(wanted):
                return
        place = folder.packs_folder()
        try:
            folder.make(place)
            lock = folder.Lock(place, lambda: progress(0, 0, WAITING) if progress else None)
        except (PackError, OSError) as error:
            not_kept(place, error)
            self._compile(target, wanted, None, None, progress)
            return
        with lock:
            path = place / (target.name + COMPILED)
            kept = compiled(path, target)  # another process may have been quicker
            if kept:
                self._take(wanted, kept[0].kernels, kept[1], kept[0].image_at)
            self._compile(target, wanted, path, kept and kept[0], progress)

    def _missing(self, wanted: Iterable[Request]) -> list[Request]:
        return [request for request in wanted if request not in self._addresses]

    def _take(self, wanted: Iterable[Request], kernels: dict[str, int], code: Executable, start: int) -> None:
        """The addresses of missing kernels that the code has."""
        for name, tag in self._missing(wanted):
            at = kernels.get(tag.named(name))
            if at is not None:
                self._addresses[name, tag] = code.address + start + at
        self._code.append(code)

    def _compile(
        self,
        target: Target,
        wanted: list[Request],
        path: Path | None,
        kept: Pack | None,
        progress: Progress | None,
    ) -> None:
        """Compile what is missing, and keep it with what was kept before in the file `path`, if there is one.

        Interrupted, it keeps what was compiled so far.
        """
        missing = self._missing(wanted)
        made: dict[Request, bytes] = {}
        try:
            for request, blob in build.objects(missing, target, progress):
                made[request] = blob
        finally:
            new = build.pack(made, target, sources_digest())
            if path and made:
                try:
                    folder.publish(path, (kept.joined(new) if kept else new).encoded())
                except OSError as error:
                    not_kept(path.parent, error)
        if made:
            self._take(missing, new.kernels, Executable.of_bytes(bytes(new.image)), 0)


def packs(target: Target) -> Iterator[tuple[Path, Pack, Executable]]:
    """The packs that may hold kernels for the target, best first."""
    for path in files(SHIPPED, target.name + BUILT):
        try:
            yield path, *checked(path, target)
        except Stale:
            pass  # somebody changes kernels where edgeq is installed
        except (PackError, OSError) as error:
            not_used(path, error)
    place = folder.packs_folder()
    try:
        if not folder.readable(place):
            return
    except PackError:
        return  # the one warning comes when nothing can be kept there
    for path in files(place, BUILT):
        try:
            yield path, *checked(path, target)
        except Foreign:
            pass
        except (PackError, OSError) as error:
            not_used(path, error)
    path = place / (target.name + COMPILED)
    kept = compiled(path, target)
    if kept:
        yield path, *kept


def compiled(path: Path, target: Target) -> tuple[Pack, Executable] | None:
    """What runs have compiled so far, as far as it still counts."""
    try:
        pack, code = checked(path, target)
    except (FileNotFoundError, Stale):
        return None
    except (PackError, OSError) as error:
        not_used(path, error)
        return None
    return (pack, code) if pack.compiler == build.compiler() else None


def not_used(path: Path, error: Exception) -> None:
    warn(f"a pack of kernels is not used: {path}: {reason(error)}")


def not_kept(place: Path, error: Exception) -> None:
    warn(f"compiled kernels are not kept: {place}: {reason(error)}")


def reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=2)


@cache
def kernels() -> Kernels:
    """The process's one set of loaded kernels."""
    return Kernels()
