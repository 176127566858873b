"""Files of moments: what a model's products were given over a text, kept so that it need not be found again.

A file has for each tap, under the name of the first matrix that reads it, `.products`: sums of x x', at and
below the diagonal, row by row; `.absolute` and `.largest` as `Moments` has them, and `.count`; of the windows
that methods learn from ("learn/…") and of those that they are judged by ("judge/…"). A diagonal file has the
sums of x^2 alone, [columns]. Of experts' matrices all that is there for each expert, one after another.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeq.calibrate.layers import Layer, embedded, floats_of
from edgeq.calibrate.moments import Moments, Shares, learn
from edgeq.calibrate.windows import Windows
from edgeq.converters.recipe import matrices
from edgeq.converters.source import Source
from edgeq.errors import FormatError, UsageError, quote
from edgeq.formats.arrays import ArraysWriter, open_arrays
from edgeq.formats.strictjson import parse
from edgeq.runtime.dense import Dense

Array = np.ndarray[Any, Any]

FORMAT = "edgeq statistics 1"
PARTS = ("learn", "judge")
SUMS = ("absolute", "largest")
WORDS = {  # that a file says of itself
    "model": "[0-9a-f]{64}", "text_sha256": "[0-9a-f]{64}", "tokens": "[1-9][0-9]{0,14}",
    "window": "[1-9][0-9]{0,8}", "diagonal": "[01]", "taps": "(?s:.+)",
}  # fmt: skip
NAME = re.compile("[A-Za-z0-9_.]{1,200}")  # of a matrix
COUNT_MAX = 1 << 40  # rows
COLUMNS_MAX = 1 << 20
EXPERTS_MAX = 1 << 16
BAND = 1 << 20  # numbers that are looked at together


class TapShape(NamedTuple):
    """What a file says of a tap: the matrices that read it, its columns, and the experts that its rows come
    to, 0 where there are none.
    """

    names: tuple[str, ...]
    columns: int
    experts: int = 0

    @property
    def parts(self) -> int:
        """Of which there are moments each."""
        return max(1, self.experts)

    @property
    def row(self) -> list[Any]:
        """As the file has it."""
        return [self.names, self.columns, *([self.experts] if self.experts else [])]

    def numbers(self, diagonal: bool) -> int:
        """Of the products of one part."""
        return self.columns if diagonal else self.columns * (self.columns + 1) // 2


def packed(lower: Array) -> Array:
    """float32 [n (n + 1) / 2], what is at and below a diagonal, row by row."""
    return np.concatenate([row[: i + 1] for i, row in enumerate(lower)])


def unpacked(flat: Array, n: int) -> Array:
    """float32 [n, n] from `packed`; 0 above the diagonal."""
    found, at = np.zeros((n, n), np.float32), 0
    for i in range(n):
        found[i, : i + 1] = flat[at : at + i + 1]
        at += i + 1
    return found


def calibrate(
    source: Source,
    path: str | os.PathLike[str],
    windows: Windows,
    dense: Dense,
    progress: Callable[[float, str], object],
    *,
    diagonal: bool = False,
) -> None:
    """Write the moments of a model's products over windows, layer after layer."""
    embed = source.tensors["embed"].floats()
    rows = {
        part: embedded(dense, source, embed, ids) for part, ids in windows.parts().items() if part in PARTS
    }
    del embed
    seen = taps_of(source, dense)
    layers = source.config.num_hidden_layers
    about = {
        "format": FORMAT,
        "model": identity(source),
        "name": source.name[:1000],
        "text_sha256": windows.text_sha256,
        "tokens": str(windows.tokens),
        "window": str(windows.length),
        "diagonal": str(int(diagonal)),
        "taps": json.dumps([tap.row for tap in seen]),
    }
    shapes = dict[str, tuple[str, tuple[int, ...]]]()
    for tap in seen:
        for part in PARTS:
            name = f"{part}/{tap.names[0]}"
            shapes[f"{name}.products"] = "F32", (tap.parts * tap.numbers(diagonal),)
            shapes |= {f"{name}.{kind}": ("F32", (tap.parts * tap.columns,)) for kind in SUMS}
            shapes[f"{name}.count"] = "I64", (tap.parts,)
    with ArraysWriter(path, about, shapes) as writer:
        for i in range(layers):
            layer = Layer(dense, source, i, windows.length, floats_of(source, i))
            found = {part: learn(layer, rows[part], dense) for part in PARTS}
            for n in range(len(layer.taps)):
                for part in PARTS:
                    _write(writer, part, found[part][n], diagonal)
            progress((i + 1) / layers, f"layer {i + 1} of {layers}")
        writer.commit()


def taps_of(source: Source, dense: Dense) -> list[TapShape]:
    """The taps of all layers."""
    found = []
    for i in range(source.config.num_hidden_layers):
        arrays = {
            name: np.zeros(t.shape, np.float32) if len(t.shape) == 2 else t.floats().reshape(-1)
            for name, t in source.tensors.items()
            if name.startswith(f"blocks.{i}.")
        }
        layer = Layer(dense, source, i, 1, arrays)
        found += [TapShape(tap.matrices, tap.columns, tap.experts) for tap in layer.taps]
    return found


def identity(source: Source) -> str:
    """Of a model's shape and numbers: a hash of its config, what is made of it, and of the beginning of each
    tensor.
    """
    text = hashlib.sha256(json.dumps(source.config.to_header(), sort_keys=True).encode())
    for _, array in sorted(source.made.items()):
        text.update(array.tobytes())
    for name, tensor in sorted(source.tensors.items()):
        text.update(f"{name} {tensor.kind} {tensor.shape}".encode())
        text.update(tensor.data[:4096].tobytes())
    return text.hexdigest()


def _write(writer: ArraysWriter, part: str, found: Shares, diagonal: bool) -> None:
    name = found[0].matrices[0]
    if not all(np.isfinite(np.diagonal(each.products)).all() for each in found):
        raise FormatError(f"tensor {name!r}: the moments of a matrix's inputs are not finite")
    products = [np.diagonal(each.products) if diagonal else packed(each.products) for each in found]
    writer.write(f"{part}/{name}.products", np.concatenate(products))
    writer.write(f"{part}/{name}.absolute", np.concatenate([each.absolute for each in found]))
    writer.write(f"{part}/{name}.largest", np.concatenate([each.largest for each in found]))
    writer.write(f"{part}/{name}.count", np.array([each.count for each in found]))


class Statistics:
    """An opened file of moments. FormatError for a file that is none."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.about, self._arrays = open_arrays(path, FORMAT)
        for word, pattern in WORDS.items():
            if not re.fullmatch(pattern, self.about.get(word, "")):
                raise FormatError(f"{path} does not say its {word}")
        self.tokens = int(self.about["tokens"])
        self.taps = _taps(parse(self.about["taps"].encode(), f"taps of {path}", depth_max=3), path)
        unknown = set(self._arrays)
        for tap in self.taps:
            for part in PARTS:
                unknown -= self._check(part, tap)
        if unknown:
            raise FormatError(f"{path}: array {min(unknown)!r:.80} belongs to no tap")

    @property
    def diagonal(self) -> bool:
        """Whether there are squares alone."""
        return self.about["diagonal"] == "1"

    def _check(self, part: str, tap: TapShape) -> set[str]:
        """The names of a tap's arrays, which are what they should be."""
        name, columns, size = tap.names[0], tap.columns, tap.numbers(self.diagonal)
        wanted = {"products": tap.parts * size, **dict.fromkeys(SUMS, tap.parts * columns)}
        for kind, extent in wanted.items():
            array = self._arrays.get(f"{part}/{name}.{kind}")
            if array is None or (array.dtype, array.shape) != (np.float32, (extent,)):
                raise FormatError(f"{self.path}: {part}/{name}.{kind} is not {extent} numbers of float32")
            if not all(np.isfinite(array[n : n + BAND]).all() for n in range(0, extent, BAND)):
                raise FormatError(f"{self.path}: {part}/{name}.{kind} holds what is not finite")
            if kind == "products" and not self.diagonal:
                array = array.reshape(tap.parts, size)[:, np.cumsum(np.arange(1, columns + 1)) - 1]
            if (array < 0).any():
                raise FormatError(f"{self.path}: {part}/{name}.{kind} holds sums below nothing")
        count, least = self._arrays.get(f"{part}/{name}.count"), 0 if tap.experts else 1
        if (
            count is None
            or (count.dtype, count.shape) != (np.int64, (tap.parts,))
            or not ((least <= count) & (count <= COUNT_MAX)).all()
        ):
            raise FormatError(f"{self.path}: {part}/{name}.count is no number of rows")
        return {f"{part}/{name}.{kind}" for kind in (*wanted, "count")}

    def check(self, source: Source) -> None:
        """UsageError where it is of another model, FormatError where it is not of all matrices of its layers,
        each once.
        """
        if self.about["model"] != identity(source):
            raise UsageError(f"{self.path} is of another model ({self.about.get('name', '')!r:.80})")
        found = sorted((name, tap.columns) for tap in self.taps for name in tap.names)
        inner = [name for name in matrices(source.family, source.config) if name.startswith("blocks.")]
        if found != sorted((name, source.tensors[name].shape[1]) for name in inner):
            raise FormatError(f"{self.path} is not of each matrix of the model's layers once")

    def moments(self, part: str, tap: TapShape, expert: int = 0) -> Moments:
        """Of a tap, or what comes to one expert; of a diagonal file the products of a column with itself
        alone.
        """
        base, columns = f"{part}/{tap.names[0]}", tap.columns

        def own(kind: str, each: int) -> Array:
            return np.array(self._arrays[f"{base}.{kind}"][expert * each : (expert + 1) * each])

        flat = own("products", tap.numbers(self.diagonal))
        products = np.diag(flat) if self.diagonal else unpacked(flat, columns)
        (count,) = own("count", 1).tolist()
        return Moments(tap.names, count, products, *(own(kind, columns) for kind in SUMS))


def _taps(rows: Any, path: str | os.PathLike[str]) -> list[TapShape]:
    """What a file says of its taps: [[names, columns], …], of experts [names, columns, experts], the first
    name of each but once.
    """
    found = []
    for row in rows if isinstance(rows, list) else [None]:
        names, columns, *more = row if isinstance(row, list) and len(row) in (2, 3) else ([], 0)
        if not isinstance(names, list) or not names:
            raise FormatError(f"{path} does not say what its arrays are of")
        for name in names:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise FormatError(f"{path} has a tap of {quote(name)}, which is no name of a matrix")
        if type(columns) is not int or not 0 < columns <= COLUMNS_MAX:
            raise FormatError(f"{path} has a tap of {quote(columns)} columns")
        if not all(type(experts) is int and 0 < experts <= EXPERTS_MAX for experts in more):
            raise FormatError(f"{path} has a tap of {quote(more[0])} experts")
        found.append(TapShape(tuple(names), columns, *more))
    if len({tap.names[0] for tap in found}) != len(found):
        raise FormatError(f"{path} has two taps of one matrix")
    return found


def merge(paths: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> None:
    """One file of what several have seen of one model; a figure is their sum, rounded once a file.

    UsageError where they are of different models, or some are diagonal and others are not, and where sums are
    beyond float32.
    """
    if not paths:
        raise UsageError("there are no files to merge")
    files = [Statistics(path) for path in paths]
    first = files[0]
    for file in files[1:]:
        if (file.about["model"], file.diagonal, file.taps) != (
            first.about["model"],
            first.diagonal,
            first.taps,
        ):
            raise UsageError(f"{file.path} and {first.path} are not of one model and kind")
    texts = hashlib.sha256("".join(file.about["text_sha256"] for file in files).encode()).hexdigest()
    about: Mapping[str, str] = {
        **first.about,
        "text_sha256": texts,
        "tokens": str(sum(file.tokens for file in files)),
    }
    words = {"f": "F32", "i": "I64"}
    shapes = {name: (words[array.dtype.kind], array.shape) for name, array in first._arrays.items()}
    with ArraysWriter(output, about, shapes) as writer:
        for name in shapes:
            combine = np.maximum if name.endswith(".largest") else np.add
            found = np.array(first._arrays[name])
            with np.errstate(over="ignore"):
                for file in files[1:]:
                    combine(found, file._arrays[name], out=found)
            if not np.isfinite(found).all():
                raise UsageError(f"the sums of {name} are beyond float32: merge fewer files")
            writer.write(name, found)
        writer.commit()
