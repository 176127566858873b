"""Compilers: processes that compile kernels for this one, so that numba and LLVM never come into it.

They would stay for good, LLVM ends a process that has no memory for it, and numba's lock does not survive
`fork`. A compiler is this Python with this process's `sys.path` and this very edgeq (`compiler.py` is what
runs there and tells of the protocol). It inherits nothing else that could change what it makes: neither
descriptors nor variables that Python and numba read.

Where there is no Python to start, in a frozen program or one that only embeds Python, this process compiles
by itself (`Here`), and those three things are as they are with numba.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgeq.errors import EdgeqError, OutOfMemoryError, UsageError

from . import shortage
from .compiler import FAILED, HEADER, LENGTH, MARK, OBJECT, SHORT, WORDS_MAX, Answer, Order, answer, failure
from .pipes import no_signal_of_pipes, standard_descriptors_taken
from .sources import Sources
from .tag import Request
from .target import Target

PACKAGE = Path(__file__).parent.parent
SAID_MAX = 1 << 16  # bytes of what libraries say beside answers, of which the last are kept
BODY_MAX = 64 << 20  # bytes of an answer: a hundred times the largest kernel
LOOK_S = 0.2  # between two looks whether the threads that drive compilers are still there

START = """
import signal  # Ctrl-C is for the parent, from the first moment on
signal.signal(signal.SIGINT, signal.SIG_IGN)
import importlib.util, json, os, sys
if sys.platform != "win32":
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
setup = json.loads(sys.stdin.buffer.readline())
sys.path[:] = setup["path"]
place = dict(submodule_search_locations=setup["folders"])
spec = importlib.util.spec_from_file_location("edgeq", setup["file"], **place)
sys.modules["edgeq"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["edgeq"])
from edgeq.simd.compiler import serve
try:
    serve(*setup["sources"])
except OSError:  # the parent is gone
    os._exit(1)
os._exit(0)
"""
KEPT = ("PYTHONHOME", "PYTHONPLATLIBDIR")  # where Python's own library is
# the terminal's and a shell's signals are for the parent
OWN_GROUP: dict[str, Any] = {} if sys.platform == "win32" else {"process_group": 0}
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # less memory


class Compiling(Protocol):
    """What compiles, one kernel at a time."""

    def answer(self, request: Request, target: Target) -> Answer: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class Here:
    """This process, where no other can be had."""

    def __init__(self, sources: Sources) -> None:
        self._known = sources.imported()

    def answer(self, request: Request, target: Target) -> Answer:
        return answer(self._known, request, target)

    def kill(self) -> None:
        """Nothing: a kernel that is being compiled is compiled to its end."""

    def close(self) -> None:
        """Nothing: there is nothing to give back."""


class Compiler:
    """A process that compiles. Used by one thread; `kill` may come from another."""

    def __init__(self, sources: Sources) -> None:
        """OSError where it cannot be started."""
        with _starting, standard_descriptors_taken():
            self._process = subprocess.Popen(
                [sys.executable, *flags(), "-c", START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,  # a buffer has a lock, which another thread may hold at a fork
                cwd=PACKAGE,
                env=environment(),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                **OWN_GROUP,
            )
            _running.add(self)
        self._said = bytearray()  # what came and is no answer yet
        self._unsent = json.dumps(setup(sources)).encode() + b"\n"

    def answer(self, request: Request, target: Target) -> Answer:
        """What comes of a request; where the process ends over it, that is a failure too."""
        try:
            order = pickle.dumps(Order.of(request, target))
        except Exception as error:  # a row of another's table that no other process can make
            return failure(error)
        try:
            with no_signal_of_pipes():
                self._write(self._unsent + LENGTH.pack(len(order)) + order)
            self._unsent = b""
        except OSError:  # it has ended, and may have said why
            pass
        return self._read() or self._last_words()

    def _write(self, message: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(message)
        while rest:
            rest = rest[self._process.stdin.write(rest) :]

    def _read(self) -> Answer | None:
        """The next answer; None when the process has ended."""
        while (at := self._said.find(MARK)) < 0:
            del self._said[:-SAID_MAX]
            if not self._more():
                return None
        start = at + len(MARK) + HEADER.size
        while len(self._said) < start:
            if not self._more():
                return None
        kind, size = HEADER.unpack_from(self._said, at + len(MARK))
        if kind not in (OBJECT, SHORT, FAILED) or size > BODY_MAX:
            return Answer(FAILED, b"its compiler's answer makes no sense")
        while len(self._said) < start + size:
            if not self._more():
                return None
        body = bytes(self._said[start : start + size])
        del self._said[: start + size]
        return Answer(kind, body)

    def _more(self) -> bool:
        assert self._process.stdout is not None
        part = self._process.stdout.read(SAID_MAX)
        self._said += part
        return bool(part)

    def _last_words(self) -> Answer:
        """Of the process, which has ended: what it was, and what LLVM or Python said at last."""
        short, ending = shortage.ending(self._process.wait())
        text = self._said.decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        llvm = [line for line in lines if "LLVM ERROR" in line]
        if shortage.told(text):
            short = True
        elif llvm:
            short = False
        said = (llvm or lines)[-1:]
        reason = ": ".join([f"its compiler {ending}", *said])
        return Answer(SHORT if short else FAILED, reason[:WORDS_MAX].encode())

    def kill(self) -> None:
        """Have it end at once, and whoever waits for an answer with it."""
        self._process.kill()

    def close(self) -> None:
        """End it; nothing of it is left."""
        self._process.kill()
        self._let_go()
        self._process.wait()
        _running.discard(self)

    def _let_go(self) -> None:
        for end in (self._process.stdin, self._process.stdout):
            assert end is not None
            end.close()

    def forget(self) -> None:
        """In a forked process: it belongs to the parent, and ends when that lets go of its pipes."""
        self._let_go()
        self._process.returncode = 0  # there is nothing to wait for


class Compilers:
    """Some compilers that share out requests.

    Each is started, driven and ended by a thread of its own, into which no signal's handler comes. Where the
    system has room for fewer, there are fewer.
    """

    def __init__(self, requests: Sequence[Request], target: Target, jobs: int, sources: Sources) -> None:
        self._requests, self._target, self._sources = deque(requests), target, sources
        self._answers: queue.SimpleQueue[tuple[Request, Answer] | BaseException] = queue.SimpleQueue()
        self._compilers: list[Compiling] = []
        self._short = OutOfMemoryError("kernels cannot be compiled: a thread could not go on")
        self._broken_off = False
        self._process = os.getpid()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(jobs)]

    def start(self) -> None:
        """With fewer threads where the system gives no more; without one, this thread does all before it
        returns.
        """
        for n, thread in enumerate(self._threads):
            try:
                thread.start()
            except RuntimeError:
                del self._threads[n:]
                break
        if not self._threads:
            self._work()

    def _work(self) -> None:
        try:
            compiler = started(self._sources)
        except OutOfMemoryError as error:
            self._short = error
            return
        except BaseException as error:
            self._answers.put(error)
            return
        try:
            with contextlib.closing(compiler):
                self._compilers.append(compiler)
                while not self._broken_off:
                    try:
                        request = self._requests.popleft()
                    except IndexError:
                        break
                    self._answers.put((request, compiler.answer(request, self._target)))
        except BaseException as error:
            self._answers.put(error)

    def next(self) -> tuple[Request, bytes]:
        """A kernel that was compiled, and its object file."""
        while True:
            if os.getpid() != self._process:
                raise UsageError("this process was forked while kernels were compiled: load the model anew.")
            alive = any(thread.is_alive() for thread in self._threads)
            try:
                found = self._answers.get(timeout=LOOK_S if alive else 0)
                break
            except queue.Empty:
                if not alive:
                    raise self._short from None
        if isinstance(found, BaseException):
            raise found
        request, given = found
        return request, object_of(request, given)

    def end(self) -> None:
        """Break off what is under way, and wait until nothing is left of it."""
        if os.getpid() != self._process:
            return  # they are the parent's
        self._broken_off = True
        for compiler in list(self._compilers):
            compiler.kill()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()


def compiled(
    requests: Sequence[Request], target: Target, jobs: int, sources: Sources
) -> Generator[tuple[Request, bytes], None, None]:
    """Each kernel and its object file, in the order in which `jobs` compilers finish them.

    OutOfMemoryError where memory is short, another EdgeqError for a kernel that cannot be compiled, or of
    other sources than `sources` by now. However it ends, no process, thread or descriptor is left.
    """
    compilers = Compilers(requests, target, jobs, sources)
    try:
        compilers.start()
        for _ in requests:
            yield compilers.next()
    finally:
        compilers.end()


def object_of(request: Request, given: Answer) -> bytes:
    """The object file; an EdgeqError where it could not be made."""
    if given.kind == OBJECT:
        return given.body
    name, tag = request
    reason = "".join(c for c in given.body.decode(errors="replace") if c.isprintable()).rstrip(".")
    if given.kind == SHORT:
        raise OutOfMemoryError(f"there is not enough memory to compile the kernel {name} {tag}: {reason}")
    raise EdgeqError(f"the kernel {name} {tag} cannot be compiled: {reason}.")


def started(sources: Sources) -> Compiling:
    """A compiler, or this process where there can be none; OutOfMemoryError where there is no room for it."""
    if not python():
        return Here(sources)
    try:
        return Compiler(sources)
    except OSError as error:
        if error.errno in shortage.SCARCE:
            raise OutOfMemoryError(
                f"no process that compiles kernels can be started: {error.strerror}"
            ) from None
        return Here(sources)  # the system forbids it, or the program is not there any more


def python() -> bool:
    """Whether `sys.executable` is a Python, and no program that has one in it."""
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def flags() -> list[str]:
    """Of the command line: those of this Python that say where modules are, and no warnings."""
    given = [("-E", sys.flags.ignore_environment), ("-s", sys.flags.no_user_site), ("-S", sys.flags.no_site)]
    words = ["-P", "-W", "ignore", *(flag for flag, there in given if there)]
    if sys.dont_write_bytecode:
        words.append("-B")
    if sys.flags.utf8_mode:
        words += ["-X", "utf8"]
    if sys.pycache_prefix is not None:
        words += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return words


def environment() -> dict[str, str]:
    """The variables of this process without those that change what Python or numba do."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NUMBA_"))}
    return free | {name: os.environ[name] for name in KEPT if name in os.environ} | ONE_THREAD


def setup(sources: Sources) -> dict[str, object]:
    """What a compiler is told first."""
    import edgeq

    path = [place for place in map(absolute, sys.path) if place]
    return dict(
        path=path, file=os.path.abspath(edgeq.__file__), folders=list(edgeq.__path__), sources=sources
    )


def absolute(place: object) -> str:
    """An entry of sys.path for a process that stands elsewhere; "" for one that names nothing."""
    try:
        return os.path.abspath(place) if isinstance(place, str) else ""
    except OSError:  # this process's folder is not there any more
        return ""


# A fork must not come while pipes are open that are meant for a new compiler alone: the forked process would
# hold them, and neither side would see the other end.
_starting = threading.RLock()
_running: weakref.WeakSet[Compiler] = weakref.WeakSet()


def _forked() -> None:
    try:
        for compiler in list(_running):
            compiler.forget()
        _running.clear()
    finally:
        _starting.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_forked)
