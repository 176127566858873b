"""What is quantized already, by its types or by its numbers, and is not to be rounded once more unawares."""

from __future__ import annotations

import numpy as np

from edgeq.converters.recipe import Recipe, matrices
from edgeq.converters.source import Source, SourceTensor
from edgeq.errors import FormatError, UsageError
from edgeq.formats import dequantize
from edgeq.formats import quantize as rounded


def refuse_quantized(source: Source, recipe: Recipe | None = None) -> None:
    """UsageError where matrices are quantized already: another rounding would only add its error. Those that
    a recipe keeps as they are stored may be.
    """
    names = names_of(source)
    if recipe is not None:
        schemes = recipe.schemes(source.family, source.config)
        names = [
            name for name in names if (row := schemes[name]) and not row.holds(source.tensors[name].scheme)
        ]
    found: dict[str, int] = {}
    for name in names:
        tensor = source.tensors.get(name)
        if tensor is not None and tensor.scheme.planes:
            found[tensor.kind] = found.get(tensor.kind, 0) + 1
    if found:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        raise UsageError(
            f"{source.name} is quantized already ({kinds}): `edgeq convert --scheme keep` loses nothing; "
            "to round once more, say --allow-requantize"
        )
    grids = [name for name in names if on_grid(source.tensors.get(name))]
    if grids:
        raise UsageError(
            f"{source.name} holds {len(grids)} matrices of numbers that lie on q4's grid already, such as "
            f"{grids[0]} (it was trained for 4 bits): `edgeq convert --scheme q4` loses nothing; to "
            "round them to another grid, say --allow-requantize"
        )


def names_of(source: Source) -> list[str]:
    """The names of the matrices that a source has."""
    return [name for name in matrices(source.family, source.config) if name in source.tensors]


def on_grid(tensor: SourceTensor | None) -> bool:
    """Whether the first rows of a matrix of floats are what q4 would make of them, but for the last bits of
    their format.
    """
    if tensor is None or len(tensor.shape) != 2 or tensor.shape[1] % 32 or tensor.scheme.planes:
        return False
    rows = tensor.floats(slice(0, 16))
    if not np.isfinite(rows).all():  # which is told where they are rounded
        return False
    try:
        with np.errstate(all="ignore"):
            off = np.abs(dequantize(rounded(rows, "q4"), "q4") - rows)
    except FormatError:  # beyond its scales
        return False
    return bool((off <= np.abs(rows) * 2**-7).all() and np.abs(rows).max() > 0)
