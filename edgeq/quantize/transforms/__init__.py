"""Transforms: other numbers for a model that computes the same, made before it is rounded. One file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.converters.recipe import Recipe, choose, matrices
from edgeq.converters.source import Source
from edgeq.cores import default_threads
from edgeq.errors import UsageError, near
from edgeq.runtime.dense import Dense

from .awq import Awq
from .base import Setting, Transform
from .rotate import Rotate
from .sinq import Sinq
from .smoothquant import SmoothQuant
from .source import Array

__all__ = ["TRANSFORMS", "Awq", "Rotate", "Setting", "Sinq", "SmoothQuant", "Transform", "transformed"]


@dataclass(frozen=True)
class Row:
    """A transform: how it is made, with its options, what it is, and whether it needs a text."""

    make: Callable[..., Transform]
    about: str
    data: bool = False


TRANSFORMS: Mapping[str, Row] = {
    "awq": Row(Awq, "columns with large inputs made large, by the least error of the outputs", data=True),
    "smoothquant": Row(SmoothQuant, "the range of inputs shared with the weights", data=True),
    "sinq": Row(Sinq, "columns of even deviations, without data"),
    "rotate": Row(Rotate, "residual rows and heads turned by Hadamard matrices (unties a tied head)"),
}


def transformed(
    source: Source,
    transforms: Sequence[str | Transform],
    *,
    recipe: Recipe | None = None,
    ids: Array | None = None,
    seed: int = 0,
    threads: int | None = None,
    dense: Dense | None = None,
    allow_requantize: bool = False,
) -> Source:
    """The source with transforms, names of TRANSFORMS or made with options, one after another: to be
    converted, quantized or calibrated like any other. What it computes is the same but for float32's
    rounding.

    recipe: of the matrices' schemes, which awq and rotate's tries go by (default: e4). ids: int64 [windows,
    tokens] of calibration text. UsageError says what is wrong, UnsupportedError names a family of which it is
    not known what feeds what.
    """
    quantized = [
        name for name in matrices(source.family, source.config) if source.tensors[name].scheme.planes
    ]
    if quantized and not allow_requantize:
        raise UsageError(
            f"{source.name} is quantized already, {quantized[0]} for one: it would be rounded once more"
        )
    if dense is None:
        with Dense(threads or default_threads()) as own:
            return _transformed(source, transforms, recipe, ids, seed, own)
    return _transformed(source, transforms, recipe, ids, seed, dense)


def _transformed(
    source: Source,
    transforms: Sequence[str | Transform],
    recipe: Recipe | None,
    ids: Array | None,
    seed: int,
    dense: Dense,
) -> Source:
    for transform in transforms:
        chosen = made(transform) if isinstance(transform, str) else transform
        schemes: dict[str, Any] = {
            name: scheme or source.tensors[name].scheme
            for name, scheme in (recipe or choose(scheme="e4")).schemes(source.family, source.config).items()
        }
        source = chosen(source, Setting(schemes, ids, dense, seed))
    return source


def made(name: str, **options: Any) -> Transform:
    """The transform of that name; UsageError for a name that none has."""
    if name not in TRANSFORMS:
        raise UsageError(
            f"transform {name!r:.80} is unknown; known are {', '.join(TRANSFORMS)}{near(name, TRANSFORMS)}"
        )
    return TRANSFORMS[name].make(**options)
