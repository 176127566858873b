"""Scales by a search that makes the squared error of the weights small, all columns alike or each as its
inputs' squares say; and plain rounding beside it.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats import Parts, Scheme, quantize
from edgeq.rounding import rounding_of

from ..grid import mean
from ..task import Array, Task

LEAST = np.float32(1e-6)  # of the mean, that a column counts at least: dead inputs leave its scale defined


def search(task: Task, parts: Parts | None) -> Parts:
    """As `edgeq convert` does."""
    return _quantized(task, rounding_of(task.scheme))


def finer(task: Task, parts: Parts | None) -> Parts:
    """The same with about twice as many scales and row floats tried, in one and a half times its time."""
    from edgeq.rounding.search import FINER
    from edgeq.rounding.search import search as searched

    if task.scheme.sub is None:  # nothing is searched for
        return search(task, parts)
    return _quantized(task, partial(searched, effort=FINER))


def importance(task: Task, parts: Parts | None) -> Parts:
    """Each column counts as the mean square of its inputs does: what its error does to the outputs, if inputs
    were independent (as llama.cpp's importance matrix has it).
    """
    from edgeq.rounding.search import search as searched

    assert task.seen is not None
    if task.scheme.sub is None:  # nothing is searched for
        return search(task, parts)
    squares = task.seen.squares
    counts = np.zeros(task.columns_padded, np.float32)
    counts[: len(squares)] = squares / np.float32(max(mean(squares), 1e-30)) + LEAST
    return _quantized(task, partial(searched, importance=counts))


def _quantized(task: Task, rounding: object) -> Parts:
    if rounding is None:
        raise UnsupportedError(f"nothing rounds to scheme {task.scheme.name}")
    w, scheme = task.w, task.scheme
    if scheme.tensor:
        return quantize(w, scheme, rounding)  # type: ignore[arg-type]
    found: dict[int, Parts] = {}

    def some(rows: slice) -> None:
        found[rows.start] = quantize(w[rows], scheme, rounding)  # type: ignore[arg-type]

    try:
        task.by_rows(some)
    except FormatError:  # says which row, but of those it had
        quantize(w, scheme, rounding)  # type: ignore[arg-type]
        raise
    return joined([found[first] for first in sorted(found)], scheme)


def joined(pieces: list[Parts], scheme: Scheme) -> dict[str, Array]:
    """The parts of rows one after another."""
    return {part.name: np.concatenate([piece[part.name] for piece in pieces]) for part in scheme.arrays}
