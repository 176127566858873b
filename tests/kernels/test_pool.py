"""The interpreter and its pool: no instruction begins before those it waits for have ended; nobody sleeps on.

The program here is a long chain of products. Each reads all that the one before it wrote, in pieces that
went to different workers, so a barrier that lets one worker through too early gives wrong numbers. All
numbers are whole and small: the chain has one exact result.
"""

from __future__ import annotations

import dis
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import ownership
from edgeq.cores import default_threads
from edgeq.errors import UsageError
from edgeq.formats import encode
from edgeq.kernels.catalog import BARRIER, BATCH_AT, FLAGS_AT, OPERANDS_AT, WIDTH, WORK_AT, Batch
from edgeq.kernels.table import KERNELS
from edgeq.ownership import Lock, Locked
from edgeq.packs.store import kernels
from edgeq.runtime.pool import Pool
from edgeq.simd.tag import Tag
from tests.kernels.calling import Array, Memory, batch_of, tag_of
from tests.patience import STUCK_S, until
from tests.simd.rows import HERE

ROWS = 64


class Chain:
    """y = P1 . y, then y = P2 . y, … by turns between two buffers, with permutations P."""

    def __init__(self, length: int, *, barriers: bool = True, rows: int = ROWS):
        rng = np.random.default_rng(0)
        self.m = Memory()
        self.tag = tag_of(HERE, "f32")
        address = kernels().load([("matmul_float", self.tag)])["matmul_float", self.tag]
        self.orders = [rng.permutation(rows) for _ in range(4)]
        weights = [self.m.put(encode(np.eye(rows, dtype=np.float32)[o], "f32")) for o in self.orders]
        self.start = rng.integers(-1000, 1000, (1, rows)).astype(np.float32)
        self.buffers = [self.m.rows(self.start), self.m.rows(self.start)]
        self.batch = batch_of([(1, 0, 0)])
        self.code = np.zeros((length, WIDTH // 8), np.int64)
        for n, row in enumerate(self.code):
            x, y = self.buffers[n % 2], self.buffers[1 - n % 2]
            given = dict(
                x=x.address,
                x_stride=x.stride,
                weights=weights[n % 4].address,
                bias=0,
                y=y.address,
                y_stride=y.stride,
                tiles=rows // 16,
                columns=rows,
                add=0,
                count_at=Batch.COUNT,
            )
            row[0], row[BATCH_AT // 8], row[FLAGS_AT // 8] = (
                address,
                self.batch[0].ctypes.data,
                BARRIER * barriers,
            )
            for at, name in enumerate(KERNELS["matmul_float"].operands, OPERANDS_AT // 8):
                row[at] = given[name]
        self.want = self.start
        for n in range(length):
            self.want = self.want[:, self.orders[n % 4]]

    def run(self, pool: Pool) -> None:
        self.code[:, WORK_AT // 8] = 0
        self.buffers[0].values[:] = self.start
        pool.run(self.code)

    @property
    def result(self) -> Array:
        return self.buffers[len(self.code) % 2].values

    def check(self) -> None:
        np.testing.assert_array_equal(self.result, self.want)
        self.m.check()


def in_time(work: Callable[[], Any]) -> None:
    """Run `work` in a thread; fail, rather than wait for ever, when it is stuck."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(STUCK_S)
    assert not thread.is_alive(), f"not done after {STUCK_S} s: stuck"
    if failed:
        raise failed[0]


def native_threads() -> int:
    """How many threads this process has, Python's and others; 0 where the system does not tell."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 0


@pytest.fixture
def pool_of() -> Any:
    pools: list[Pool] = []

    def make(workers: int) -> Pool:
        pools.append(Pool(workers, HERE))
        return pools[-1]

    yield make
    for pool in pools:
        in_time(pool.close)


@pytest.mark.parametrize(("workers", "length"), [(1, 5000), (2, 15000), (3, 5000), (8, 1500)])
def test_barriers_hold(workers: int, length: int, pool_of: Callable[[int], Pool]) -> None:
    chain = Chain(length)
    pool = pool_of(workers)

    def work() -> None:
        for _ in range(3):
            chain.run(pool)
            chain.check()

    in_time(work)


@pytest.mark.skipif(default_threads() < 2, reason="two workers need two cores to overtake each other")
def test_the_chain_would_show_a_missing_barrier(pool_of: Callable[[int], Pool]) -> None:
    """Without barriers the same program goes wrong, sooner or later: so the test above can fail."""
    chain = Chain(5000, barriers=False)
    pool = pool_of(2)

    def overtaken() -> bool:
        chain.run(pool)
        return not np.array_equal(chain.result, chain.want)

    until(overtaken, "that one worker overtakes the other", pause=0)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_workers_that_sleep_are_woken(workers: int, pool_of: Callable[[int], Pool]) -> None:
    """Many short passes, after pauses from none to longer than a worker waits awake."""
    chain = Chain(8)
    pool = pool_of(workers)
    rng = np.random.default_rng(workers)

    def work() -> None:
        for n in range(300):
            chain.run(pool)
            chain.check()
            pause = rng.uniform(0, 600e-6) if n % 4 else rng.uniform(0, 5e-3)
            if n % 3 == 0:
                time.sleep(pause)
            else:
                end = time.perf_counter() + pause  # awake: sleeping would let workers park at leisure
                while time.perf_counter() < end:
                    pass

    in_time(work)


def test_passes_without_instructions(pool_of: Callable[[int], Pool]) -> None:
    chain = Chain(2)
    pool = pool_of(3)

    def work() -> None:
        for _ in range(50):
            pool.run(chain.code[:0])
            chain.run(pool)
            chain.check()

    in_time(work)


def test_programs_of_different_length_by_turns(pool_of: Callable[[int], Pool]) -> None:
    """A worker that is slow to leave one pass does not take the next one's length for its own."""
    chains = [Chain(1), Chain(7), Chain(100), Chain(2)]
    pool = pool_of(3)

    def work() -> None:
        for n in range(200):
            chain = chains[n % 4]
            chain.run(pool)
            chain.check()

    in_time(work)


def test_many_pools_come_and_go() -> None:
    """Closing right after opening, asleep, or after a pass; no thread is left."""
    chain = Chain(3)
    before = native_threads()

    def work() -> None:
        for n in range(30):
            pool = Pool(1 + n % 4, HERE)
            if n % 3:
                chain.run(pool)
                chain.check()
            if n % 5 == 0:
                time.sleep(0.01)
            pool.close()

    in_time(work)
    # the system takes a thread off its list a moment after it ended
    until(lambda: native_threads() <= before, "the end of all threads")


def test_pools_do_not_disturb_each_other(pool_of: Callable[[int], Pool]) -> None:
    pairs = [(Chain(300), pool_of(2)) for _ in range(3)]

    def work(chain: Chain, pool: Pool) -> None:
        for _ in range(20):
            chain.run(pool)
            chain.check()

    def all_at_once() -> None:
        threads = [threading.Thread(target=in_time, args=(lambda p=p: work(*p),)) for p in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_time(all_at_once)
    for chain, _ in pairs:
        chain.check()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_interrupted_anywhere(workers: int, pool_of: Callable[[int], Pool]) -> None:
    """Ctrl-C at any moment: the next pass is right, and the pool can be closed."""
    chain = Chain(20)
    pool = pool_of(workers)
    interrupts = passes = 0

    def interrupt(signal_number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while interrupts < 100 or not passes:  # each time later, until one comes after a whole pass
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(10e-6, 500e-6) * (1 + interrupts / 100))
                while True:
                    chain.run(pool)
                    passes += 1
            except KeyboardInterrupt:
                interrupts += 1
            chain.run(pool)
            chain.check()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_pool_of_its_own(pool_of: Callable[[int], Pool]) -> None:
    """It has none of the other threads; its first pass begins new ones, and its passes are right."""
    chain = Chain(200)
    pool = pool_of(3)
    chain.run(pool)
    child = os.fork()
    if child == 0:
        right = False
        try:
            signal.alarm(STUCK_S)  # ends the child if it is stuck
            chain.run(pool)
            chain.run(pool)
            right = np.array_equal(chain.result, chain.want) and native_threads() in (0, 3)
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    chain.run(pool)
    chain.check()


@pytest.mark.parametrize("workers", [2, 8])
def test_between_passes_workers_use_no_time(workers: int, pool_of: Callable[[int], Pool]) -> None:
    chain = Chain(8)
    pool = pool_of(workers)

    def asleep() -> bool:
        before = time.process_time()
        time.sleep(0.3)
        return time.process_time() - before < 0.003

    for _ in range(3):
        chain.run(pool)
        until(asleep, "that all workers sleep")


def test_wakes_for_nothing_do_no_harm(pool_of: Callable[[int], Pool]) -> None:
    """Counts that are left over in semaphores wake workers that look, find no pass, and sleep again."""
    chain = Chain(200)
    pool = pool_of(3)

    def work() -> None:
        for _ in range(20):
            for _ in range(50):
                pool._shared._semaphores.rouse()
            chain.run(pool)
            chain.check()

    in_time(work)

    def asleep() -> bool:
        before = time.process_time()
        time.sleep(0.3)
        return time.process_time() - before < 0.003

    until(asleep, "that all workers sleep")


def test_a_lock_lets_the_own_thread_in_and_others_wait() -> None:
    lock = Lock()
    got: list[bool] = []

    def look() -> None:
        got.append(lock.acquire(blocking=False))

    with lock, lock:
        in_time(look)
    in_time(look)
    assert got == [False, True]


def test_a_lock_is_taken_and_kept_without_a_look_for_signals() -> None:
    """CPython looks after calls and where a loop turns: neither comes once `unpack` has taken the lock."""
    names = [each.opname for each in dis.get_instructions(Lock.__enter__)]
    behind = names[names.index("UNPACK_SEQUENCE") + 1 :]
    assert behind and not any("CALL" in name or "JUMP" in name or "RESUME" in name for name in behind)


def test_what_is_locked_is_forgotten_when_it_goes() -> None:
    gc.collect()
    before = len(ownership._locks)
    kept = [Locked(), Locked()]
    assert len(ownership._locks) == before + 2
    kept.clear()
    assert len(ownership._locks) == before


def seconds(pool: Pool, chain: Chain) -> float:
    """Of one pass."""
    chain.code[:, WORK_AT // 8] = 0
    start = time.perf_counter()
    pool.run(chain.code)
    return time.perf_counter() - start


@pytest.mark.parametrize("workers", [8, 64])
def test_more_workers_than_cores_do_not_collapse(workers: int, pool_of: Callable[[int], Pool]) -> None:
    """Hundreds of barriers: where each waited for every worker, every pass would take 100 times as long."""
    chain = Chain(500)
    few, many = pool_of(2), pool_of(workers)
    best = [1e9, 1e9]

    def near() -> bool:
        best[:] = (min(pair) for pair in zip(best, (seconds(few, chain), seconds(many, chain)), strict=True))
        return best[1] < 4 * best[0]

    until(near, f"that {workers} workers take less than 4 times what 2 take", pause=0)


@pytest.mark.parametrize("workers", [0, -1, 257])
def test_a_pool_of_that_size_is_refused(workers: int) -> None:
    with pytest.raises(UsageError, match=str(workers)):
        Pool(workers, HERE)


def test_a_pool_asks_for_what_it_calls() -> None:
    assert all(KERNELS[name].plain and tag == Tag(HERE) for name, tag in Pool.requests(HERE))
