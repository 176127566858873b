"""A model quantized in memory, as float32: what methods, transforms and presets are compared by, without a
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.calibrate.moments import Shares
from edgeq.converters.recipe import Recipe
from edgeq.converters.source import Source
from edgeq.formats import NUMBERS, Scheme
from edgeq.runtime.dense import Dense

from .activations import Divergence, simulate
from .experts import without_data
from .methods import METHODS
from .presets import Preset
from .tables import learned
from .task import Seen, Task
from .transforms import Setting, transformed
from .transforms.base import observed
from .transforms.source import Arrays

Array = np.ndarray[Any, Any]
TABLE = "table"

Observed = Iterable[tuple[int, Arrays, Mapping[str, Shares]]]  # as `observed` gives it


def trial(
    source: Source, preset: Preset, calibration: Array, ids: Array, dense: Dense, seed: int = 0
) -> Divergence:
    """How far a preset's model, with the activations that it simulates, goes from the float model on windows
    of ids, int64 [windows, tokens], calibrated on others.
    """
    made = transformed(
        source, preset.transforms, recipe=preset.recipe, ids=calibration, seed=seed, dense=dense
    )
    layers = observed(made, Setting({}, calibration, dense) if needs_data(preset.steps) else None)
    weights = rounded(made, preset.recipe, preset.steps, layers, dense, seed)
    return simulate(
        source,
        ids,
        preset.activations or None,
        made=made,
        weights=lambda name, w: weights.get(name, w),
        calibration=calibration,
        dense=dense,
    )


def needs_data(steps: Sequence[str]) -> bool:
    """Whether one of the steps goes by the inputs of matrices."""
    return any(step == TABLE or METHODS[step].data for step in steps)


def rounded(
    source: Source, recipe: Recipe, steps: Sequence[str], layers: Observed, dense: Dense, seed: int = 0
) -> dict[str, Array]:
    """float32 of the matrices that a recipe gives another scheme than they have: those of blocks by the
    steps, all of which count, embedding and head by a search.
    """
    schemes = {
        name: scheme for name, scheme in recipe.schemes(source.family, source.config).items() if scheme
    }
    found = {}
    for name, scheme in schemes.items():
        if not name.startswith("blocks."):
            found[name] = values(Task(source.tensors[name].floats(), scheme, None, dense, seed), ("search",))
    for i, arrays, moments in layers:
        seen: dict[int, Seen] = {}
        for short, w in arrays.items():
            name = f"blocks.{i}.{short}"
            if name not in schemes:
                continue
            pieces = []
            shares = moments.get(short) or (None,)
            for of, own in zip(shares, np.split(w, len(shares)), strict=True):
                if of is not None and of.count and id(of) not in seen:
                    seen[id(of)] = Seen(of.mean, dense)
                task = Task(own, schemes[name], seen.get(id(of)), dense, seed)
                known = task.seen is not None or not moments
                pieces.append(values(task, steps if known else without_data(steps)))
            found[name] = np.concatenate(pieces)
    return found


def values(task: Task, steps: Sequence[str]) -> Array:
    """What a matrix is after steps, float32; after none, where its scheme is of plain numbers. Behind the
    step TABLE, which is none of METHODS, its table is a learned one.
    """
    if steps[:1] == (TABLE,):
        task, steps = replace(task, scheme=learned(task)), steps[1:]
    if not task.scheme.floats:
        return plain(task.w, task.scheme)
    parts = None
    for step in steps:
        parts = METHODS[step].run(task, parts)
    return task.w if parts is None else task.values(parts)


def plain(w: Array, scheme: Scheme) -> Array:
    """float32 as plain numbers of a scheme have it."""
    number = NUMBERS[scheme.number]
    return w if number.stored is None else number.floats(number.stored(w))
