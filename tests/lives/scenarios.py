"""What programs do to a model, one function each: each runs in a process of its own and must end by itself.

usage: python -m tests.lives.scenarios NAME FILE.edgeq THREADS COUNT SEED

A scenario that finds something wrong raises; a crash ends the process by a signal, which the caller sees.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import gc
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import edgeq
from edgeq.errors import EdgeqError, OutOfMemoryError, UsageError
from edgeq.generate import Generation
from edgeq.ownership import Locked
from edgeq.packs import store
from tests.lives import pools
from tests.lives.left import children, junk, nothing_left, resources
from tests.patience import STUCK_S

PROMPT = [1, 403, 407, 261, 378]
PACKAGE = str(Path(edgeq.__file__).resolve().parent)

Scenario = Callable[[str, int, int, int], None]
SCENARIOS: dict[str, Scenario] = {}
ENDINGS: list[str] = []  # scenarios that matter for how the process ends: run once a process


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def ending(function: Scenario) -> Scenario:
    ENDINGS.append(function.__name__)
    return scenario(function)


for each in pools.SCENARIOS:
    scenario(each)


def same(a: np.ndarray, b: np.ndarray) -> None:
    if not np.array_equal(a, b):
        raise AssertionError("the logits have other bits")


@contextlib.contextmanager
def refused(word: str) -> Iterator[None]:
    """The block must raise one of edgeq's errors with that word."""
    try:
        yield
    except EdgeqError as error:
        if word not in str(error):
            raise
        return
    raise AssertionError(f"nothing was refused with {word!r}")


# ---- ends of a process ----
@ending
def exit_at_module_level(path: str, threads: int, count: int, seed: int) -> None:
    global kept
    kept = edgeq.load(path, threads=threads)
    kept.logits(PROMPT)


@ending
def exit_in_a_function(path: str, threads: int, count: int, seed: int) -> None:
    model = edgeq.load(path, threads=threads)
    model.logits(PROMPT)


@ending
def exit_within_a_generation(path: str, threads: int, count: int, seed: int) -> None:
    global kept
    model = edgeq.load(path, threads=threads)
    kept = model.generate(PROMPT, max_tokens=20)
    next(kept)


@ending
def exit_with_a_cycle(path: str, threads: int, count: int, seed: int) -> None:
    model: Any = edgeq.load(path, threads=threads)
    model.itself = model
    model.logits(PROMPT)


@ending
def exit_with_a_thread_at_work(path: str, threads: int, count: int, seed: int) -> None:
    """A daemon thread is in the middle of passes when the process ends."""
    model = edgeq.load(path, threads=threads)
    begun = threading.Event()

    def work() -> None:
        while True:
            model.logits(PROMPT * 20)
            begun.set()

    threading.Thread(target=work, daemon=True).start()
    begun.wait()


class Owner:
    """Closes its model when it goes."""

    def __init__(self, model: edgeq.Model) -> None:
        self.model = model

    def __del__(self) -> None:
        self.model.close()


@ending
def exit_with_a_close_in_a_destructor(path: str, threads: int, count: int, seed: int) -> None:
    """The interpreter's end drops an object that closes a model, in which a daemon thread is at work."""
    model = edgeq.load(path, threads=threads)
    sys.owner = Owner(model)  # type: ignore[attr-defined]  # what goes last
    begun = threading.Event()

    def work() -> None:
        while True:
            model.logits(PROMPT * 60)
            begun.set()

    threading.Thread(target=work, daemon=True).start()
    begun.wait()


@ending
def exit_with_work_left_for_atexit(path: str, threads: int, count: int, seed: int) -> None:
    """A handler that was registered before the model runs after edgeq's own."""
    models: list[edgeq.Model] = []
    atexit.register(lambda: print(len(models[0].logits(PROMPT))))
    models.append(edgeq.load(path, threads=threads))


@ending
def exit_by_an_error(path: str, threads: int, count: int, seed: int) -> None:
    global kept
    kept = edgeq.load(path, threads=threads)
    kept.logits(PROMPT)
    sys.exit(0)


# ---- dropped, and loaded anew ----
@scenario
def drop(path: str, threads: int, count: int, seed: int) -> None:
    """The last reference goes, or is bound anew as by a notebook's cell that runs twice."""
    model = edgeq.load(path, threads=threads)
    want = model.logits(PROMPT)
    model.close()
    del model
    before = resources()
    for turn in range(count):
        model = edgeq.load(path, threads=threads)
        same(model.logits(PROMPT), want)
        if turn % 3 == 0:
            model = edgeq.load(path, threads=threads)  # bound anew
        elif turn % 3 == 1:
            sequence = model.sequence()
            sequence.feed(PROMPT)
            del model, sequence
        else:
            cycle: list[Any] = [model]
            cycle.append(cycle)
            del model, cycle
            gc.collect()
        junk()
    model = None  # type: ignore[assignment]
    nothing_left(before)


@scenario
def drop_in_threads(path: str, threads: int, count: int, seed: int) -> None:
    """Threads that load, run and end without a word."""
    want = edgeq.load(path, threads=1).logits(PROMPT)
    before = resources()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            same(edgeq.load(path, threads=threads).logits(PROMPT), want)
        except BaseException as error:
            failed.append(error)

    for _ in range(count):
        some = [threading.Thread(target=work) for _ in range(3)]
        for thread in some:
            thread.start()
        junk()
        for thread in some:
            thread.join()
    if failed:
        raise failed[0]
    nothing_left(before)


@scenario
def fork(path: str, threads: int, count: int, seed: int) -> None:
    """Children run the parent's model and end in every way, also while another thread is in a pass."""
    if not hasattr(os, "fork"):
        return
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    model = edgeq.load(path, threads=threads)
    want = model.logits(PROMPT)
    sequence = model.sequence()
    sequence.feed(PROMPT)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            model.logits(PROMPT * 20)

    busy = threading.Thread(target=work)
    if os.fork() == 0:  # the first ends threads that libraries had begun when they were imported
        os._exit(0)
    os.wait()
    before = resources()
    for turn in range(count):
        if turn == count // 2:
            busy.start()
        child = os.fork()
        if child == 0:
            signal.alarm(900)  # ends the child if it is stuck
            if turn % 4 == 0:
                os._exit(0)
            if turn % 4 == 1:
                sys.exit(0)  # with all handlers, and a model that it did not touch
            same(model.logits(PROMPT), want)
            same(sequence.feed([5]), model.logits([*PROMPT, 5])[-1])
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise AssertionError(f"child {turn} ended with {code}")
    stop.set()
    busy.join()
    same(model.logits(PROMPT), want)
    nothing_left(before)


# ---- compiling ----
@contextlib.contextmanager
def nothing_compiled(path: str) -> Iterator[None]:
    """As at the first load on a machine: no kernel is there, neither in this process nor in a pack."""
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        os.environ["EDGEQ_KERNELS"] = folder
        store.kernels.cache_clear()
        yield


@scenario
def fork_while_compiling(path: str, threads: int, count: int, seed: int) -> None:
    """Another thread compiles, and a child loads with kernels that nobody has compiled yet."""
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    want = {kv: edgeq.load(path, threads=threads, kv=kv).logits(PROMPT) for kv in ("q8", "f16")}
    for _ in range(count):
        with nothing_compiled(path):
            begun = threading.Event()
            loaded: list[edgeq.Model] = []

            def load(begun: Any = begun, loaded: Any = loaded) -> None:
                def progress(done: int, *_: object) -> None:
                    if done:  # of the second kernel
                        begun.set()

                loaded.append(edgeq.load(path, threads=threads, progress=progress))

            thread = threading.Thread(target=load)
            thread.start()
            begun.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(STUCK_S)
                same(edgeq.load(path, threads=threads, kv="f16").logits(PROMPT), want["f16"])
                sys.exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code:
                raise AssertionError(f"the child ended with {code}")
            thread.join()
            same(loaded[0].logits(PROMPT), want["q8"])


@scenario
def little_memory_while_compiling(path: str, threads: int, count: int, seed: int) -> None:
    """A limit of addresses a little above what is used: right logits, or one of edgeq's errors."""
    want = edgeq.load(path, threads=threads, context=256).logits(PROMPT)
    rng = random.Random(seed)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    for turn in range(count):
        with nothing_compiled(path):
            before = resources()
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            more = rng.randrange(16, 64 if turn % 2 else 256) << 20
            resource.setrlimit(resource.RLIMIT_AS, (size + more, hard))
            try:
                same(edgeq.load(path, threads=threads, context=256).logits(PROMPT), want)
            except OutOfMemoryError as error:
                if "\n" in str(error):
                    raise AssertionError(f"{error!r} is not one line") from None
                del error
                nothing_left(before)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    same(edgeq.load(path, threads=threads, context=256).logits(PROMPT), want)


@scenario
def interrupt_while_compiling(path: str, threads: int, count: int, seed: int) -> None:
    """Ctrl-C at random moments of compiling: no process is left, and what was compiled is kept."""
    want = edgeq.load(path, threads=threads).logits(PROMPT)
    rng = random.Random(seed)
    for _ in range(count):
        with nothing_compiled(path):
            before = resources()
            compiled = -1

            def progress(done: int, total: int, name: str) -> None:
                nonlocal compiled
                compiled = done

            threading.Timer(rng.uniform(0.05, 2), os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                edgeq.load(path, threads=threads, progress=progress)
                signal.pause()
            except KeyboardInterrupt:
                pass
            store.kernels.cache_clear()
            nothing_left(before)
            totals: list[int] = []

            def count_kernels(done: int, total: int, name: str, totals: Any = totals) -> None:
                totals.append(total)

            model = edgeq.load(path, threads=threads, progress=count_kernels)
            if compiled > 0 and totals[:1] > [len(model.runner._kernels._addresses) - compiled]:
                raise AssertionError(f"{compiled} were compiled, and then {totals[0]}")
            same(model.logits(PROMPT), want)


@scenario
def a_compiler_is_killed(path: str, threads: int, count: int, seed: int) -> None:
    """By the system, for one, which wants its memory back: one sentence, and the next load is right."""
    want = edgeq.load(path, threads=threads).logits(PROMPT)
    for turn in range(count):
        with nothing_compiled(path):
            before = resources()

            def progress(done: int, *_: object, turn: int = turn) -> None:
                if done == 1 + turn % 3:
                    os.kill(children()[0], signal.SIGKILL)

            with refused("was ended by SIGKILL"):
                edgeq.load(path, threads=threads, progress=progress)
            nothing_left(before)
            same(edgeq.load(path, threads=threads).logits(PROMPT), want)


@scenario
def load_in_the_progress_of_another(path: str, threads: int, count: int, seed: int) -> None:
    """A thread's progress waits for another thread, which loads with kernels that nobody has compiled yet."""
    want = edgeq.load(path, threads=threads, kv="f16").logits(PROMPT)
    for _ in range(count):
        with nothing_compiled(path):
            given: list[np.ndarray] = []

            def load(given: Any = given) -> None:
                given.append(edgeq.load(path, threads=threads, kv="f16").logits(PROMPT))

            def progress(*_: object, given: Any = given, load: Any = load) -> None:
                if not given:
                    thread = threading.Thread(target=load)
                    thread.start()
                    thread.join()

            edgeq.load(path, threads=threads, progress=progress)
            same(given[0], want)


def forked(work: Callable[[], object]) -> None:
    """A child that does the work and ends."""
    child = os.fork()
    if child == 0:
        signal.alarm(900)  # ends it if it is stuck
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise AssertionError(f"a child ended with {code}")


@scenario
def fork_in_a_wait(path: str, threads: int, count: int, seed: int) -> None:
    """A signal's handler forks while its thread waits for a pass of another: the child goes on."""
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    model = edgeq.load(path, threads=threads)
    want = model.logits(PROMPT)
    pool = model.runner._pool
    run, main = pool.run, threading.get_ident()
    for _ in range(count):
        begun, forks = threading.Event(), threading.Event()

        def slowly(code: Any, begun: Any = begun, forks: Any = forks) -> None:
            if threading.get_ident() != main:
                begun.set()
                forks.wait()
            run(code)

        pool.run = slowly  # type: ignore[method-assign]
        children: list[int] = []

        def handler(*_: object, forks: Any = forks, children: Any = children) -> None:
            children.append(os.fork())
            if children[0] == 0:
                signal.alarm(900)
            forks.set()

        signal.signal(signal.SIGUSR1, handler)
        busy = threading.Thread(target=model.logits, args=(PROMPT,))
        busy.start()
        begun.wait()

        telling = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))  # into the wait
        telling.start()
        got = model.logits(PROMPT)  # in the child, too
        if children[0] == 0:
            os._exit(0 if np.array_equal(got, want) else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
        if code:
            raise AssertionError(f"the child ended with {code}")
        same(got, want)
        busy.join()
        telling.join()


@scenario
def fork_in_a_wait_for_a_lock(path: str, threads: int, count: int, seed: int) -> None:
    """The same in the wait for a lock, as there is one for the process's kernels."""
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    for _ in range(count):
        owner = Locked()
        held, free = threading.Event(), threading.Event()

        def hold(owner: Any = owner, held: Any = held, free: Any = free) -> None:
            with owner._lock:
                held.set()
                free.wait()

        children: list[int] = []

        def handler(*_: object, free: Any = free, children: Any = children) -> None:
            children.append(os.fork())
            if children[0] == 0:
                signal.alarm(900)
            free.set()

        signal.signal(signal.SIGUSR1, handler)
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        telling = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))  # into the wait
        telling.start()
        with owner._lock:
            pass
        if children[0] == 0:
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
        if code:
            raise AssertionError(f"the child ended with {code}")
        holder.join()
        telling.join()


@scenario
def fork_in_a_call(path: str, threads: int, count: int, seed: int) -> None:
    """A child goes on with what a thread that it has not was at work on; its own calls stay its own."""
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    model = edgeq.load(path, threads=threads, context=512)
    want = model.logits([5] * 257)
    for turn in range(count):
        sequence, other = model.sequence(), model.sequence()
        inside, leave = threading.Event(), threading.Event()

        def wait(done: int, total: int, inside: Any = inside, leave: Any = leave) -> None:
            if done < total:
                inside.set()
                leave.wait()

        generation = model.generate([5] * 300, max_tokens=2, progress=wait)
        work = (lambda: sequence.feed([5] * 500, progress=wait), lambda: next(generation))[turn % 2]  # noqa: B023
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait()

        def child(
            sequence: Any = sequence, generation: Any = generation, first: bool = turn % 2 == 0
        ) -> None:
            if first:
                same(sequence.feed([5]), want[-1])
                return
            with refused("made by fork"):
                next(generation)
            generation.close()
            if next(generation, None) is not None:
                raise AssertionError("it goes on")

        def parent(
            sequence: Any = sequence, generation: Any = generation, first: bool = turn % 2 == 0
        ) -> None:
            with refused("another thread"):
                sequence.feed([5]) if first else next(generation)

        parent()
        forked(child)

        def own(*_: int, other: Any = other) -> None:
            with refused("within that call"):
                other.feed([5])

        def progress(*_: int) -> None:
            forked(own)  # noqa: B023

        other.feed([5], progress=progress)
        leave.set()
        thread.join()


class Fault(Exception):
    """Raised at some line of edgeq's."""


@scenario
def break_off_loading(path: str, threads: int, count: int, seed: int) -> None:
    """An exception at a random line of loading: nothing is left, and the next load is right."""
    model = edgeq.load(path, threads=threads)
    want = model.logits(PROMPT)
    del model
    rng = random.Random(seed)
    lines = faulty(path, threads, -1)
    before = resources()
    broken = 0
    for _ in range(count):
        broken += faulty(path, threads, rng.randrange(lines)) < 0
        junk()
        nothing_left(before)
    same(edgeq.load(path, threads=threads).logits(PROMPT), want)
    if broken < count // 2:
        raise AssertionError(f"only {broken} of {count} loads were broken off")


def faulty(path: str, threads: int, at: int) -> int:
    """Load with a Fault at that line of edgeq's, of those run; -1 where it came, else how many there were."""
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            seen += 1
            if seen == at + 1:
                sys.settrace(None)
                raise Fault
        return trace

    sys.settrace(trace)
    try:
        model = edgeq.load(path, threads=threads)
    except Fault:
        return -1
    finally:
        sys.settrace(None)
    model.close()
    return seen


# ---- misuses ----
@scenario
def close_in_progress(path: str, threads: int, count: int, seed: int) -> None:
    for _ in range(count):
        model = edgeq.load(path, threads=threads)
        sequence = model.sequence()
        with refused("closed"):
            sequence.feed([1] * 500, progress=lambda *_, model=model: model.close())
        junk()


@scenario
def close_in_a_handler(path: str, threads: int, count: int, seed: int) -> None:
    """A signal's handler closes the model at any moment of a pass."""
    for turn in range(count):
        model = edgeq.load(path, threads=threads)
        sequence = model.sequence()
        signal.signal(signal.SIGALRM, lambda *_, model=model: model.close())
        signal.setitimer(signal.ITIMER_REAL, 0.0005 * (1 + turn % 7))
        with refused("closed"):
            while True:
                sequence.feed([5] * (3 if turn % 2 else 500))
                sequence.truncate(0)
        junk()


class Interrupt(BaseException):
    """What a signal's handler raises, like KeyboardInterrupt."""


@scenario
def interrupt_anywhere(path: str, threads: int, count: int, seed: int) -> None:
    """Ctrl-C at random moments of loading, feeding and generating: what is left is usable and right."""
    rng = random.Random(seed)
    model = edgeq.load(path, threads=threads, context=512)
    want = model.logits(PROMPT * 60)
    sequence = model.sequence()
    before = resources()

    def interrupt(*_: object) -> None:
        raise Interrupt

    def load_and_drop() -> None:
        same(edgeq.load(path, threads=threads).logits(PROMPT), want[:5])

    def feed() -> None:
        sequence.feed([5] * rng.randrange(1, 40))

    def generate() -> None:
        for _ in model.generate(PROMPT, max_tokens=8, temperature=0.0):
            pass

    sys.unraisablehook = lambda *_: None  # one that comes into a finalizer is told of, and goes no further
    signal.signal(signal.SIGALRM, interrupt)
    caught = 0
    for turn in range(count):
        work = (load_and_drop, feed, generate)[turn % 3]
        try:
            try:
                # again, where the first came into a finalizer, which passes nothing on
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 4e-3), 1.0)
                while True:
                    work()
                    if len(sequence.ids) > 400:
                        sequence.truncate(0)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            caught += 1
        held = sequence.ids
        if set(held) - {5} or len(held) > 512:
            raise AssertionError(held)
        if sequence.likeliest >= 0 and sequence.likeliest != model.logits(held)[-1].argmax():
            raise AssertionError(f"{sequence.likeliest} is the likeliest of other ids than {held}")
        if len(held) < 512:
            same(sequence.feed([5]), model.logits([*held, 5])[-1])
        sequence.truncate(0)
        if turn % 10 == 0:
            same(model.logits(PROMPT * 60), want)
    if caught < count * 0.9:
        raise AssertionError(f"only {caught} of {count} were interrupted")
    nothing_left(before)


@scenario
def interrupt_between_sequences(path: str, threads: int, count: int, seed: int) -> None:
    """An exception while the program is told of another sequence's pass: both stay right."""
    model = edgeq.load(path, threads=threads)
    want = model.logits([*PROMPT, 5])[-1]
    start = model.runner._program.start

    def broken(segments: Any) -> None:
        start(segments)
        raise Interrupt

    for _ in range(count):
        one, two = model.sequence(), model.sequence()
        one.feed(PROMPT)
        model.runner._program.start = broken  # type: ignore[method-assign]
        with contextlib.suppress(Interrupt):
            two.feed([7] * 9)
        model.runner._program.start = start  # type: ignore[method-assign]
        two.close()
        del two
        junk()
        same(one.feed([5]), want)


@scenario
def run_in_a_handler(path: str, threads: int, count: int, seed: int) -> None:
    """A signal's handler asks for logits: it gets them or a sentence, and the pass it came into is right."""
    model = edgeq.load(path, threads=threads)
    want, other = model.logits(PROMPT * 20), model.logits(PROMPT)
    answers = {"given": 0, "refused": 0}

    def handler(*_: object) -> None:
        try:
            same(model.logits(PROMPT), other)
            answers["given"] += 1
        except UsageError:
            answers["refused"] += 1
        finally:  # not before: signals faster than their answers would pile up
            signal.setitimer(signal.ITIMER_REAL, 0.0007)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0007)
    while sum(answers.values()) < count:
        same(model.logits(PROMPT * 20), want)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


@scenario
def feed_in_progress(path: str, threads: int, count: int, seed: int) -> None:
    """From its own progress a sequence is not fed, cut or generated with; another one is."""
    model = edgeq.load(path, threads=threads, context=512)
    want, other = model.logits([5] * 500), model.logits(PROMPT)
    for _ in range(count):
        sequence = model.sequence()

        def progress(done: int, total: int, sequence: Any = sequence) -> None:
            with refused("being fed"):
                sequence.feed([7])
            with refused("being fed"):
                sequence.truncate(0)
            same(model.logits(PROMPT), other)

        same(sequence.feed([5] * 500, progress=progress), want[-1])
        for misuse in (Generation.__next__, Generation.close):
            generations: list[Generation] = []

            def meddle(*_: int, misuse: Any = misuse, generations: Any = generations) -> None:
                misuse(generations[0])

            generations.append(model.generate([5] * 300, max_tokens=1, progress=meddle))
            with refused("at work"):
                next(generations[0])


@scenario
def callbacks_that_cross(path: str, threads: int, count: int, seed: int) -> None:
    """Two threads, each within a callback of one model, feed another or go on with what the other is at."""
    model, second = edgeq.load(path, threads=threads), edgeq.load(path, threads=threads)
    want = model.logits(PROMPT)[-1]
    for turn in range(count):
        meeting = threading.Barrier(2)
        failed: list[BaseException] = []

        def cross(mine: Any, other: Any, meeting: Any = meeting, failed: Any = failed) -> None:
            def progress(*_: int) -> None:
                meeting.wait()
                same(other.sequence().feed(PROMPT), want)

            try:
                same(mine.sequence().feed(PROMPT, progress=progress), want)
            except BaseException as error:
                failed.append(error)

        def go_on(generation: Any, failed: Any = failed) -> None:
            try:
                with contextlib.suppress(UsageError):
                    next(generation)
            except BaseException as error:
                failed.append(error)

        if turn % 2:
            pairs = ((model, second), (second, model))
            some = [threading.Thread(target=cross, args=pair) for pair in pairs]
            for thread in some:
                thread.start()
        else:
            generation = model.generate(PROMPT)
            some = [threading.Thread(target=go_on, args=(generation,))]

            def progress(*_: int, generation: Any = generation, other: Any = some[0]) -> None:
                other.start()
                while (
                    other.is_alive() and not generation._run.gi_running
                ):  # it waits for its pass, or is over
                    time.sleep(0)
                go_on(generation)

            model.sequence().feed(PROMPT, progress=progress)
        for thread in some:
            thread.join()
        if failed:
            raise failed[0]


@scenario
def loaded_again(path: str, threads: int, count: int, seed: int) -> None:
    """A second `__init__`, while a pass runs or not, changes nothing."""
    model = edgeq.load(path, threads=threads)
    want = model.logits(PROMPT * 60)
    for _ in range(count):
        sequence = model.sequence()

        def progress(*_: int, sequence: Any = sequence) -> None:
            with refused("made before"):
                model.__init__(path)  # type: ignore[misc]
            with refused("made before"):
                sequence.__init__(model)
            junk()

        same(sequence.feed(PROMPT * 60, all_logits=True, progress=progress), want)


@scenario
def one_sequence_from_many_threads(path: str, threads: int, count: int, seed: int) -> None:
    """Of calls that come at once some are refused and at least one is not; what they leave is whole."""
    model = edgeq.load(path, threads=threads, context=256)
    want = model.logits([5] * 201)
    for _ in range(count):
        sequence = model.sequence()
        done: list[int] = []

        def feed(sequence: Any = sequence, done: Any = done) -> None:
            with contextlib.suppress(UsageError):  # another is at work, or there is no room
                sequence.feed([5] * 100)
                done.append(1)

        some = [threading.Thread(target=feed) for _ in range(6)]
        for thread in some:
            thread.start()
        for thread in some:
            thread.join()
        if not done or len(sequence.ids) != 100 * len(done):
            raise AssertionError(f"{len(sequence.ids)} tokens of {len(done)} calls")
        same(sequence.feed([5]), want[100 * len(done)])


@scenario
def close_from_another_thread(path: str, threads: int, count: int, seed: int) -> None:
    for turn in range(count):
        model = edgeq.load(path, threads=threads)
        sequence = model.sequence()
        begun = threading.Event()
        ended: list[str] = []

        def work(sequence: Any = sequence, begun: Any = begun, ended: Any = ended) -> None:
            try:
                while True:
                    sequence.feed([5, 6] * 100)
                    begun.set()
                    sequence.truncate(0)
            except UsageError as error:
                ended.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
        (model if turn % 2 else sequence).close()
        junk()
        thread.join()
        if "closed" not in ended[0]:
            raise AssertionError(ended[0])


@scenario
def ids_that_change(path: str, threads: int, count: int, seed: int) -> None:
    """Neither the ids of a sequence nor those on their way into it can be changed behind its back."""
    model = edgeq.load(path, threads=threads, context=256)
    sequence = model.sequence()
    sequence.feed([1, 2, 3])
    sequence.ids.extend([1] * 100000)
    sequence.feed([5])
    if sequence.ids != [1, 2, 3, 5]:
        raise AssertionError(sequence.ids)
    with refused("cannot be set"):
        sequence.ids = []
    ids = np.array([5] * 100)
    going = True

    def change() -> None:
        while going:
            ids[:] = 10**9
            ids[:] = 5

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(count):
        with contextlib.suppress(UsageError):
            sequence.feed(ids)  # type: ignore[arg-type]
        sequence.truncate(0)
    going = False
    thread.join()


@scenario
def load_in_progress(path: str, threads: int, count: int, seed: int) -> None:
    """A load from within the progress of another: kernels are being compiled, so it is refused."""
    os.environ["EDGEQ_KERNELS"] = str(Path(path).parent / f"none-{os.getpid()}")  # nothing is there yet
    asked: list[int] = []

    def progress(*_: object) -> None:
        if not asked:
            asked.append(1)
            with refused("being compiled"):
                edgeq.load(path, threads=threads, kv="f16")

    edgeq.load(path, threads=threads, progress=progress).logits(PROMPT)


@scenario
def copies(path: str, threads: int, count: int, seed: int) -> None:
    model = edgeq.load(path, threads=threads)
    sequence = model.sequence()
    for one in (model, sequence, sequence.pages, model.runner, model.generate(PROMPT)):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with refused(type(one).__name__):
                way(one)


@scenario
def no_threads(path: str, threads: int, count: int, seed: int) -> None:
    """A system that has memory for few threads' stacks: fewer, and one warning."""
    want = edgeq.load(path, threads=1).logits(PROMPT)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for _ in range(count):
        resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), hard))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = edgeq.load(path, threads=200)
        if len(told) != 1 or "threads" not in str(told[0].message) or not 1 <= model.threads < 200:
            raise AssertionError([str(each.message) for each in told])
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))  # the threads took all that there was
        same(model.logits(PROMPT), want)
        del model
        junk()


kept: Any = None  # what is there at the end of the process


def main() -> None:
    name, path, threads, count, seed = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    if sys.platform == "linux":
        import faulthandler

        faulthandler.enable()
    SCENARIOS[name](path, int(threads), int(count), int(seed))
    print("done", flush=True)


if __name__ == "__main__":
    main()
