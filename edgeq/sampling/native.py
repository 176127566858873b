"""The kernels of rows of logits as functions of arrays, and the memory that they work in.

Rows are float32, ids int32, both without gaps. What a function gives lies in its `Room` and counts until that
is used for the next row; only who makes arrays of their own (`copy`) keeps them.
"""

from __future__ import annotations

import ctypes
import math
import struct
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError
from edgeq.kernels.table import KERNELS
from edgeq.packs.store import kernels
from edgeq.simd.host import host_isa
from edgeq.simd.tag import Request, Tag

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]
Doubles = NDArray[np.float64]

BLOCK, LANES = 128, 16  # as in edgeq.kernels.logits
STEPS, WAYS = 1024, 4
LARGEST = float(np.finfo(np.float32).max)
REACH = 87.0  # what is so many nats below the best weighs nothing


def requests(isa: str) -> list[Request]:
    """The kernels that sampling calls."""
    return [(name, Tag(isa)) for name, row in KERNELS.items() if row.module.startswith("logits.")]


USUAL = ("block_tops", "collect", "weigh")  # what the default samplers call


class Functions:
    """The kernels of this machine as functions, by their names: found or compiled when the first is called,
    those that are seldom called when the first of these is."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name not in KERNELS:
            raise AttributeError(f"there is no kernel {name}")
        isa, word = host_isa().name, ctypes.c_int64
        wanted = [request for request in requests(isa) if (request[0] in USUAL) == (name in USUAL)]
        for (kernel, _), address in kernels().load(wanted).items():
            kind = ctypes.CFUNCTYPE(word, *[word] * len(KERNELS[kernel].operands))
            setattr(self, kernel, kind(address))
        found: Callable[..., int] = vars(self)[name]
        return found


FUNCTIONS = Functions()


FLOAT, INT = struct.Struct("=f"), struct.Struct("=i")


def bits(x: float) -> int:
    """A float32 as a kernel's operand."""
    found: int = INT.unpack(FLOAT.pack(x))[0]
    return found


def at(array: NDArray[Any]) -> int:
    """The address of an array's first number."""
    return int(array.__array_interface__["data"][0])


EVERYWHERE = 2**31 - 1  # as the last place


class Floor(NamedTuple):
    """What a logit must reach: the bound at places up to `last`, more than it behind that."""

    bound: float
    last: int = EVERYWHERE

    @property
    def operands(self) -> tuple[int, int, int]:
        bound = bits(self.bound)
        if self.last == EVERYWHERE:
            return bound, EVERYWHERE, bound
        return bound, self.last, bits(float(np.nextafter(np.float32(self.bound), np.float32(np.inf))))

    def lets_all_of(self, other: Floor) -> bool:
        """Whether all that reaches the other reaches this."""
        return (self.bound, -self.last) <= (other.bound, -other.last)


NO_FLOOR = Floor(-LARGEST)
NOT_BLANK = Floor(float(np.nextafter(np.float32(-LARGEST), np.float32(0))))


class Tops(NamedTuple):
    """The largest and the smallest logit that is not blanked, and the largest of each block."""

    top: float
    bottom: float
    blocks: Floats


class Weights(NamedTuple):
    """Of each token exp((logit - top) / temperature). `sums` are those of blocks, one after the other."""

    top: float
    each: Floats
    sums: Doubles
    total: float
    mean: float  # of the exponent, over the distribution


class Room:
    """What kernels need beside a row of at most `size` logits. One thread uses it at a time."""

    def __init__(self, size: int) -> None:
        lines, blocks = -(-size // LANES) * LANES, -(-size // BLOCK)
        self.size = size
        self.places = np.arange(size, dtype=np.int32)
        self._counts = np.zeros(size, np.int32)
        self._tops, self._sums = np.empty(blocks, np.float32), np.empty(blocks, np.float64)
        self._weights, self._typical = np.empty(lines, np.float32), np.empty(lines, np.float32)
        self._steps, self._at_step = np.empty(lines, np.int32), np.empty(size, np.int32)
        self._histogram = np.empty((WAYS, STEPS), np.float64)
        self._kept = [(np.empty(lines + 1, np.float32), np.empty(size + 1, np.int32)) for _ in range(2)]
        self._tail, self._found = np.empty(LANES, np.float32), np.empty(3, np.float64)
        self._penalties = np.empty(3, np.float64)
        arrays = {name: array for name, array in vars(self).items() if isinstance(array, np.ndarray)}
        self._at = SimpleNamespace(**{name.lstrip("_"): at(array) for name, array in arrays.items()})
        self._run = FUNCTIONS
        self.weighed: Weights | None = None  # what lies where weights do

    def turn(self) -> tuple[Floats, Ids]:
        """Room for the tokens that are kept: not where those are that were kept last."""
        self._kept.reverse()
        return self._kept[0]

    def tops(self, row: Floats) -> Tops | None:
        """None where a logit is no finite number."""
        to, count = self._at, len(row)
        self._run.block_tops(at(row), count, to.tops, to.tail, to.found)
        top, bottom, wrong = self._found.tolist()
        return None if wrong else Tops(top, bottom, self._tops[: -(-count // BLOCK)])

    def exponential_sum(self, row: Floats, top: float) -> float:
        """The sum of exp(logit - top), exact to 1e-13."""
        self._run.exponential_sum(at(row), len(row), bits(top), self._at.tail, self._at.found)
        return float(self._found[0])

    def weigh(self, row: Floats, top: float, temperature: float, floor: Floor = NO_FLOOR) -> Weights:
        """The weights of the row's tokens, 0 of those below the floor."""
        sums = self._weigh(row, top, temperature, floor, self._at.weights)
        total = float(sums[-1])
        mean = float(self._found[0]) / total
        self.weighed = Weights(top, self._weights[: len(row)], sums, total, mean)
        return self.weighed

    def weight(self, row: Floats, top: float, temperature: float) -> float:
        """Of all tokens of a row. What was weighed before stays in its place."""
        return float(self._weigh(row, top, temperature, NO_FLOOR, self._at.typical)[-1])

    def _weigh(self, row: Floats, top: float, temperature: float, floor: Floor, weights: int) -> Doubles:
        """The sums of blocks, one after the other."""
        to, count, scale = self._at, len(row), bits(factor(temperature))
        self._run.weigh(
            at(row), count, bits(top), scale, *floor.operands, weights, to.sums, to.tail, to.found
        )
        return self._sums[: -(-count // BLOCK)].cumsum()

    def typicality(
        self, row: Floats, top: float, temperature: float, mean: float, floor: Floor
    ) -> tuple[Floats, Floats]:
        """How far each exponent is from the mean, times -1, and the largest of them in each block; what is
        below the floor is furthest."""
        to, count, scale = self._at, len(row), bits(factor(temperature))
        self._run.typicality(
            at(row), count, bits(top), scale, bits(mean), *floor.operands, to.typical, to.tops, to.tail
        )
        return self._typical[:count], self._tops[: -(-count // BLOCK)]

    def blank(self, row: Floats, floor: Floor, logits: Floats, top: float) -> tuple[Floats, Tops, Weights]:
        """The logits, and the lowest there is where the row does not reach the floor; and what is left of the
        weights that were found last, to that top. Their mean is not known.
        """
        to, blanked, count = self._at, self.turn()[0], len(row)
        self._run.blank(
            *(at(row), at(logits), count, *floor.operands),
            *(to.weights, at(blanked), to.tops, to.sums, to.tail, to.found),
        )
        blocks = -(-count // BLOCK)
        tops = Tops(float(self._found[0]), float(self._found[1]), self._tops[:blocks])
        sums = self._sums[:blocks].cumsum()
        self.weighed = Weights(top, self._weights[:count], sums, float(sums[-1]), math.nan)
        return blanked[:count], tops, self.weighed

    def spread(self, row: Floats, centre: float) -> tuple[float, float]:
        """Sums of logit - centre, and of its squares."""
        self._run.spread(at(row), len(row), bits(centre), self._at.tail, self._at.found)
        return float(self._found[0]), float(self._found[1])

    def adapt(self, weights: Weights, target: float) -> Floats:
        """Logits that are largest where a token's probability is the target."""
        logits, count = self.turn()[0], len(weights.each)
        self._run.adapt(self._at.weights, count, bits(1 / weights.total), bits(target), at(logits))
        return logits[:count]

    def cut(self, row: Floats, weights: Floats | None, goal: float, top: float, bottom: float) -> Floor:
        """Above which the weights (None: each is 1) of the row's values, summed by falling value and equal
        ones by rising place, reach the goal, which is above 0. All that weigh anything are from `bottom` to
        `top`.
        """
        to, count, given = self._at, len(row), 0 if weights is None else at(weights)
        scale = bits(min((STEPS - 1) / max(top - bottom, 1e-30), LARGEST))
        self._run.descend(at(row), given, count, bits(top), scale, to.steps, to.histogram, to.tail)
        sums = self._histogram.sum(0).cumsum()
        step = min(int(sums.searchsorted(goal)), int(sums.searchsorted(sums[-1])))
        before = float(sums[step - 1]) if step else 0.0
        self._run.at_step(at(row), count, bits(top), scale, step, to.steps, to.at_step, to.tail, to.found)
        places = self._at_step[: int(self._found[0])]
        places = places[(-row[places]).argsort(kind="stable")]
        each = np.ones(len(places)) if weights is None else weights[places]
        here = each.cumsum(dtype=np.float64)
        last = places[min(int(here.searchsorted(goal - before)), len(places) - 1)]
        return Floor(float(row[last]), int(last))

    def collect(
        self, row: Floats, floor: Floor, logits: Floats, ids: Ids | None, blocks: Floats | None = None
    ) -> tuple[Floats, Ids]:
        """Logits and ids (None: the places) where the row reaches the floor; `blocks` are the row's tops."""
        kept_logits, kept_ids = self.turn()
        given = self._at.places if ids is None else at(ids)
        tops = 0 if blocks is None else at(blocks)
        self._run.collect(
            *(at(row), at(logits), given, len(row), *floor.operands, tops),
            *(at(kept_logits), at(kept_ids), self._at.found),
        )
        kept = int(self._found[0])
        return kept_logits[:kept], kept_ids[:kept]

    def allowed(self, mask: NDArray[np.uint32], logits: Floats) -> tuple[Floats, Ids]:
        """Logits and ids whose bit is set."""
        kept_logits, kept_ids = self.turn()
        operands = at(mask), at(logits), len(logits), at(kept_logits), at(kept_ids)
        self._run.allowed(*operands, self._at.found)
        kept = int(self._found[0])
        return kept_logits[:kept], kept_ids[:kept]

    def tally(self, text: Ids) -> tuple[Ids, Ids]:
        """Each id of a text, all below `size`, once, and how often it is there."""
        ids, times = np.empty_like(text), np.empty_like(text)
        self._run.tally(at(text), len(text), self._at.counts, at(ids), at(times), self._at.found)
        distinct = int(self._found[0])
        return ids[:distinct], times[:distinct]

    def penalize(self, logits: Floats, places: Ids, times: Ids, penalties: Sequence[float]) -> None:
        """Change logits at places, each given once, by the repeat penalty, so many times the frequency
        penalty, and the presence penalty."""
        self._penalties[:] = penalties
        self._run.penalize(at(logits), at(places), at(times), len(places), self._at.penalties)


def repeats(text: Ids) -> Ids:
    """How many tokens a text that is not empty has in common, backwards from its end, with itself backwards
    from before its last n tokens, for each n."""
    lengths = np.empty_like(text)
    FUNCTIONS.repeats(at(text), len(text), at(lengths))
    return lengths


def factor(temperature: float) -> float:
    """What exponents are multiplied with: a float32."""
    return min(1 / temperature, LARGEST) if temperature > 1 / LARGEST else LARGEST


_rooms = threading.local()


def room(size: int) -> Room:
    """This thread's, for rows of so many logits."""
    if size < 1:
        raise UsageError("a row of logits is empty, but must have one for each token of the vocabulary")
    found: Room | None = getattr(_rooms, "room", None)
    if found is None or found.size < size:
        found = _rooms.room = Room(size)
    return found
