"""From kernels to a pack: which kernels a tier has, compiled by other processes, and linked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence

from edgeq.formats.schemes import SCHEMES
from edgeq.kernels import sources
from edgeq.kernels.table import KERNELS
from edgeq.simd import compilers
from edgeq.simd.compiler import SYMBOL
from edgeq.simd.link import link
from edgeq.simd.sources import Sources
from edgeq.simd.tag import Request, Tag
from edgeq.simd.target import Target

from .pack import Pack

Progress = Callable[[int, int, str], None]  # (done, total, the kernel that is next to be done)
FEW = 2  # processes that compile for somebody who waits: each more has its start to pay
WORTH = 6  # kernels for each of them: fewer take no longer than its start
COMPILER_BYTES = 400_000_000  # of memory to be free for each process: it takes half of that


def all_kernels(target: Target) -> list[Request]:
    """The tier's kernels that packs hold: those of no scheme, and of every scheme that is shipped."""
    tokens = target.isa_row.tokens
    return [
        (name, Tag(target.isa) if row.plain else Tag(target.isa, scheme, tokens))
        for name, row in KERNELS.items()
        for scheme in row.schemes
        if not scheme or SCHEMES[scheme].shipped
    ]


def objects(
    requests: Sequence[Request],
    target: Target,
    progress: Progress | None = None,
    jobs: int | None = None,
) -> Generator[tuple[Request, bytes], None, None]:
    """Each kernel and its object file, as they are compiled by `jobs` processes, by default as many as pay.

    OutOfMemoryError or another EdgeqError for a kernel that cannot be compiled.
    """
    left = dict.fromkeys(requests)

    def tell() -> None:
        if progress:
            name, tag = next(iter(left), ("", ""))
            progress(len(requests) - len(left), len(requests), f"{name} {tag}".strip())

    processes, told = jobs or few(len(requests)), Sources(sources.__name__, sources.digest())
    with contextlib.closing(compiling(requests, target, processes, told)) as made:
        tell()
        for request, blob in made:
            yield request, blob
            del left[request]
            tell()


compiling = compilers.compiled  # a name of its own, for tests that have a quicker compiler


def few(kernels: int) -> int:
    """Processes that are worth their start for so many kernels that somebody waits for; half of the cores are
    left to who has other work.
    """
    return max(1, min(FEW, kernels // WORTH, affordable() // 2))


def affordable() -> int:
    """Processes that there are cores and memory for, at least one."""
    from edgeq import cores

    return max(1, min(cores.default_threads(), cores.free_memory() // COMPILER_BYTES))


def pack(made: Mapping[Request, bytes], target: Target) -> Pack:
    """The kernels' objects as a pack."""
    image, kernels = link(
        {tag.named(name): blob for (name, tag), blob in made.items()}, SYMBOL, target.machine
    )
    return Pack(target, sources.digest(), compiler(), kernels, image)


def compiler() -> str:
    """What compiles kernels here: numba and llvmlite and their versions."""
    import importlib.metadata  # slow to import, and of no use where packs have all that is needed

    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite"))
