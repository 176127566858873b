"""HQQ: half-quadratic quantization (Badri and Shaji, 2023), which needs no data: zero points by which the sum
of |w - q|^p is small, p < 1, so that a few weights that are far off count little. Scales stay what the range
of a group says.

In schemes with a min it is the paper's method: an extra variable takes of w - q what a shrinkage leaves of
it, the min becomes the mean of what is then missing, and so on, beta from 10 on and times 1.01 each round, at
most 20 rounds; each group keeps the best that was found. In schemes whose groups choose one of four zero
points or tables, and maybe a sign, all are tried, and the least sum counts: what the splitting is a way to
approach. Others have no zero point.

Errors are measured in steps, for beta to mean the same whatever the size of the weights; and p is 0.75, where
the paper has 0.7: that takes square roots alone, which every processor rounds alike.
"""

# tried: the step chosen by the same sum, among twelve and by least squares. It becomes smaller and cuts large
# weights off: mean KLD of stories260K 0.131 for q4 and 0.103 for e4, where `rtn` has 0.118 and 0.097.

from __future__ import annotations

import numpy as np

from edgeq.errors import UnsupportedError
from edgeq.formats import NUMBERS, Parts, Scheme
from edgeq.formats.schemes import ACT_GROUP
from edgeq.formats.schemes.values import choices, sub_scales

from ..task import Array, Task
from .rtn import Table, rtn

ROUNDS = 20
BETA, GROWTH = np.float32(10), np.float32(1.01)
F32 = np.float32


def hqq(task: Task, parts: Parts | None) -> Parts:
    """The parts, or those of `rtn`, with other zero points."""
    scheme = task.scheme
    kind = scheme.sub_kind
    chooses = kind is not None and kind.chooses and scheme.row is not None
    if not chooses and (scheme.min is None or scheme.sub or scheme.table):
        raise UnsupportedError(f"scheme {scheme.name} has no zero point that its groups choose")
    improve = chosen if chooses else split
    parts = rtn(task, None) if parts is None else parts
    made = {name: array.copy() for name, array in parts.items()}
    w, counts = np.zeros((2, *made["codes"].shape), np.float32)
    w[:, : task.w.shape[1]] = task.w
    counts[:, : task.w.shape[1]] = 1

    def improved(rows: slice) -> None:
        some = {name: array[rows] for name, array in made.items()}
        for name, array in improve(w[rows], counts[rows], some, scheme).items():
            made[name][rows] = array

    task.by_rows(improved)
    made["codes"][:, task.w.shape[1] :] = scheme.padding
    return made


def split(w: Array, counts: Array, parts: Parts, scheme: Scheme) -> Parts:
    """Codes and mins for some rows w, float32 [rows, columns], of which padding counts 0, the rest 1."""
    assert scheme.scale is not None and scheme.min is not None
    scale, least = NUMBERS[scheme.scale.number], NUMBERS[scheme.min.number]
    assert least.stored is not None
    x, count = (array.reshape(-1, scheme.min.columns) for array in (w, counts))
    table = Table(scheme.values[0])
    step = scale.floats(parts["scale"]).reshape(-1, 1)
    size = np.where(step == 0, F32(1), step)
    low = least.floats(parts["min"]).reshape(-1, 1)
    codes = parts["codes"].reshape(x.shape)
    q = codes.astype(F32) * step + low
    best_low, best_codes, best = low, codes, lost(x - q, count, size)
    beta = BETA
    for _ in range(ROUNDS):
        wanted = x - shrunk((x - q) / size, beta) * size
        low = sums((wanted - codes.astype(F32) * step) * count) / np.maximum(sums(count), F32(1))
        low = least.floats(least.stored(low))
        codes = table.codes((x - low) / size)
        q = codes.astype(F32) * step + low
        found = lost(x - q, count, size)
        better = found < best
        if not better.any():
            break
        best_low, best_codes = np.where(better, low, best_low), np.where(better, codes, best_codes)
        best = np.where(better, found, best)
        beta *= GROWTH
    return {
        **parts,
        "codes": best_codes.reshape(w.shape),
        "min": least.stored(best_low).reshape(parts["min"].shape),
    }


def chosen(w: Array, counts: Array, parts: Parts, scheme: Scheme) -> Parts:
    """Codes, integer scales and choices for some rows, as `split` has them, with the rows' floats as they
    are.
    """
    kind = scheme.sub_kind
    assert kind is not None
    x, count = (array.reshape(-1, ACT_GROUP) for array in (w, counts))
    unit = np.repeat(parts["row"].astype(F32), w.shape[1] // ACT_GROUP, axis=0)
    unit = np.where(unit > 0, unit, F32(1))
    sub = sub_scales(parts["sub"], scheme).reshape(-1, 1)
    choice = choices(parts["sub"]).reshape(-1, 1)
    codes = parts["codes"].reshape(x.shape)
    q = scheme.values.astype(F32)[choice, codes] * sub * unit
    best = lost(x - q, count, unit)
    top, bottom = x.max(axis=1, keepdims=True), x.min(axis=1, keepdims=True)
    for number, table in enumerate(map(Table, scheme.values)):
        for sign in (1, -1) if kind.low < 0 else (1,):
            ends = (top, bottom) if sign > 0 else (-bottom, -top)
            real = np.maximum(ends[0] / table.entries[-1], ends[1] / table.entries[0])
            tried = np.minimum(np.rint(real / unit), F32(kind.high)) * F32(sign)
            step = np.where(tried == 0, F32(1), tried) * unit
            found_codes = table.codes(x / step)
            q = scheme.values[number].astype(F32)[found_codes] * step
            found = lost(x - q, count, unit)
            better = (found < best) & (tried != 0)
            sub, best = np.where(better, tried, sub), np.where(better, found, best)
            choice = np.where(better, np.uint8(number), choice)
            codes = np.where(better, found_codes, codes)
    stored = (sub.astype(np.int16) & 63 | choice.astype(np.int16) << 6).reshape(parts["sub"].shape)
    return {
        **parts,
        "codes": codes.reshape(w.shape),
        "sub": stored.astype(np.uint8).view(parts["sub"].dtype),
    }


def shrunk(x: Array, beta: np.float32) -> Array:
    """The shrinkage of |x|^0.75: what of x is large."""
    size = np.abs(x)
    root = np.sqrt(np.sqrt(np.where(size > 0, size, F32(1))))
    return np.copysign(np.maximum(size - F32(1) / (beta * root), F32(0)), x)


def lost(off: Array, count: Array, size: Array) -> Array:
    """float32 [n, 1]: the sums of |off|^0.75, in sizes, over what counts."""
    root = np.sqrt(np.abs(off) / size * count)
    return sums(root * np.sqrt(root))


def sums(x: Array) -> Array:
    """float32 [n, 1], in one order whatever the processor."""
    return np.cumsum(x, axis=1)[:, -1:]
