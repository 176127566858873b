"""From kernels to a pack: which kernels a tier has, compiled here or by several processes, and linked."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence

from edgeq.kernels.catalog import KERNELS

from .link import link
from .pack import Pack
from .tag import Request, Tag
from .target import Target

Progress = Callable[[int, int, str], None]  # (done, total, kernel's name), called before each compilation
SYMBOL = "kernel"  # what every object calls its function


def all_kernels(target: Target) -> list[Request]:
    """The tier's kernels for every scheme."""
    tokens = target.isa_row.tokens
    return [
        (name, Tag(target.isa) if row.plain else Tag(target.isa, scheme, tokens))
        for name, row in KERNELS.items()
        for scheme in row.schemes
    ]


def objects(
    requests: Sequence[Request], target: Target, progress: Progress | None = None, jobs: int = 1
) -> Iterator[tuple[Request, bytes]]:
    """Each kernel and its object file, as they are compiled; by `jobs` processes where there are several."""
    compiling = (
        map(compiled, requests, [target] * len(requests)) if jobs == 1 else pooled(requests, target, jobs)
    )
    for done, (name, tag) in enumerate(requests):
        if progress:
            progress(done, len(requests), f"{name} {tag}")
        yield (name, tag), next(compiling)
    if progress:
        progress(len(requests), len(requests), "")


def compiled(request: Request, target: Target) -> bytes:
    from .compile import compile_kernel

    return compile_kernel(*request, SYMBOL, target)


def pooled(requests: Sequence[Request], target: Target, jobs: int) -> Iterator[bytes]:
    """`compiled` of each request, in their order, by other processes, which end with this one."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), ignore_interrupt)
    try:
        yield from pool.map(compiled, requests, [target] * len(requests))
    finally:
        pool.shutdown(cancel_futures=True)


def ignore_interrupt() -> None:
    """Ctrl-C is for the process that waits for the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pack(made: Mapping[Request, bytes], target: Target, sources: str) -> Pack:
    """The kernels' objects as a pack."""
    image, kernels = link(
        {tag.named(name): blob for (name, tag), blob in made.items()}, SYMBOL, target.machine
    )
    return Pack(target, sources, compiler(), kernels, image)


def compiler() -> str:
    """What compiles kernels here: numba and llvmlite and their versions."""
    import importlib.metadata  # slow to import, and of no use where packs have all that is needed

    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite"))
