"""A forward pass as threaded code: workers call each instruction's kernel in order and meet at the barriers.

A *stretch* is the instructions up to a barrier. The pool's *barrier* is one word that says which stretch
of which pass is open, and how many workers are inside. A worker goes in, takes work from the instructions'
counters until there is none, and goes out; whoever goes out last opens the next stretch and stays inside.
So a stretch ends when all work that was taken is done, and nobody waits for a worker who has not come:
with more workers than cores, or beside other programs, those who have a core do the work.

Worker 0 is the caller's own thread. The others live in `enter`; those who waited long for a pass sleep until
one begins, without the help of Python.
"""

from __future__ import annotations

from edgeq.simd.verbs import (
    call_kernel,
    call_system,
    exchange,
    native,
    pause,
    peek_i64,
    peek_shared,
    replace,
)

from .catalog import BARRIER, FLAGS_AT, WIDTH, PoolState

BARRIER_AT, PROGRAM, LENGTH = PoolState.BARRIER, PoolState.PROGRAM, PoolState.LENGTH
WORKERS, YIELD, SLEEP, WAKE = PoolState.WORKERS, PoolState.YIELD, PoolState.SLEEP, PoolState.WAKE
ASLEEP, SEMAPHORE, POOL, WORKER = PoolState.ASLEEP, PoolState.SEMAPHORE, PoolState.POOL, PoolState.WORKER
WORKER_BYTES = PoolState.WORKER_BYTES
INSIDE, INDEX = PoolState.INSIDE_BITS, PoolState.INDEX_BITS
CLOSED = 2**INDEX - 1
ALL_INSIDE = 2**INSIDE - 1
PASSES = 2 ** (63 - INSIDE - INDEX) - 1  # they are counted in that many bits

# Waiting costs a turn of a loop, then the system's yield. A turn takes 2 ns where the processor has no hint
# for waiting and 40 ns where it has, so there are few: a barrier's worth. A yield is a system call, 0.2 to
# 1 µs on every machine (longer only when others use the time), so waits are counted in yields.
TURNS = 200
PATIENCE = TURNS + 500  # before a worker without a pass sleeps
BRIEF = 100  # yields before it sleeps again, if it was woken and came too late


@native
def rest(t, pool, waited):
    """Let a moment pass; `waited` such moments have passed."""
    if waited < TURNS:
        pause(t)
    else:
        call_system(peek_i64(pool + YIELD), 0, 0, 0)


@native
def wake(pool, worker):
    """Wake `worker` if it sleeps."""
    if worker < peek_i64(pool + WORKERS):
        own = pool + worker * WORKER_BYTES
        if peek_shared(own + ASLEEP) == 1 and exchange(own + ASLEEP, 0) == 1:
            call_system(peek_i64(pool + WAKE), peek_i64(own + SEMAPHORE), 1, 0)


@native
def sleep(pool, worker):
    """Sleep until a pass begins, or less."""
    own = pool + worker * WORKER_BYTES
    exchange(own + ASLEEP, 1)
    barrier = peek_shared(pool + BARRIER_AT)
    if (barrier >> INSIDE) & CLOSED == CLOSED and barrier >= 0:
        call_system(peek_i64(pool + SLEEP), peek_i64(own + SEMAPHORE), -1, 0)
    exchange(own + ASLEEP, 0)


@native
def leave(pool, then):
    """Go out of the open stretch, or as the last one inside make the barrier `then`; whether that was so."""
    while True:
        barrier = peek_shared(pool + BARRIER_AT)
        last = barrier & ALL_INSIDE == 1
        if replace(pool + BARRIER_AT, barrier, then if last else barrier - 1) == barrier:
            return last


@native
def work(pool, worker, stretch):
    """From inside `stretch`, run it and those that this worker opens after it; the name of the last."""
    workers = peek_i64(pool + WORKERS)
    program, length = peek_i64(pool + PROGRAM), peek_i64(pool + LENGTH)
    i = stretch & CLOSED
    while True:
        last = 0
        while last == 0 and i < length:
            instruction = program + i * WIDTH
            call_kernel(peek_i64(instruction), instruction, worker, workers)
            last = peek_i64(instruction + FLAGS_AT) & BARRIER
            i += 1
        name = (stretch >> INDEX << INDEX) + (i if i < length else CLOSED)
        if not leave(pool, (name << INSIDE) + (1 if i < length else 0)) or i >= length:
            return stretch
        stretch = name


@native
def serve(t, pool, worker):
    """Take part in passes: worker 0 until the one that has begun ends, others until they are sent home."""
    done = -1  # the stretch that this worker left last
    waited = 0
    while True:
        barrier = peek_shared(pool + BARRIER_AT)
        stretch = barrier >> INSIDE
        if stretch & CLOSED == CLOSED:
            if worker == 0 or barrier < 0:
                return 0
            if waited > PATIENCE:
                sleep(pool, worker)
                waited = PATIENCE - BRIEF
        elif stretch != done and replace(pool + BARRIER_AT, barrier, barrier + 1) == barrier:
            if stretch >> INDEX != done >> INDEX:  # new in this pass: workers wake each other, in a tree
                wake(pool, 2 * worker + 1)
                wake(pool, 2 * worker + 2)
            done = work(pool, worker, stretch)
            waited = 0
            continue
        rest(t, pool, waited)
        waited += 1


@native
def enter(t, own):
    """A thread's life, from the words of its own on."""
    return serve(t, peek_i64(own + POOL), peek_i64(own + WORKER))


@native
def run(t, pool, program, length):
    """Run a program as worker 0, with whoever comes to help."""
    if length > 0:
        exchange(pool + PROGRAM, program)
        exchange(pool + LENGTH, length)
        number = (peek_shared(pool + BARRIER_AT) >> (INSIDE + INDEX)) + 1
        exchange(pool + BARRIER_AT, (number & PASSES) << (INSIDE + INDEX))
        serve(t, pool, 0)
    return 0
