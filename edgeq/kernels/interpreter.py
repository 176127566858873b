"""A forward pass as threaded code: call each instruction's kernel, meet where it asks for it, go on.

All workers run `interpret` over the same program. Worker 0 is the caller's own thread; the others live in
`serve`, wait for a pass by spinning for a while and then return to the caller, who lets the thread sleep
until `begin` says whom to wake.
"""

from __future__ import annotations

from edgeq.simd.verbs import (
    call_kernel,
    call_plain,
    exchange,
    fetch_add,
    native,
    pause,
    peek_i64,
    peek_shared,
)

from .catalog import BARRIER, FLAGS_AT, WIDTH, Crew

ARRIVED, TURN, PASS, DONE = Crew.ARRIVED, Crew.TURN, Crew.PASS, Crew.DONE
PROGRAM, LENGTH, WORKERS, YIELD = Crew.PROGRAM, Crew.LENGTH, Crew.WORKERS, Crew.YIELD
PARKED, WORKER_BYTES = Crew.PARKED, Crew.WORKER_BYTES
PATIENCE = 2000  # turns of a spin before the core is offered to others
WAIT = 4000  # turns of a spin between passes before the thread goes to sleep


@native
def meet(t, crew, workers):
    """Wait until all workers are here."""
    turn = peek_shared(crew + TURN)
    if fetch_add(crew + ARRIVED, 1) == workers - 1:
        exchange(crew + ARRIVED, 0)
        fetch_add(crew + TURN, 1)
        return
    spins = 0
    while peek_shared(crew + TURN) == turn:
        pause(t)
        spins += 1
        if spins > PATIENCE:
            call_plain(peek_i64(crew + YIELD))


@native
def interpret(t, crew, worker):
    """Run the crew's program as this worker."""
    workers = peek_i64(crew + WORKERS)
    program = peek_i64(crew + PROGRAM)
    for i in range(peek_i64(crew + LENGTH)):
        instruction = program + i * WIDTH
        call_kernel(peek_i64(instruction), instruction, worker, workers)
        if workers > 1 and peek_i64(instruction + FLAGS_AT) == BARRIER:
            meet(t, crew, workers)
    if workers > 1:
        meet(t, crew, workers)
    if worker == 0:
        exchange(crew + DONE, peek_shared(crew + PASS))
    return 0


@native
def serve(t, crew, worker, last):
    """Run passes from the one after `last` on; return the last one run when the thread may sleep, -1 to go
    home.
    """
    parked = crew + PARKED + worker * WORKER_BYTES
    spins = 0
    while True:
        now = peek_shared(crew + PASS)
        if now < 0:
            return -1
        if now != last:
            interpret(t, crew, worker)
            last = now
            spins = 0
            continue
        pause(t)
        spins += 1
        if spins > WAIT:
            exchange(parked, 1)
            if peek_shared(crew + PASS) == last or exchange(parked, 0) == 0:
                return last  # asleep, or a pass has begun and the leader is about to wake us
            spins = 0


@native
def begin(t, crew, program, length):
    """Begin a pass; marks the workers whose threads sleep, and returns how many they are."""
    exchange(crew + PROGRAM, program)
    exchange(crew + LENGTH, length)
    fetch_add(crew + PASS, 1)
    asleep = 0
    for worker in range(1, peek_i64(crew + WORKERS)):
        parked = crew + PARKED + worker * WORKER_BYTES
        if exchange(parked, 0) == 1:
            exchange(parked + 8, 1)
            asleep += 1
    return asleep
