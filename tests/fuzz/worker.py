"""One process that feeds a parser, and the parent's view of it.

The input in flight lies in memory that both share, so that a crash or a hang of native code leaves the
input behind. The system kills a worker whose input takes CPU_SECONDS_KILLED of processor time, wherever
that is spent.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import NoReturn

from edgeq.errors import EdgeqError
from tests.fuzz.parsers import Parser

SECONDS_MAX = 2.0  # of processor time for one input
BYTES_MAX = 200 << 20  # of memory for one input
CPU_SECONDS_KILLED = 20.0
MEMORY_LIMIT = 4 << 30  # of a worker's data: what asks for more fails instead of taking the machine down
BATCH = 200  # inputs between two looks at the most memory used
POOL_MAX = 400  # inputs to mutate: seeds, the corpus, and mutants with a new outcome
POOL_BYTES_MAX = 1 << 14  # of a mutant that is kept
SLATE_BYTES = 2 << 20
FAULTS_MAX = 20  # of one worker
SLOW = "takes "
ACCEPTED_ONE_IN = 50
_SKELETON = re.compile(r"'[^']*'|\"[^\"]*\"|[\w./-]*[0-9._/][\w./-]*")  # what differs from input to input


@dataclass
class Fault:
    """An input that broke the rule."""

    parser: str
    what: str
    data: bytes


@dataclass
class Tally:
    """What a worker did."""

    inputs: int = 0
    accepted: int = 0
    outcomes: int = 0  # different sentences, numbers and names left out
    slowest: float = 0.0  # seconds of processor time
    peak: int = 0  # bytes over what the worker had before
    seconds: float = 0.0  # of processor time
    faults: list[Fault] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.outcomes = max(self.outcomes, other.outcomes)
        self.slowest = max(self.slowest, other.slowest)
        self.peak = max(self.peak, other.peak)
        self.seconds += other.seconds
        self.faults += other.faults


class Slate:
    """Memory shared with a worker: the number of inputs begun, and the one in flight."""

    HEAD = struct.Struct("<QQ")

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, SLATE_BYTES)

    def put(self, number: int, data: bytes) -> None:
        data = data[: SLATE_BYTES - self.HEAD.size]
        self._map[: self.HEAD.size] = self.HEAD.pack(number, len(data))
        self._map[self.HEAD.size : self.HEAD.size + len(data)] = data

    def get(self) -> tuple[int, bytes]:
        number, length = self.HEAD.unpack(self._map[: self.HEAD.size])
        return number, self._map[self.HEAD.size : self.HEAD.size + length]


def run(parser: Parser, count: int, seed: str, kept: bool, deadline: float | None = None) -> Tally:
    """Feed mutants to the parser in a process of their own, with `kept` the seeds and the corpus before them,
    `count` inputs in all.

    A worker that dies is an input's fault, and another one goes on.
    """
    total, part = Tally(), 0
    while True:
        slate = Slate()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _worker(
                parser, count - total.inputs, f"{seed}/{part}", kept and not part, slate, writing, deadline
            )
        os.close(writing)
        with open(reading, "rb") as pipe:
            raw = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if raw.endswith(b"\n"):
            told = json.loads(raw)
            faults = [Fault(parser.name, what, bytes.fromhex(data)) for what, data in told.pop("faults")]
            total.add(Tally(**told, faults=faults))
            return total
        begun, data = slate.get()
        if status == -signal.SIGPROF:
            what = f"{SLOW}more than {CPU_SECONDS_KILLED:.0f} s"
        else:
            what = (
                f"ends the process: {signal.Signals(-status).name if status < 0 else f'exit code {status}'}"
            )
        total.add(Tally(begun, faults=[Fault(parser.name, what, data)]))
        part += 1
        if total.inputs >= count or len(total.faults) >= FAULTS_MAX:
            return total


def _worker(
    parser: Parser, count: int, seed: str, kept: bool, slate: Slate, writing: int, deadline: float | None
) -> NoReturn:
    code = 1
    folder = Path(
        tempfile.mkdtemp(prefix="edgeq-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    )
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        feeder = Feeder(parser, Random(seed), slate, folder)
        feeder.run(count, kept, deadline)
        told = asdict(feeder.tally) | {"faults": [(f.what, f.data.hex()) for f in feeder.tally.faults]}
        with open(writing, "wb") as pipe:
            pipe.write(json.dumps(told).encode() + b"\n")
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(code)


class Feeder:
    """The worker's loop."""

    def __init__(self, parser: Parser, random: Random, slate: Slate, folder: Path) -> None:
        self.parser, self.random, self.slate, self.folder = parser, random, slate, folder
        self.tally = Tally()
        self._begun = 0
        self._seen: set[str] = set()
        self._said = os.open(folder / "stderr", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(self._said, 2)

    def run(self, count: int, kept: bool, deadline: float | None) -> None:
        seeds = [*self.parser.seeds(), *self.parser.kept()]
        self.pool, self.seeds = list(seeds), seeds
        self._fed(seeds)  # what is read for the first time imports libraries, compiles kernels …
        self.tally = Tally(faults=[fault for fault in self.tally.faults if not fault.what.startswith(SLOW)])
        if kept:
            self._weighed(lambda: self._fed(seeds), seeds)
        start = time.process_time()
        while (left := count - self.tally.inputs) > 0 and len(self.tally.faults) < FAULTS_MAX:
            if deadline is not None and time.monotonic() > deadline:
                break
            batch: list[bytes] = []
            self._weighed(lambda: self._batch(min(BATCH, left), batch), batch)  # noqa: B023  called at once
        self.tally.seconds = time.process_time() - start
        self.tally.outcomes = sum(not outcome.startswith("accepted ") for outcome in self._seen)

    def _batch(self, count: int, made: list[bytes]) -> None:
        random, pool = self.random, self.pool
        for _ in range(count):
            parents, kind = (self.seeds, random.random()) if random.random() < 0.6 else (pool, 1.0)
            one = random.choice(parents)
            if kind > 0.4:  # the smaller of two, for it takes less time
                one = min(one, random.choice(parents), key=len)
            data = self.parser.mutant(random, one, random.choice(pool))
            made.append(data)
            if self._feed(data) and len(data) <= POOL_BYTES_MAX:
                if len(pool) < POOL_MAX:
                    pool.append(data)
                else:
                    pool[random.randrange(len(pool))] = data

    def _fed(self, inputs: list[bytes]) -> None:
        for data in inputs:
            self._feed(data)

    def _feed(self, data: bytes) -> bool:
        """Give the parser an input; whether what came of it was not seen before."""
        self._begun += 1
        self.slate.put(self._begun, data)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_KILLED)
        start = time.process_time()
        try:
            self.parser.read(data, self.folder)
            outcome = "accepted"
            self.tally.accepted += 1
            if self.tally.accepted % ACCEPTED_ONE_IN == 0:
                outcome += f" {self.tally.accepted}"  # now and then one to be mutated further
        except EdgeqError as error:
            outcome = f"{type(error).__name__}: {_SKELETON.sub('_', str(error))[:200]}"
            if not one_printable_line(str(error)):
                self._fault(f"is refused with more than one printable line: {str(error)!r:.200}", data)
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            outcome = f"{type(error).__name__} in {place.filename}:{place.lineno}"
            if outcome not in self._seen:
                self._fault(f"raises {outcome}: {str(error)[:200]}", data)
        seconds = time.process_time() - start
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.tally.inputs += 1
        if seconds > self.tally.slowest:
            self.tally.slowest = seconds
            if seconds > SECONDS_MAX:
                self._fault(f"{SLOW}{seconds:.1f} s", data)
        if os.fstat(self._said).st_size:
            said = os.pread(self._said, 300, 0).decode("utf-8", "replace")
            os.ftruncate(self._said, 0)
            key = f"says {_SKELETON.sub('_', said)[:60]}"
            if key not in self._seen:
                self._seen.add(key)
                self._fault(f"makes a library write to stderr: {said!r}", data)
        new = outcome not in self._seen
        self._seen.add(outcome)
        return new

    def _weighed(self, work: Callable[[], None], inputs: list[bytes]) -> None:
        """Do the work and note the most memory it took; where that is too much, find the input."""
        before = self._settled()
        work()
        taken = status_bytes("VmHWM") - before
        self.tally.peak = max(self.tally.peak, taken)
        if taken <= BYTES_MAX:
            return
        tally, self.tally = self.tally, Tally()
        for data in list(inputs):
            before = self._settled()
            self._feed(data)
            taken = status_bytes("VmHWM") - before
            if taken > BYTES_MAX:
                tally.faults.append(Fault(self.parser.name, f"takes {taken >> 20} MiB", data))
        self.tally = tally

    def _settled(self) -> int:
        """Bytes in memory now; the most used from here on is counted anew."""
        Path("/proc/self/clear_refs").write_text("5")
        return status_bytes("VmRSS")

    def _fault(self, what: str, data: bytes) -> None:
        self.tally.faults.append(Fault(self.parser.name, what, data))


def one_printable_line(text: str) -> bool:
    return bool(text) and len(text) < 2000 and text.isprintable()


def status_bytes(word: str) -> int:
    """A value of /proc/self/status."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(word.encode()):
                return int(line.split()[1]) << 10
    raise ValueError(word)
