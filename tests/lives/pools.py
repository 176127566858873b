"""What programs do to a pool of threads while it begins and ends: one function each, as in `scenarios`.

`at` counts the places of the pool's own code where something may come between: each instruction of Python's,
of which real signals reach some. What comes is raised, or does something and lets the code go on.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from edgeq import memory, threads
from edgeq.runtime import pool, semaphores
from edgeq.runtime.pool import Pool
from edgeq.simd.host import host_isa
from tests import instructions
from tests.kernels.test_pool import Chain, native_threads
from tests.lives.left import junk, nothing_left, resources

CODE = {module.__file__ for module in (semaphores, pool, threads)}
Work = Callable[[], None]


class Fault(Exception):
    """Raised at some instruction of a pool's."""


def interfere(work: Work, at: int, come: Work) -> int:
    """Do `work`, with come() before its at-th instruction in the pool's code; how many there were."""
    return instructions.interfere(work, CODE, at, come)


def spread(work: Work, count: int, seed: int) -> list[int]:
    """`count` places of its, anywhere, or all that there are."""
    places = range(interfere(work, -1, lambda: None))
    return sorted(random.Random(seed).sample(places, min(count, len(places))))


def fault() -> None:
    raise Fault


def made(workers: int) -> Pool:
    return Pool(workers, host_isa().name)


def right(one: Any, chain: Chain) -> None:
    chain.run(one)
    chain.check()


def before_any(workers: int, chain: Chain) -> dict[str, int]:
    """What there is when no pool is: libraries are loaded by the first."""
    right(made(workers), chain)
    return resources()


def ended(one: Pool) -> None:
    """Raise unless all its threads were waited for, not only sent home, and its semaphores given back."""
    shared: Any = one._shared
    if 0 in shared._threads._errors or shared._semaphores.handles:
        raise AssertionError(f"{shared._threads._errors} {shared._semaphores.handles}")


def break_off_pool(path: str, workers: int, count: int, seed: int) -> None:
    """An exception at any instruction of a pool's beginning or end: nothing is left, and the mask is."""
    chain = Chain(4)
    sys.unraisablehook = lambda *_: None
    before, mask = before_any(workers, chain), signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def live() -> None:
        made(workers).close()

    broken, places = 0, spread(live, count, seed)
    for at in places:
        try:
            interfere(live, at, fault)
        except Fault:
            broken += 1
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()) != mask:
            raise AssertionError(f"after a fault at {at} other signals are blocked")
        if pool._held:  # the fault came before the finalizer began; the next pool does its work
            made(1).close()
        junk()
        nothing_left(before)
    right(made(workers), chain)
    if not broken:  # the rest came into the finalizer
        raise AssertionError("no pool was broken off")


def break_off_close(path: str, workers: int, count: int, seed: int) -> None:
    """An exception at any instruction of `close`: once the threads are on their way, it comes behind it."""
    before = before_any(workers, Chain(4))

    def closing(at: int) -> int:
        one = made(workers)
        try:
            return interfere(one.close, at, fault)
        except Fault:
            if one._shared._closed:
                ended(one)
            one.close()
            ended(one)
            nothing_left(before)
            return 0

    for at in random.Random(seed).choices(range(closing(-1)), k=count):
        closing(at)


def meddle(path: str, workers: int, count: int, seed: int) -> None:
    """A handler closes or runs the pool at any instruction of its beginning or end."""
    chain, other = Chain(4), Chain(3)
    before = before_any(workers, chain)

    def close() -> None:
        for shared in list(pool._held):
            shared.close()

    def run() -> None:
        for shared in list(pool._held):
            right(shared, other)

    def live() -> None:
        one = made(workers)
        right(one, chain)
        one.close()
        right(one, chain)

    for turn, at in enumerate(spread(live, count, seed)):
        interfere(live, at, run if turn % 2 else close)
        junk()
        nothing_left(before)


def fork_in_a_handler(path: str, workers: int, count: int, seed: int) -> None:
    """A handler forks at any instruction of a pool's life, and the child goes on in the midst of it."""
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    chain = Chain(4)
    before_any(workers, chain)
    parent, child = os.getpid(), 0

    def fork() -> None:
        nonlocal child
        child = os.fork()
        if child == 0:
            signal.alarm(900)  # ends the child if it is stuck

    def live() -> None:
        one = made(workers)
        right(one, chain)
        if os.getpid() != parent:
            right(one, chain)  # a second pass, if it forked between the first and its end
            if one.workers != workers or native_threads() != workers:
                raise AssertionError(f"{one.workers} of {workers} workers, {native_threads()} threads")
        one.close()

    for at in spread(live, count, seed):
        try:
            interfere(live, at, fork)
            if os.getpid() != parent:
                nothing_left({**resources(), "threads": 1})
        except BaseException:
            if os.getpid() != parent:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            raise
        if os.getpid() != parent:
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise AssertionError(f"the child of a fork at {at} ended with {code}")


def interrupt_close(path: str, workers: int, count: int, seed: int) -> None:
    """Ctrl-C while a pool is closed: the caller is told when all is done."""
    came, total = interrupted(workers, count, seed, lambda pools: pools[0].close())
    if came < total:
        raise AssertionError(f"{total - came} of {total} were lost")


def interrupt_drop(path: str, workers: int, count: int, seed: int) -> None:
    """Ctrl-C while the last reference goes: it comes behind it."""
    came, total = interrupted(workers, count, seed, list.clear)
    # one that came as a finalizer was called is told of only, and checked arrays have one each
    if total - came > 2 + 0.1 * total and not memory.checked():
        raise AssertionError(f"{total - came} of {total} were lost")


def interrupted(workers: int, count: int, seed: int, end: Callable[[list[Pool]], None]) -> tuple[int, int]:
    """Send SIGINT while a pool ends; (how many came to its user, how many were sent)."""
    rng = random.Random(seed)
    before = before_any(workers, Chain(4))
    sys.unraisablehook = lambda *_: None
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    came = sent = 0
    longest = 1e-3
    for _ in range(count):
        pools = [made(workers)]
        try:
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, longest))
            end(pools)
            longest = 0.9 * longest + 0.1 * 1.5 * (time.perf_counter() - start)
            sent += signal.setitimer(signal.ITIMER_REAL, 0)[0] == 0
        except KeyboardInterrupt:
            came += 1
            sent += 1
        for one in pools:
            if one._shared._closed:  # else Ctrl-C came before it began
                ended(one)
            del one
        pools.clear()
        if pool._held:  # its finalizer was broken off before it began; the next pool ends it
            made(1).close()
        junk()
        nothing_left(before)
    return came, sent


SCENARIOS = (
    break_off_pool,
    break_off_close,
    meddle,
    fork_in_a_handler,
    interrupt_close,
    interrupt_drop,
)
