"""How far the numbers of one file are from those of another, tensor by tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq.errors import FormatError, UsageError
from edgeq.formats import ModelFile
from edgeq.formats.reader import Tensor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """Of a tensor, or of several together. Sums are float64."""

    name: str
    scheme: str
    reference_scheme: str
    count: int  # of numbers
    squares: float  # sum of (a - b)**2
    absolute: float  # sum of |a - b|
    largest: float  # |a - b|
    reference_squares: float  # sum of b**2
    outputs: float | None = None  # sum over rows of (a - b) h (a - b)', h the mean of the inputs' x x'
    reference_outputs: float | None = None  # sum over rows of b h b'

    @property
    def mse(self) -> float:
        return self.squares / self.count

    @property
    def mae(self) -> float:
        return self.absolute / self.count

    @property
    def relative(self) -> float:
        """Root mean square of the difference over that of the reference; 0 where both are nothing."""
        if not self.squares:
            return 0.0
        return math.sqrt(self.squares / self.reference_squares) if self.reference_squares else math.inf

    @property
    def output_error(self) -> float | None:
        """Root mean square of what the outputs are off by over that of the reference's outputs; None where
        nothing is known of the inputs.
        """
        if self.outputs is None or self.reference_outputs is None or self.reference_outputs <= 0:
            return None
        return math.sqrt(max(0.0, self.outputs) / self.reference_outputs)

    def to_json(self) -> dict[str, Any]:
        relative = self.relative if math.isfinite(self.relative) else None
        more = {"mse": self.mse, "mae": self.mae, "relative": relative, "output_error": self.output_error}
        return {**asdict(self), **more}


def compare_tensors(
    model: ModelFile,
    reference: ModelFile,
    progress: Callable[[int, int, str], object] | None = None,
    moments: Callable[[str], Array | None] = lambda name: None,
) -> list[Difference]:
    """A row for each tensor of numbers that both files have, in the order of `model`.

    moments: of a matrix, by its name, float32 [columns, columns], the mean of its inputs' x x', if that is
    known. progress: called with (numbers done, numbers in all, the tensor's name). UsageError for files of
    two families, of no tensor in common, or with one of two shapes; FormatError for numbers that are not
    finite.
    """
    if model.family != reference.family:
        raise UsageError(f"{model.path} is {model.family} and {reference.path} is {reference.family}")
    pairs = [
        (tensor, reference.tensors[name])
        for name, tensor in model.tensors.items()
        if name in reference.tensors and tensor.scheme.name != "bytes"
    ]
    if not pairs:
        raise UsageError(f"{model.path} and {reference.path} have no tensor of numbers in common")
    for mine, theirs in pairs:
        if mine.shape != theirs.shape:
            shapes = " and ".join("×".join(map(str, tensor.shape)) for tensor in (mine, theirs))
            raise UsageError(f"the files are not of one model: {mine.name} is {shapes}")
    rows, done, total = [], 0, sum(math.prod(mine.shape) for mine, _ in pairs)
    for mine, theirs in pairs:
        rows.append(difference(mine, theirs, moments(mine.name)))
        done += rows[-1].count
        if progress is not None:
            progress(done, total, mine.name)
    return rows


def difference(mine: Tensor, theirs: Tensor, h: Array | None = None) -> Difference:
    """Of two tensors of one shape. UsageError where the moments are of other columns."""
    squares = absolute = reference = largest = outputs = wanted = 0.0
    if h is not None and h.shape != (mine.shape[-1], mine.shape[-1]):
        raise UsageError(f"the statistics of {mine.name} are of {len(h)} columns, not of {mine.shape[-1]}")
    for a, b in zip(mine.blocks(), theirs.blocks(), strict=True):
        exact = b.astype(np.float64)
        off = np.abs(a - exact)
        squares, absolute = squares + float((off * off).sum()), absolute + float(off.sum())
        largest, reference = max(largest, float(off.max())), reference + float((exact * exact).sum())
        if h is not None:
            change = (a - exact).reshape(-1, len(h))
            outputs += float(((change @ h) * change).sum())
            rows = exact.reshape(-1, len(h))
            wanted += float(((rows @ h) * rows).sum())
    if not math.isfinite(squares + reference):
        raise FormatError(f"tensor {mine.name} holds numbers that are not finite, and cannot be compared")
    schemes = mine.scheme.name, theirs.scheme.name
    known = (None, None) if h is None else (outputs, wanted)
    return Difference(
        mine.name, *schemes, math.prod(mine.shape), squares, absolute, largest, reference, *known
    )


def together(name: str, rows: Iterable[Difference]) -> Difference:
    """Several as one."""
    found = list(rows)
    return Difference(
        name,
        scheme=", ".join(sorted({row.scheme for row in found})),
        reference_scheme=", ".join(sorted({row.reference_scheme for row in found})),
        count=sum(row.count for row in found),
        squares=sum(row.squares for row in found),
        absolute=sum(row.absolute for row in found),
        largest=max(row.largest for row in found),
        reference_squares=sum(row.reference_squares for row in found),
        outputs=added(row.outputs for row in found),
        reference_outputs=added(row.reference_outputs for row in found),
    )


def added(figures: Iterable[float | None]) -> float | None:
    """The sum of those that are known; None where none is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def by_layer(rows: Iterable[Difference]) -> list[Difference]:
    """The tensors of each block together, and those of none by themselves."""
    groups: dict[str, list[Difference]] = {}
    for row in rows:
        found = re.match(r"blocks\.\d+", row.name)
        groups.setdefault(found[0] if found else row.name, []).append(row)
    return [together(name, group) for name, group in groups.items()]
