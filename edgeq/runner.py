"""All that a pass reads and runs: the mapped weights, the program recorded from the model's family, a pool.

Native code is given addresses, so what they point to must stay for as long as it runs. One object holds it
all, and whoever runs a pass holds that object: closing a model is letting go of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgeq import formats, memory, models, tuned
from edgeq.cache import Narrowing, Plan, kind_of
from edgeq.cache.plan import PASS, Group
from edgeq.cores import default_threads
from edgeq.errors import OutOfMemoryError, UsageError
from edgeq.kernels import sources
from edgeq.models import decoder
from edgeq.ops.attention import narrow
from edgeq.ownership import Unique
from edgeq.packs import store
from edgeq.runtime.batch import Segment
from edgeq.runtime.pool import Pool, check_workers
from edgeq.runtime.program import Program, Settings
from edgeq.runtime.recorder import Recorder
from edgeq.runtime.weights import Weights
from edgeq.simd.host import host_isa

WHOLE_PASS = 512  # rows of a pass at the most, of a model that reads a text whole
NARROWED = 32  # pages that are made far at a time
LOGITS_BYTES = 32 << 20  # memory for the logits of a pass at the most
PAUSE_WORK = 4e9  # multiplications between two chances for Ctrl-C, where layers are no bigger
WORKER_WORK = 2_000_000  # multiplications of a token that are worth one more worker


class Runner(Unique):
    """Runs passes of one model over the pages of its sequences, one at a time: the caller sees to that."""

    def __init__(
        self,
        file: formats.ModelFile,
        config: models.BaseConfig,
        *,
        threads: int | None,
        context: int,
        kv: str,
        act: str,
        progress: store.Progress | None,
    ):
        if threads:
            check_workers(threads)  # before anything is made for so many
        self.config = c = config  # as `models.check` gave it
        self.isa, self.context = host_isa().name, context
        self.plan = Plan(kind_of(kv), context)
        if c.WHOLE and self.plan.kind.has_far:
            raise UsageError(f"kv is {kv}, but a model that reads a text whole has it near: q8, f16 or f32.")
        self._weights = Weights.of(file)
        rows = models.gathered(file.family, c)
        work = sum(m.rows * m.columns for m in self._weights.matrices() if m.name not in rows)
        self._layer_work = work / c.num_hidden_layers
        cores = default_threads()
        self._tuned = tuned.read(self.isa, cores, sources.digest())
        workers = threads or max(1, min(self._tuned.threads or cores, work // WORKER_WORK))
        self._family, self._act, self._workers, self._progress = file.family, act, workers, progress
        self._ropes = decoder.tables(c, self._weights, context)
        recorder = self._record(self.plan, rows=c.WHOLE)
        self._kernels = store.kernels()  # whose code the program's addresses point into
        narrowing = [self._narrowing(workers, group) for group in self.plan.groups if group.far_bytes]
        requests = {request for each in (recorder, *narrowing) for request in each.requests()}
        addresses = self._kernels.load([*Pool.requests(self.isa), *requests], progress)
        self._program: Program = recorder.finish(addresses)
        self._rows = self._program if c.WHOLE else None  # else recorded when rows are asked for
        self._narrow = [each.finish(addresses) for each in narrowing]
        self._pool = Pool(workers, self.isa)

    def _record(self, plan: Plan, *, rows: bool = False) -> Recorder:
        """The pass that leaves logits, or rows."""
        c = self.config
        limit = min(WHOLE_PASS if c.WHOLE else PASS, self.context)
        recorder = Recorder(
            Settings(
                isa=self.isa,
                act=self._act,
                workers=self._workers,
                limit=limit,
                outputs=limit if rows else max(1, min(limit, LOGITS_BYTES // (4 * c.vocab_size))),
                tokens=host_isa().tokens,
                tiles=self._tuned.tiles,
                rows=rows,
            ),
            plan,
        )
        models.family(self._family).forward(recorder, c, self._weights, self._ropes)
        return recorder

    def _rows_program(self) -> Program:
        """Over pages of the same plan; made by the first pass that is asked for rows."""
        if self._rows is None:
            try:
                recorder = self._record(Plan(self.plan.kind, self.context), rows=True)
                addresses = self._kernels.load(recorder.requests(), self._progress)
                self._rows = recorder.finish(addresses)
            except MemoryError:
                raise OutOfMemoryError(
                    "memory is short for the program that leaves rows: a smaller context needs less."
                ) from None
        return self._rows

    def _narrowing(self, workers: int, group: Group) -> Recorder:
        """What makes far pages of a group's layers."""
        recorder = Recorder(Settings(self.isa, "int8", workers, NARROWED, 1, host_isa().tokens), self.plan)
        for layer in self.plan.layers:
            if layer.group is group:
                narrow(recorder, layer)
        return recorder

    @property
    def threads(self) -> int:
        """How many workers there are."""
        return self._pool.workers

    @property
    def limit(self) -> int:
        """Rows of a pass at the most."""
        return self._program.settings.limit

    @property
    def outputs(self) -> int:
        """Rows of a pass whose logits can be had, at the most."""
        return self._program.settings.outputs

    def narrow(self, narrowings: Sequence[Narrowing], go_on: Callable[[], object]) -> None:
        """Make far pages of near ones. go_on() is called between some and some others."""
        for number, program in enumerate(self._narrow):
            pairs = [(n.near.address, n.far.address) for n in narrowings if n.group == number]
            for at in range(0, len(pairs), NARROWED):
                go_on()
                lists = [self._listed(number, *pair) for pair in pairs[at : at + NARROWED]]
                program.start([Segment(memory.zeros(1, np.int64), 0, 0, pages) for pages in lists])
                self._pool.run(program.code)

    def _listed(self, group: int, near: int, far: int) -> np.ndarray:
        """A list of pages of which a group has these two."""
        pages = memory.zeros((len(self.plan.groups), max(2, self.plan.pages)), np.int64)
        pages.reshape(-1)[group * self.plan.pages :][:2] = near, far
        return pages

    def run(
        self, segments: Sequence[Segment], go_on: Callable[[], object], *, rows: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """A pass over rows of sequences, at most `limit` of them and `outputs` wanted, with ids of the
        vocabulary (the caller has checked that) and pages that are theirs; what these hold of earlier
        positions is read. With `rows` as many may be wanted as there are.

        Gives (float32 [wanted, vocab_size], the logits after the wanted rows, segment by segment, and int64
        [wanted], the token of the largest of each, -1 where one is not finite): views that the next pass
        overwrites. With `rows` it gives in place of logits the rows that they are made of, float32 [wanted,
        hidden_size], after the last norm, and -1 for each. go_on() is called between the pieces of a long
        pass; when it raises, the positions of the segments hold nothing.
        """
        whole = self.config.WHOLE
        if whole and not rows:
            raise UsageError("the model predicts no token, but gives vectors of texts: use embed.")
        program = self._rows_program() if rows else self._program
        for s in segments:
            if not 0 <= s.start <= self.context - len(s.ids):
                raise UsageError(
                    f"{s.start} + {len(s.ids)} tokens do not fit in the context of {self.context}."
                )
            if whole and s.start:
                raise UsageError("the model reads a text whole, in one pass: nothing can be fed behind it.")
        program.start(segments)
        for rope in self._ropes.values():
            rope.ensure(max(s.start + len(s.ids) for s in segments))
        for first, last in self._pieces(program, sum(len(s.ids) for s in segments)):
            go_on()
            self._pool.run(program.code[first:last])
        outputs = sum(s.wanted for s in segments)
        if rows:
            return program.logits[:outputs, : self.config.hidden_size], np.full(outputs, -1, np.int64)
        return program.logits[:outputs, : self.config.vocab_size], program.likeliest[:outputs]

    def close(self) -> None:
        """Send the threads home. No pass may be under way."""
        self._pool.close()

    def _pieces(self, program: Program, count: int) -> Iterator[tuple[int, int]]:
        """Where a pass over `count` tokens pauses, so that Ctrl-C need not wait for its end."""
        layers = max(1, int(PAUSE_WORK / (self._layer_work * count)))
        points = [point for point in program.yield_points if point < program.end]
        stops = [0, *points[layers::layers], program.end]
        return zip(stops, stops[1:], strict=False)
