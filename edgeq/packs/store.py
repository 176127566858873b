"""The process's kernels: taken from packs, without a compiler; what no pack has is compiled and kept.

Packs are looked for where edgeq was installed (`SHIPPED`), then in the user's folder: first those that were
built or copied there (*.pack), then the one in which runs keep what they had to compile (*.compiled). A pack
counts where the digest of the kernels' sources is this edgeq's; what a run compiled counts for the compiler
that is installed, too.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from edgeq.errors import OutOfMemoryError, UsageError
from edgeq.kernels import sources
from edgeq.ownership import Line, Turn, Unique
from edgeq.simd import shortage
from edgeq.simd.tag import Request
from edgeq.simd.target import Target

from . import build, folder
from .build import Progress
from .executable import Executable
from .pack import Pack, PackError, decoded

SHIPPED = Path(__file__).parent / "shipped"
BUILT, COMPILED = ".pack", ".compiled"  # how the names of packs end
WAITING = "waiting for another edgeq that is compiling"  # in the place of a kernel's name


class Foreign(PackError):
    """A sound pack for another tier."""


class Stale(PackError):
    """A sound pack of kernels that have changed since."""


@dataclass(frozen=True)
class Loaded:
    """A pack whose code can be called."""

    path: Path | None  # of its file
    pack: Pack
    code: Executable

    def address(self, kernel: str) -> int | None:
        """Of the kernel of that name, if it is there."""
        at = self.pack.kernels.get(kernel)
        return None if at is None else self.code.address + self.pack.image_at + at


def opened(path: Path) -> Loaded:
    """A pack's file; PackError says why it is not to be used, OSError why it cannot be read.

    A file that was installed with edgeq is as safe as edgeq's own sources; another must be the user's own.
    """
    with folder.opened(path, safe=path.parent == SHIPPED) as (descriptor, size):
        try:
            code = Executable.of_file(descriptor, size)
        except OSError:  # a file system from which nothing may run
            with open(descriptor, "rb", closefd=False) as file:
                code = Executable.of_bytes(file.read(size))
    return Loaded(path, decoded(code.view), code)


def checked(path: Path, target: Target) -> Loaded:
    """`opened`, and refused where it is not for the target or not of this edgeq's kernels."""
    loaded = opened(path)
    if loaded.pack.target != target:
        raise Foreign(f"it is for {loaded.pack.target}, not for {target}")
    if loaded.pack.sources != sources.digest():
        raise Stale("it was built from other kernels than this edgeq's: build it again")
    return loaded


def files(place: Path, ending: str) -> list[Path]:
    """The files of a folder whose names end so."""
    return sorted(path for path in place.iterdir() if path.name.endswith(ending)) if place.is_dir() else []


class Kernels(Unique):
    """Native addresses of kernels. They live as long as this object does.

    Any thread may load, and none waits for another here: of several that want kernels which nobody has
    compiled yet, one has the folder's lock.
    """

    def __init__(self) -> None:
        self._addresses: dict[Request, int] = {}
        self._loaded: list[Loaded] = []  # whose code the addresses point into
        self._loading = Line()  # calls that find or compile kernels
        self._telling = Line()  # within the `progress` of one that does so with the lock

    def load(self, requests: Iterable[Request], progress: Progress | None = None) -> dict[Request, int]:
        """The addresses of the kernels asked for, found or compiled: that takes about half a second each.

        progress(done, total, kernel) is called before the first is compiled and after each, with the next
        that is to be done, and with WAITING for the kernel where another is waited for, which may be
        compiling them. OutOfMemoryError where memory is short, another EdgeqError for a kernel that cannot be
        compiled.
        """
        requests = set(requests)
        wanted = sorted((r for r in requests if r not in self._addresses), key=str)
        if wanted:
            self._find(wanted, progress)
        return {request: self._addresses[request] for request in requests}

    def _find(self, wanted: list[Request], progress: Progress | None) -> None:
        turn = Turn("kernels are being compiled")
        try:
            if any(other.thread == turn.thread for other in self._loading.come(turn)):
                raise UsageError(f"{turn.doing}: no model can be loaded from within that call.")
            for isa in sorted({tag.isa for _, tag in wanted}):
                self._load(Target.of(isa), [r for r in wanted if r[1].isa == isa], progress)
        except (OSError, ImportError, SystemError) as error:
            if shortage.behind(error):
                raise OutOfMemoryError(f"there is not enough memory for kernels: {reason(error)}") from None
            raise
        finally:
            turn.over = True

    def _load(self, target: Target, wanted: list[Request], progress: Progress | None) -> None:
        for loaded in packs(target):
            wanted = self._take(wanted, loaded)
            if not wanted:
                return
        place = folder.packs_folder()
        try:
            folder.make(place)
            file = folder.lock_file(place)
        except (PackError, OSError) as error:
            not_kept(place, error)
            self._compile(target, wanted, progress)
            return
        with file:
            try:
                told = partial(progress, 0, len(wanted), WAITING) if progress else lambda: None
                folder.lock(file, told, self._hopeless)
                path = place / (target.name + COMPILED)
                kept = compiled(path, target)  # another process may have been quicker
                if kept:
                    wanted = self._take(wanted, kept)
                if wanted:
                    self._compile(target, wanted, self._marked(progress), path, kept)
            finally:
                folder.unlock(file)

    def _hopeless(self) -> bool:
        """Whether a thread of this process that has the lock is within its `progress`, which may be waiting
        for whoever asks.
        """
        return bool(self._telling.at_work())

    def _marked(self, progress: Progress | None) -> Progress:
        """`progress`, with a mark while it runs."""

        def marked(done: int, total: int, kernel: str) -> None:
            if progress:
                turn = Turn("its progress is told")
                try:
                    self._telling.come(turn)
                    progress(done, total, kernel)
                finally:
                    turn.over = True

        return marked

    def _take(self, wanted: list[Request], loaded: Loaded) -> list[Request]:
        """Take the addresses of kernels from the pack; those that it does not have."""
        found = {(name, tag): loaded.address(tag.named(name)) for name, tag in wanted}
        self._loaded.append(loaded)  # first: an address without its code would outlive it
        self._addresses.update((request, at) for request, at in found.items() if at is not None)
        return [request for request, at in found.items() if at is None]

    def _compile(
        self,
        target: Target,
        wanted: list[Request],
        progress: Progress | None,
        path: Path | None = None,
        kept: Loaded | None = None,
    ) -> None:
        """Compile kernels; with `path`, keep them in that file, beside those that were kept there before.

        Interrupted, it keeps what was compiled so far.
        """
        made: dict[Request, bytes] = {}
        try:
            with contextlib.closing(build.objects(wanted, target, progress)) as objects:
                for request, blob in objects:
                    made[request] = blob
        finally:
            if made:
                new = build.pack(made, target)
                if path:
                    keep(path, kept.pack.joined(new) if kept else new)
        self._take(wanted, Loaded(None, new, Executable.of_bytes(new.image)))


def packs(target: Target) -> Iterator[Loaded]:
    """The packs that may hold kernels for the target, best first."""
    for path in files(SHIPPED, target.name + BUILT):
        try:
            yield checked(path, target)
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
    stale: list[tuple[Path, Stale]] = []
    for path in files(place, BUILT):
        try:
            yield checked(path, target)
        except Foreign:
            pass
        except Stale as error:
            stale.append((path, error))
        except (PackError, OSError) as error:
            not_used(path, error)
    kept = compiled(place / (target.name + COMPILED), target)
    if kept:
        yield kept
    for path, why in stale:  # where it costs nothing, because all was compiled anew, nothing is said
        not_used(path, why)


def compiled(path: Path, target: Target) -> Loaded | None:
    """What runs have compiled so far, as far as it still counts."""
    try:
        loaded = checked(path, target)
    except (FileNotFoundError, Stale):
        return None
    except (PackError, OSError) as error:
        not_used(path, error)
        return None
    return loaded if loaded.pack.compiler == build.compiler() else None


def keep(path: Path, pack: Pack) -> None:
    """Write what a run compiled; a warning where that fails."""
    try:
        folder.publish(path, pack.encoded())
    except OSError as error:
        not_kept(path.parent, error)


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
