"""Compilers: what they are asked and answer, how they end, and what does not come into them.

Most have a program of their own here, a few lines that take no time; the true one compiles in a few tests.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edgeq.cores
from edgeq.errors import EdgeqError, OutOfMemoryError, UsageError
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels import sources
from edgeq.packs import build, store
from edgeq.packs.executable import Executable
from edgeq.simd import compiler, compilers, isa, shortage
from edgeq.simd.compiler import HEADER, MARK, OBJECT, SYMBOL, Answer
from edgeq.simd.link import link
from edgeq.simd.sources import Sources
from edgeq.simd.tag import Request, Tag
from edgeq.simd.target import Target
from tests.patience import STUCK_S, until

GENERIC = Target.of("generic")
ONE, TWO = ("argmax", Tag("generic")), ("rotate", Tag("generic"))
KNOWN = Sources(sources.__name__, sources.digest())
NONE = Sources("", "")  # for compilers that compile nothing
ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and descriptors as on POSIX systems")

# A compiler that answers each request with the text that `body()` gives.
QUICK = f"""
import os, sys
sys.stdin.buffer.readline()
def say(text):
    os.write(1, text)
def body():
    return b"object"
def answer(given):
    say({MARK!r} + bytes([{OBJECT[0]}]) + len(given).to_bytes(8, "little") + given)
def before():
    pass
{{}}
while head := sys.stdin.buffer.read(4):
    sys.stdin.buffer.read(int.from_bytes(head, "little"))
    before()
    answer(body())
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_program(changes: str = "") -> None:
        monkeypatch.setattr(compilers, "START", QUICK.format(changes))

    set_program()
    return set_program


def compiled(*requests: Request, jobs: int = 1, told: Sources = KNOWN) -> dict[Request, bytes]:
    return dict(compilers.compiled(requests or (ONE,), GENERIC, jobs, told))


# ---- the true one ----
def test_it_compiles_as_this_process_would() -> None:
    made = compiled(ONE, TWO)
    assert list(made) == [ONE, TWO]
    assert made[ONE] == compiler.answer(KNOWN.imported(), ONE, GENERIC).body


ELSEWHERE = """
import os, sys
from edgeq.kernels import sources
from edgeq.simd import compilers
from edgeq.simd.sources import Sources
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target
requests = [("argmax", Tag("generic"))]
if len(sys.argv) > 2:
    os.closerange(0, 3)
told = Sources(sources.__name__, sources.digest())
((_, blob),) = compilers.compiled(requests, Target.of("generic"), 1, told)
assert blob[:4] == b"\\x7fELF" and not {"numba", "llvmlite"} & set(sys.modules)
if os.path.isdir("/proc/self/fd"):
    print(len(os.listdir("/proc/self/fd")), file=open(sys.argv[1], "w"))
open(sys.argv[1] + ".done", "w").close()
"""


@pytest.mark.parametrize("closed", [False, True])
def test_strange_surroundings(closed: bool, tmp_path: Path) -> None:
    """Variables of Python and numba, modules in the working folder, a path set at run time, no standard
    descriptors, no main module that could be imported again: it compiles, and no compiler comes in here.
    """
    for name in ("json", "numba", "signal", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the folder was imported')")
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1")
    environment = {
        **os.environ,
        "NUMBA_DISABLE_JIT": "1",
        "NUMBA_OPT": "0",
        "PYTHONPATH": os.fspath(tmp_path / "nothing"),
        "PYTHONSTARTUP": os.fspath(tmp_path / "json.py"),
        "PYTHONWARNINGS": "error",
        "PYTHONINSPECT": "",
        "PYTHONVERBOSE": "1",
    }
    script = f"import sys\nsys.path[1:1] = {[str(ROOT), *filter(None, sys.path)]!r}\n{ELSEWHERE}"
    words = [sys.executable, "-P", "-E", "-c", script, str(tmp_path / "out"), *["closed"] * closed]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, timeout=STUCK_S)
    assert done.returncode == 0 and (done.stdout, done.stderr) == (b"", b""), done.stderr.decode()
    assert (tmp_path / "out.done").exists()


def test_rows_that_came_while_the_parent_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = replace(SCHEMES["q4"], name="q4-later")
    monkeypatch.setitem(SCHEMES, scheme.name, scheme)
    row = isa.ISAS[-1]  # a stand-in (conftest.py), where there are some for this machine
    later = ("embed", Tag(row.name, "q4-later"))
    assert compiled(later)[later][:4] == b"\x7fELF"


def test_other_sources_are_not_compiled() -> None:
    with pytest.raises(EdgeqError, match="argmax any@generic cannot be compiled: .* sources have changed"):
        compiled(told=KNOWN._replace(digest="of another edgeq"))


MINE = """
from edgeq.simd.sources import Entry, Given

def digest():
    return "of mine"

def entry(kernel, tag):
    given = Given(0), Given(1), Given(2)
    return Entry(kernel, tag, lambda t, a, b, c: a + b + c, given, 3, returns=True)
"""


def test_kernels_of_any_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler knows none itself: it imports the module that it is told of."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    made = compiled(ONE, told=Sources("mine", "of mine"))
    image, entries = link({"sum": made[ONE]}, SYMBOL, GENERIC.machine)
    code = Executable.of_bytes(image)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(code.address + entries["sum"])
    assert function(1, 20, 300) == 321


def test_a_kernel_that_cannot_be_compiled() -> None:
    with pytest.raises(
        EdgeqError, match=r"kernel nothing any@generic cannot be compiled: KeyError: .*nothing"
    ):
        compiled(("nothing", Tag("generic")))


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")
def test_the_parents_end_is_its_end(tmp_path: Path) -> None:
    """Killed, the parent cannot end it: it goes by itself."""
    script = (
        "import os\nfrom edgeq.simd import compilers\nfrom edgeq.simd.sources import Sources\n"
        f"c = compilers.Compiler(Sources(*{tuple(KNOWN)!r}))\n"
        "print(c._process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    words = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=STUCK_S)
    pid = int(done.stdout)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    until(gone, "the compiler's end")


# ---- the protocol ----
def test_requests_are_shared_out(quick: Callable[..., None]) -> None:
    quick("def body(): return str(os.getpid()).encode()")
    requests = [(str(n), Tag("generic")) for n in range(40)]
    made = compiled(*requests, jobs=3)
    assert sorted(made) == sorted(requests) and 1 <= len(set(made.values())) <= 3
    assert os.getpid() not in map(int, made.values())


def test_what_libraries_say_is_not_in_the_way(quick: Callable[..., None]) -> None:
    quick("def before(): os.write(2, b'a warning ' * 30000); print('and more', flush=True)")
    assert compiled(ONE, TWO) == {ONE: b"object", TWO: b"object"}


def test_large_answers_come_whole(quick: Callable[..., None]) -> None:
    quick("def body(): return bytes(range(256)) * 5000")
    assert compiled(ONE, TWO, jobs=2) == {ONE: bytes(range(256)) * 5000, TWO: bytes(range(256)) * 5000}


@pytest.mark.parametrize(
    ("happens", "kind", "words"),
    [
        ("os.kill(os.getpid(), 9)", OutOfMemoryError, "its compiler was ended by SIGKILL"),
        ("os.kill(os.getpid(), 6)", OutOfMemoryError, "its compiler was ended by SIGABRT"),
        ("os.kill(os.getpid(), 15)", EdgeqError, "its compiler was ended by SIGTERM"),
        ("os.kill(os.getpid(), 11)", EdgeqError, "its compiler was ended by SIGSEGV"),
        ("say(b'LLVM ERROR: out of memory'); os.abort()", OutOfMemoryError, "SIGABRT: LLVM ERROR: out of"),
        ("say(b'LLVM ERROR: No such x\\n trace'); os.abort()", EdgeqError, "SIGABRT: LLVM ERROR: No such x"),
        ("raise MemoryError", OutOfMemoryError, "exit code 1: MemoryError"),
        ("raise ImportError('no numba \\x1b[1m')", EdgeqError, r"exit code 1: ImportError: no numba \[1m"),
        ("os._exit(3)", EdgeqError, "ended with exit code 3"),
        (f"say({MARK + HEADER.pack(b'?', 1) + b'x'!r})", EdgeqError, "makes no sense"),
        (f"say({MARK + HEADER.pack(b'o', 1 << 60)!r})", EdgeqError, "makes no sense"),
        (f"say({MARK + HEADER.pack(b'o', 9) + b'x'!r}); os._exit(0)", EdgeqError, "exit code 0"),
    ],
)  # fmt: skip
@posix
def test_an_end_is_one_sentence(
    happens: str, kind: type[EdgeqError], words: str, quick: Callable[..., None], capfd: Any
) -> None:
    """Whether memory was short is told from how it ended and from what was said; nothing comes on stderr."""
    quick(f"def before(): {happens}")
    with pytest.raises(EdgeqError, match=words) as found:
        compiled()
    message = str(found.value)
    assert type(found.value) is kind and "argmax any@generic" in message and message.isprintable()
    assert capfd.readouterr() == ("", "")


@posix
def test_a_crash_under_a_limit_is_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not shortage.ending(-signal.SIGSEGV)[0]
    monkeypatch.setattr(shortage, "limited", lambda: True)
    assert shortage.ending(-signal.SIGSEGV)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")
def test_no_descriptor_comes_in(quick: Callable[..., None]) -> None:
    """And none is left here."""
    quick("def body(): return str(sorted(map(int, os.listdir('/proc/self/fd')))).encode()")
    before = os.listdir("/proc/self/fd")
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    assert compiled()[ONE] == b"[0, 1, 2, 3]"  # the last one is the listing's own
    os.close(descriptor)
    assert os.listdir("/proc/self/fd") == before


SIGNALS = """
import os, signal, sys
from edgeq.errors import EdgeqError
from edgeq.simd import compilers
from edgeq.simd.sources import Sources
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target
compilers.START, way = sys.argv[1:]
if way == "pipe":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as of programs that end with the reader of their output
if way == "children":
    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    signal.signal(signal.SIGCHLD, reap)
if way == "group":
    signal.signal(signal.SIGTERM, lambda *_: None)
try:
    wanted = [(name, Tag("generic")) for name in ("argmax", "rotate")]
    for _ in compilers.compiled(wanted, Target.of("generic"), 1, Sources("", "")):
        if way == "group":
            os.killpg(0, signal.SIGTERM)
        print("compiled", flush=True)
except EdgeqError as error:
    print(error)
"""


@posix
@pytest.mark.parametrize(
    ("way", "changes", "words"),
    [
        (
            "pipe",
            "os.close(0); say(b'gone'); import time; time.sleep(0.3); os._exit(0)",
            "cannot be compiled",
        ),
        ("children", "", "compiled\ncompiled"),
        ("children", "def before(): os.kill(os.getpid(), 15)", "cannot be compiled"),
        ("group", "", "compiled\ncompiled"),
    ],
)
def test_a_program_s_own_signals(way: str, changes: str, words: str) -> None:
    """What a program does with SIGPIPE and SIGCHLD, and signals to its group, which it lives through."""
    program = [sys.executable, "-c", SIGNALS, QUICK.format(changes), way]
    done = subprocess.run(program, capture_output=True, text=True, timeout=STUCK_S, start_new_session=True)
    assert (done.returncode, done.stderr) == (0, "") and words in done.stdout, done


@pytest.mark.parametrize("room", [0, 1])
def test_fewer_where_there_is_room_for_fewer(
    room: int, quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Sources] = []

    def scarce(told: Sources) -> compilers.Compiler:
        made.append(told)
        if len(made) > room:
            raise OSError(errno.EMFILE, "Too many open files")
        return one_more(told)

    one_more = compilers.Compiler
    monkeypatch.setattr(compilers, "Compiler", scarce)
    if room:
        assert list(compiled(ONE, TWO, jobs=3)) == [ONE, TWO]
    else:
        with pytest.raises(OutOfMemoryError, match="no process .* Too many open files"):
            compiled(ONE, TWO, jobs=3)
    assert len(made) > 1


# ---- broken off ----
@posix
def test_what_is_broken_off_ends_at_once(quick: Callable[..., None]) -> None:
    """Two compilers that would never answer."""
    quick("def before(): sys.stdin.read()")
    several = compilers.Compilers([ONE, TWO], GENERIC, 2, NONE)
    several.start()
    until(lambda: len(several._compilers) == 2, "the start of two compilers")
    processes = [one._process for one in several._compilers if isinstance(one, compilers.Compiler)]
    several.end()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2
    assert not any(thread.is_alive() for thread in several._threads)
    assert not compilers._running


def test_an_interrupt_keeps_what_was_compiled(
    quick: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_KERNELS", str(tmp_path / "kernels"))
    quick(f"def body(): return open({str(tmp_path / 'object')!r}, 'rb').read()")
    from tests.simd.objects import adding, made

    (tmp_path / "object").write_bytes(made(adding(0)))

    def progress(done: int, total: int, name: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.Kernels().load([ONE, TWO], progress)
    assert not compilers._running
    told: list[int] = []
    store.Kernels().load([ONE, TWO], lambda done, total, name: told.append(total))
    assert told == [1, 1]


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_leaves_its_parents_compilers_alone(quick: Callable[..., None]) -> None:
    several = compilers.Compilers([ONE, TWO], GENERIC, 1, NONE)
    several.start()
    first = several.next()
    child = os.fork()
    if not child:
        try:
            several.next()
        except UsageError:
            several.end()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    second = several.next()
    several.end()
    assert (first, second) == ((ONE, b"object"), (TWO, b"object"))


# ---- where there is no other process ----
@pytest.mark.parametrize("program", ["", "/usr/bin/blender", "/nowhere/python3"])
def test_without_a_python_this_process_compiles(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(compilers, "answer", lambda *_: Answer(OBJECT, b"here"))
    assert compiled(ONE, TWO, jobs=2) == {ONE: b"here", TWO: b"here"}


def test_a_frozen_program_compiles_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compilers.python()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not compilers.python()


def test_no_room_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(OutOfMemoryError, match="no process that compiles kernels can be started: Resource"):
        compiled()


def test_no_threads(quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    assert compiled(ONE, TWO, jobs=2) == {ONE: b"object", TWO: b"object"}


@pytest.mark.parametrize(
    ("kernels", "cores", "megabytes", "processes"),
    [
        (13, 8, 32000, 2),
        (13, 4, 32000, 2),
        (13, 2, 32000, 1),
        (11, 8, 32000, 1),
        (2, 8, 32000, 1),
        (13, 8, 900, 1),
        (13, 8, 100, 1),
        (1, 1, 100, 1),
    ],
)
def test_as_many_as_pay(
    kernels: int, cores: int, megabytes: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edgeq.cores, "default_threads", lambda: cores)
    monkeypatch.setattr(edgeq.cores, "free_memory", lambda: megabytes * 10**6)
    assert build.few(kernels) == processes
