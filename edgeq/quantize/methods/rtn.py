"""Rounding to the nearest around the largest magnitude, without any search: what methods are held against."""

from __future__ import annotations

import numpy as np

from edgeq.errors import UnsupportedError
from edgeq.formats import Parts, Scheme, quantize
from edgeq.formats.schemes import ACT_GROUP, rounds_to
from edgeq.rounding import rounding_of

from ..task import Array, Task

F32 = np.float32


def rtn(task: Task, parts: Parts | None) -> Parts:
    """By the scheme's own rule, or, where its scales are searched for otherwise, by `absmax`."""
    scheme = task.scheme
    rounding = rounding_of(scheme)
    if rounding is None:
        raise UnsupportedError(f"nothing rounds to scheme {scheme.name}")
    plain = rounds_to(scheme) is not None or scheme.sub is None
    return quantize(task.w, scheme, rounding if plain else absmax)


def absmax(x: Array, scheme: Scheme) -> Parts:
    """The parts of float32 [rows, cols], whole steps: the smallest scale of 32 columns that leaves none
    outside the table, to the nearest integer of the row's largest divided by the largest integer; of the
    tables, or the zero points, the one with the most even ends.
    """
    kind = scheme.sub_kind
    assert kind is not None
    choice = even_choice(scheme)
    table = Table(scheme.values[choice])
    groups = x.reshape(len(x), -1, ACT_GROUP)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # the caller checks the row's float
        real = np.maximum(groups.max(axis=2) / table.entries[-1], groups.min(axis=2) / table.entries[0])
        unit = real.max(axis=1, keepdims=True) / F32(kind.high)
        sub = np.nan_to_num(np.rint(real / np.where(unit > 0, unit, F32(1))), posinf=0)
        step = sub * unit
        codes = table.codes(np.nan_to_num(groups / np.where(step > 0, step, F32(1))[..., None]))
    codes[sub == 0] = scheme.padding
    stored = sub.astype(np.int16)
    if kind.chooses:
        stored |= np.int16(choice << 6)
    return {"codes": codes.reshape(x.shape), "sub": stored.astype(np.uint8).view(kind.dtype), "row": unit}


def even_choice(scheme: Scheme) -> int:
    """Of a scheme's tables the number of the one whose ends are most nearly each other's negatives."""
    return int(np.abs(scheme.values.max(axis=1) + scheme.values.min(axis=1)).argmin())


class Table:
    """Integers that codes stand for: `entries`, float32 [codes], are in order, `order` are their codes.

    nearest, uint8 [n], has the code whose integer is nearest to x at place floor(2 * (x - low)), as `Grid`'s.
    """

    def __init__(self, values: Array):
        self.order = np.argsort(values, kind="stable").astype(np.uint8)
        self.entries = values[self.order].astype(F32)
        self.low = self.entries[0]
        middles = self.low + (np.arange(2 * int(np.ptp(self.entries)) + 2) + F32(0.5)) / F32(2)
        self.nearest = self.order[np.abs(self.entries - middles[:, None]).argmin(axis=1)]

    def codes(self, x: Array) -> Array:
        """uint8, of the entries that are nearest to float32 x, of two the upper."""
        place = np.clip((x - self.low) * F32(2), F32(0), F32(len(self.nearest) - 1))
        return self.nearest[place.astype(np.int64)]
