"""What a transform is: other numbers for a model, that compute the same and may be rounded with less harm.

Nothing of it is left to the runtime: a factor of columns goes into what feeds them (`edgeq.models.folds`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import numpy as np

from edgeq import models
from edgeq.calibrate.layers import Layer, embedded
from edgeq.calibrate.moments import Moments, Shares, learn
from edgeq.converters.source import Source
from edgeq.errors import FormatError, UnsupportedError, UsageError
from edgeq.formats import Scheme
from edgeq.models import BaseConfig
from edgeq.models.folds import Fold, Folds, bias_of
from edgeq.runtime.dense import Dense

from .source import Array, Arrays, Transformed, block_of

FACTOR_MAX = 1e4  # and its inverse: what lies further from the mean factor is a dead column
FACTOR_BITS = 12  # that a factor keeps


@dataclass(frozen=True)
class Setting:
    """What a transform may go by: the schemes that the matrices are to have, ids int64 [windows, tokens] of a
    text to calibrate on (None: no data), and the pool that computes.
    """

    schemes: Mapping[str, Scheme]
    ids: Array | None
    dense: Dense
    seed: int = 0


class Transform(ABC):
    """One way, with its options."""

    name: ClassVar[str]
    data: ClassVar[bool] = False  # needs ids

    @abstractmethod
    def __call__(self, source: Source, setting: Setting) -> Source:
        """The source of the model that it makes."""


@dataclass(frozen=True)
class Place:
    """Matrices that read the same rows, of which each column is to get a factor: float32 [rows, columns] by
    their names in the block, their schemes, and the moments of the rows; None without data.
    """

    fold: Fold
    matrices: Mapping[str, Array]
    schemes: Mapping[str, Scheme]
    moments: Moments | None
    config: BaseConfig
    dense: Dense
    seed: int

    @property
    def columns(self) -> int:
        return next(iter(self.matrices.values())).shape[1]

    @property
    def stacked(self) -> Array:
        """float32 [rows of all, columns]."""
        return np.concatenate(list(self.matrices.values()))

    def evened(self, s: Array) -> Array:
        """float32 [columns]: positive factors that the fold can have, of geometric mean 1. Where several
        heads read what one wrote, a column has the geometric mean of theirs; where s is 0 or not finite, 1.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(s.astype(np.float64))
        live = np.isfinite(logs)
        logs = np.where(live, logs - (np.cumsum(logs[live])[-1] / live.sum() if live.any() else 0), 0)
        return short(np.clip(np.exp(self._by_head(logs)), 1 / FACTOR_MAX, FACTOR_MAX))

    def _by_head(self, logs: Array) -> Array:
        if not self.fold.heads:
            return logs
        c = self.config
        heads = logs.reshape(c.num_key_value_heads, -1, c.head_dim)
        means = np.cumsum(heads, axis=1)[:, -1:] / heads.shape[1]
        return np.broadcast_to(means, heads.shape).reshape(-1)


def short(x: Array) -> Array:
    """float32 of positive float64 x, rounded to FACTOR_BITS bits: what exponentials and powers differ by from
    one processor to another is gone.
    """
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, FACTOR_BITS)), exponent - FACTOR_BITS).astype(np.float32)


class Scaling(Transform):
    """A factor for each column of the matrices of a fold, which what feeds them is divided by."""

    @abstractmethod
    def factors(self, place: Place) -> Array:
        """float32 [columns], as `Place.evened` gives them."""

    def __call__(self, source: Source, setting: Setting) -> Source:
        if self.data and setting.ids is None:
            raise UsageError(f"{self.name} goes by what a model does on a text, but there is none")
        sets, config = folds_of(source).sets, source.config
        found: list[list[Array]] = []
        for i, arrays, moments in observed(source, setting if self.data else None):
            found.append([])
            for fold in sets:
                place = Place(
                    fold,
                    {name: arrays[name] for name in fold.readers},
                    {name: setting.schemes[f"blocks.{i}.{name}"] for name in fold.readers},
                    moments[fold.readers[0]][0] if moments else None,
                    config,
                    setting.dense,
                    setting.seed,
                )
                found[-1].append(self.factors(place))

        def block(i: int, arrays: Arrays) -> Arrays:
            for fold, s in zip(sets, found[i], strict=True):
                arrays = scaled(arrays, fold, s, config)
            return arrays

        digest = sha256(b"".join(s.tobytes() for each in found for s in each)).hexdigest()[:8]
        return Transformed(source, f"{self.name}-{digest}", block)


def folds_of(source: Source) -> Folds:
    """UnsupportedError for a family that has not said what feeds what."""
    found: Folds | None = getattr(models.family(source.family), "FOLDS", None)
    if found is None:
        raise UnsupportedError(f"nothing is known of what feeds what in family {source.family}")
    return found


def scaled(arrays: Arrays, fold: Fold, s: Array, config: BaseConfig) -> Arrays:
    """The arrays of a block with columns times s, float32 [columns], and their feeder divided by it."""
    made = dict(arrays)
    for name in fold.readers:
        made[name] = arrays[name] * s
    rows = s
    if fold.heads:
        kv_heads = config.num_key_value_heads
        rows = s.reshape(kv_heads, -1, config.head_dim)[:, 0].reshape(-1)
    feeder = arrays[fold.feeder]
    made[fold.feeder] = feeder / (rows if feeder.ndim == 1 else rows[:, None])
    bias = bias_of(fold.feeder)
    if bias in arrays:
        made[bias] = arrays[bias] / rows
    return made


def observed(source: Source, setting: Setting | None) -> Iterator[tuple[int, Arrays, dict[str, Shares]]]:
    """Each block's number, its arrays, and the moments of what its matrices read, by their names; without a
    setting there are none.
    """
    if setting is None or setting.ids is None:
        yield from ((i, block_of(source, i), {}) for i in range(source.config.num_hidden_layers))
        return
    dense, ids = setting.dense, setting.ids
    windows = embedded(dense, source, source.tensors["embed"].floats(), ids)
    for i in range(source.config.num_hidden_layers):
        prefix = f"blocks.{i}."
        arrays = block_of(source, i)
        layer = Layer(dense, source, i, ids.shape[1], {prefix + name: x for name, x in arrays.items()})
        seen = learn(layer, windows, dense)
        if not np.isfinite(windows).all():
            raise FormatError("the model's rows are not finite, so it cannot be calibrated")
        yield i, arrays, {name.removeprefix(prefix): m for m in seen for name in m[0].matrices}
