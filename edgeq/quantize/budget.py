"""The recipe that fits in so many bits or bytes and costs least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeq.converters import pipeline as converting
from edgeq.converters.recipe import Recipe, Rule, matrices
from edgeq.converters.source import Source
from edgeq.errors import UsageError
from edgeq.formats.header import dump_header
from edgeq.formats.layout import place

from .allocate import allocate
from .sensitivity import CANDIDATES, Sensitivity, bytes_of

ENTRY_BYTES = 420  # of a tensor in a file's head, at the most
HEAD_BYTES = 8192  # of what else is there, but the chat template, unless it takes more
FOLLOWED = 0.6  # of what rounding the layers costs is left by targets: 0.57 to 0.66 on three models
ROOM_STEP = 256  # bytes of a budget that may be left for want of trying
WORDS_BYTES = 2048  # of these, what a quantization says of itself


@dataclass(frozen=True)
class Budget:
    """What a file may take: bits for each weight of all matrices, scales and embedding included, or bytes of
    the whole file. Exactly one is given.
    """

    bits_per_weight: float | None = None
    size: int | None = None


def check(budget: Budget, source: Source) -> None:
    """UsageError for a budget that even the smallest schemes are too large for."""
    sizes = bytes_of(source, CANDIDATES)
    small = {name: min(row, key=row.__getitem__) for name, row in sizes.items()}
    least, there = sum(min(row.values()) for row in sizes.values()), budget.size
    if budget.bits_per_weight is not None:
        if not math.isfinite(budget.bits_per_weight):
            raise UsageError(f"a budget of {budget.bits_per_weight} bits a weight is none")
        there = room_of(budget.bits_per_weight, source)
    else:
        least = file_bytes(source, recipe_of("", small))
    if there is None or least > there:
        raise UsageError(f"the smallest schemes take {least} bytes, more than the {there} that there are")


def room_of(bits_per_weight: float, source: Source) -> int:
    """Bytes for all matrices."""
    weights = sum(math.prod(source.tensors[name].shape) for name in matrices(source.family, source.config))
    return int(bits_per_weight * weights / 8)


def head_bytes(source: Source) -> int:
    """Of a file's head, at the most."""
    spoken = source.tokenizer()
    words = converting.header(source, Recipe("", ()), spoken and spoken[0])
    least = HEAD_BYTES + len((source.chat_template or "").encode())
    return ENTRY_BYTES * len(source.tensors) + max(least, len(dump_header(words)) + WORDS_BYTES)


def recipe_within(
    budget: Budget, source: Source, rows: Sequence[Sensitivity], follow: bool = False
) -> Recipe:
    """The recipe whose matrices cost least together and fit in a budget. UsageError where none does.

    follow: layers will make up for what those before them lost, which embedding and head cannot.
    """
    costs = {
        row.name: {
            scheme: row.cost(scheme) * (FOLLOWED if follow and row.name.startswith("blocks.") else 1.0)
            for scheme in CANDIDATES
        }
        for row in rows
    }
    sizes = bytes_of(source, CANDIDATES)
    if budget.bits_per_weight is not None:
        room = room_of(budget.bits_per_weight, source)
        return recipe_of(f"{budget.bits_per_weight:g} bits a weight", allocate(costs, sizes, room))
    assert budget.size is not None
    name, most = f"{budget.size} bytes", budget.size
    head, tail = around(source)

    def fitting(room: int) -> tuple[Recipe, int]:
        """The recipe for so many bytes of matrices, and by how much its file is too large."""
        chosen = recipe_of(name, allocate(costs, sizes, room))
        return chosen, _bytes_between(source, chosen, head, tail) - most

    above = room = budget.size - head
    best, over = fitting(room)
    while over > 0:
        above, room = room, room - over
        best, over = fitting(room)
    while above - room > ROOM_STEP:  # what lies between tensors is less where other schemes are chosen
        middle = (room + above) // 2
        found, over = fitting(middle)
        if over > 0:
            above = middle
        else:
            best, room = found, middle
    return best


def recipe_of(name: str, schemes: Mapping[str, str]) -> Recipe:
    """A rule for each matrix."""
    return Recipe(name, tuple(Rule((matrix,), scheme) for matrix, scheme in schemes.items()))


def file_bytes(source: Source, recipe: Recipe) -> int:
    """Bytes of a file, at the most: behind a larger head no tensor lies before the place that it has."""
    return _bytes_between(source, recipe, *around(source))


def around(source: Source) -> tuple[int, int]:
    """Bytes before the tensors of a file, at the most, and of the tokenizer behind them."""
    spoken = source.tokenizer()
    return head_bytes(source), len(spoken[1]) if spoken else 0


def _bytes_between(source: Source, recipe: Recipe, head: int, tail: int) -> int:
    """`file_bytes`, of what `around` told."""
    at = head
    sizes = [plan.nbytes for plan in converting.planned(source.family, source.config, recipe, source.tensors)]
    for nbytes in [*sizes, tail]:
        at = place(at, nbytes) + nbytes
    return at
