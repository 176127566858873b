"""What a source gives the pipeline: tensors that are read a few rows at a time, and the header's words."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeq.errors import FormatError, Troubles, UnsupportedError
from edgeq.formats import Parts, Scheme, dequantize
from edgeq.formats.ggml import TYPES
from edgeq.formats.reader import map_of
from edgeq.models import BaseConfig, Expected, Tensor, expected, family, unread
from edgeq.models.rope import Rope
from edgeq.models.tensors import From, Names, size, sources

if TYPE_CHECKING:
    from edgeq.converters.pooling import Found

Array = np.ndarray[Any, Any]


# How a source may store numbers: ggml's types, of which safetensors files have the plain ones.
KINDS = {name: row for name, row in TYPES.items() if row.scheme_name}
PLAIN = tuple(name for name, row in KINDS.items() if row.columns == 1)  # what a vector may be

# Tensors that files carry and nothing reads, by the last words of their names: buffers that the config
# settles, and that older programs saved with the weights; the scale of activations that have four bits; and
# the layer behind BERT that was trained for another task.
DEAD = (
    "rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached",
    "position_ids", "attn_rot_embd", "attn_rot_embd.weight", "input_scale",
    "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias",  # causal masks
    "pooler.dense.weight", "pooler.dense.bias",
)  # fmt: skip


def is_dead(name: str) -> bool:
    """Whether nothing reads a tensor of this name, whatever it holds."""
    return any(name == words or name.endswith("." + words) for words in DEAD)


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of 1 or 2 dimensions in a mapped file; nothing of it is copied until rows are asked for.

    `order` lists, for each row, the row of `data` that holds it, of `stored` rows; None: as stored. `factor`
    is a float32 that all numbers are multiplied by; only kinds whose scheme has a float for the row have
    another than 1. `plus` is added to all numbers, and then `through` makes others of them; `transposed` data
    has columns where rows are wanted; `columns` lists, for each column, the one that holds it; `times` are
    float32 [rows] that rows are multiplied by, one after another. All five are of plain kinds alone.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    data: Array  # uint8 [nbytes]
    order: Array | None = None
    factor: float = 1.0
    stored: int = 0  # rows of data, 0 for as many as the shape has
    plus: float = 0.0
    transposed: bool = False
    columns: Array | None = None
    through: Callable[[Array], Array] | None = None
    times: tuple[Array, ...] = ()

    @property
    def arrays(self) -> tuple[Array, ...]:
        """All data that it reads."""
        return (self.data,)

    @property
    def nbytes(self) -> int:
        """Of the rows that it has of the data."""
        return self.data.size * self.shape[0] // (self.stored or self.shape[0]) if self.shape[0] else 0

    @property
    def held(self) -> bool:
        """Whether a scheme holds its numbers."""
        return self.kind in KINDS

    @property
    def scheme(self) -> Scheme:
        """The scheme that holds this tensor's numbers, or codes and scales, as they are."""
        return KINDS[self.kind].scheme

    def raw(self, rows: slice | Array) -> Array:
        """uint8 [n, bytes of a row] of some rows, by a slice or by number; a vector is a column of rows."""
        count = self.stored or self.shape[0]
        if self.transposed:
            items = self.data.reshape(-1, count, KINDS[self.kind].scheme.itemsize).swapaxes(0, 1)
            return items[rows if self.order is None else self.order[rows]].reshape(-1, items[0].size)
        table = self.data.reshape(count, -1)
        found = table[rows] if self.order is None else table[self.order[rows]]
        if self.columns is None:
            return found
        items = found.reshape(len(found), -1, KINDS[self.kind].scheme.itemsize)
        return items[:, self.columns].reshape(len(found), -1)

    def parts(self, rows: slice = slice(None)) -> Parts:
        """The parts (`Scheme.arrays`) of some rows."""
        return KINDS[self.kind].parts(self.raw(rows), self.factor)

    def floats(self, rows: slice = slice(None)) -> Array:
        """float32 [n, cols] of some rows."""
        with np.errstate(invalid="ignore"):  # a scale that is not finite is found where the values are used
            found = dequantize(self.parts(rows), self.scheme)
            found = found if self.plus == 0 else found + np.float32(self.plus)
            for factors in self.times:
                found = found * factors[rows, None]
            return found if self.through is None else self.through(found)

    def equals(self, other: SourceTensor) -> bool:
        """Whether both hold the same bytes of the same kind, times the same factor."""
        mine, theirs = ((t.kind, t.shape, t.factor) for t in (self, other))
        if mine != theirs or self.order is not None or other.order is not None:
            return False
        starts = range(0, len(self.data), COMPARED_BYTES)
        return all(
            np.array_equal(self.data[at : at + COMPARED_BYTES], other.data[at : at + COMPARED_BYTES])
            for at in starts
        )


@dataclass(frozen=True)
class Stack(SourceTensor):
    """Tensors of one kind and shape, one after another; `data` is the first one's."""

    pieces: tuple[SourceTensor, ...] = ()

    @property
    def arrays(self) -> tuple[Array, ...]:
        return tuple(piece.data for piece in self.pieces)

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)

    def raw(self, rows: slice | Array) -> Array:
        each = self.pieces[0].shape[0]
        wanted = np.arange(self.shape[0])[rows] if self.order is None else self.order[rows]
        number, row = np.divmod(wanted, each)
        found = np.empty((len(wanted), self.data.size // each), np.uint8)
        for n in np.unique(number):
            found[number == n] = self.pieces[n].raw(row[number == n])
        return found

    @classmethod
    def of(cls, name: str, pieces: Sequence[SourceTensor]) -> Stack:
        """Of tensors of one shape; UnsupportedError where they are not of one kind."""
        first = pieces[0]
        for piece in pieces:
            if piece.kind != first.kind:
                raise UnsupportedError(
                    f"tensor {piece.name!r} is {piece.kind}, but {first.name!r} beside it is {first.kind}"
                )
        shape = len(pieces) * first.shape[0], *first.shape[1:]
        return cls(name, first.kind, shape, first.data, pieces=tuple(pieces))


class Tokenizer(Protocol):
    def __call__(self) -> tuple[dict[str, Any], bytes] | None: ...


@dataclass
class Source:
    """An opened checkpoint: everything that a file's header and tensors are made from."""

    kind: str  # "huggingface", "hub" or "gguf"
    name: str  # for people; never an absolute path
    family: str
    config: BaseConfig
    tensors: Mapping[str, SourceTensor]  # by their names in the .edgeq file
    made: Mapping[str, Array]  # float32 vectors that no checkpoint has, by their names in the .edgeq file
    tokenizer: Tokenizer
    revision: str | None = None
    chat_template: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    left_out: tuple[str, ...] = ()  # parts of the checkpoint that are no text model's
    pooling: Found | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors as they are stored."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def let_pages_go(self) -> None:
        """What was read of the mapped files is no longer counted as this process's memory (Linux); it is
        there again when it is read again.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        found = (map_of(data) for tensor in self.tensors.values() for data in tensor.arrays)
        for each in {id(one): one for one in found if one is not None}.values():
            each.madvise(mmap.MADV_DONTNEED)


COMPARED_BYTES = 4 << 20  # of two tensors at a time


def shared_tensors(
    family_name: str,
    found: Mapping[str, SourceTensor],
    names_of: Callable[[Tensor], Names],
    tied: bool | None,
) -> tuple[dict[str, SourceTensor], bool]:
    """(tensors, whether they are tied) of a checkpoint whose flag says `tied`; what it holds counts first.

    Two tensors that differ are two. Two equal ones are one. Where one of the names is missing, the other's
    tensor is both, since savers drop either name of a shared tensor; only a flag that says "not tied" makes
    it a loss.
    """
    tensors = dict(found)
    table = {row.name: row for row in family(family_name).TENSORS}
    for row in table.values():
        if row.shares is None:
            continue
        name, other = (_present(names_of(each), tensors) for each in (row, table[row.shares]))
        if name in tensors and other in tensors:
            tied = tensors[name].equals(tensors[other])
            if tied:
                del tensors[name]
        elif tied is not False:
            tied = True
            if name in tensors:
                tensors[other] = tensors.pop(name)
    return tensors, bool(tied)


def _present(names: Names, tensors: Mapping[str, SourceTensor]) -> str:
    """The name that a tensor has in a checkpoint, or else the usual one."""
    each = [source.name for source in sources(names)]
    return next((name for name in each if name in tensors), each[0])


def check_vector(tensor: SourceTensor) -> None:
    """UnsupportedError for a vector whose numbers are in blocks, or no weights."""
    if tensor.kind not in PLAIN:
        raise UnsupportedError(
            f"tensor {tensor.name!r} is {tensor.kind}, but only {', '.join(PLAIN)} can be read"
        )


def checked_tensors(
    family: str,
    config: BaseConfig,
    found: Mapping[str, SourceTensor],
    names_of: Callable[[Expected], tuple[From, ...]],
) -> dict[str, SourceTensor]:
    """The found tensors by their names in the table, their rows moved as that says; refuses missing, unknown
    and misshapen ones, all of them at once."""
    used, troubles = set[str](), Troubles()
    result = {}
    for want in expected(family, config):
        names = names_of(want)
        if names:
            source = next((each for each in names if set(each.names(config)) & found.keys()), names[0])
            used.update(source.names(config))
            with troubles.noted():
                if not any(name in found for name in source.names(config)):
                    raise _missing(names, want, config)
                result[want.name] = _checked(_gathered(found, source, want, config), source, want, config)
    for idle in unread(family, config):
        used.update(name for source in names_of(idle) for name in source.names(config))
    left = sorted(found.keys() - used)
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        troubles.add(UnsupportedError(f"tensor {left[0]!r:.120}{more} is not one of family {family}'s"))
    troubles.tell()
    return result


def _needed(source: From, want: Expected, config: BaseConfig) -> tuple[tuple[int, ...], list[int]]:
    """The shape that a checkpoint's tensor has, and how many rows there are before each move and after."""
    counts = [want.shape[0]]
    for move in reversed(source.moves):
        counts.insert(0, move.count(config, counts[0]))
    needed = (counts[0], *want.shape[1:])
    if source.each:
        needed = (counts[0] // getattr(config, source.each), *want.shape[1:])
    if source.of:
        needed = tuple(size(config, dimension) for dimension in source.of)
    if source.stacked:
        members = getattr(config, source.stacked)
        one = (counts[0] // members, *want.shape[1:])
        return (members, *(one[::-1] if source.transposed else one)), counts
    return needed[::-1] if source.transposed else needed, counts


def _missing(names: tuple[From, ...], want: Expected, config: BaseConfig) -> FormatError:
    """That none of these tensors is there."""
    shapes = [(source.names(config)[0], list(_needed(source, want, config)[0])) for source in names]
    (first, shape), *others = shapes
    more = "".join(f", or {name!r} of {list(shape)}" for name, shape in others)
    return FormatError(f"tensor {first!r} is missing; shape {shape} is needed{more}")


def _gathered(
    found: Mapping[str, SourceTensor], source: From, want: Expected, config: BaseConfig
) -> SourceTensor:
    """The tensor that the source names, one made of several, or with a dimension more or less than it has."""
    shape, _ = _needed(source, want, config)
    for name in source.names(config):
        if name not in found:
            raise FormatError(f"tensor {name!r} is missing; shape {list(shape)} is needed")
        one = found[name]
        if source.lifted and len(one.shape) == 1:
            one = replace(one, shape=(1, *one.shape))
        if one.shape != shape:
            raise FormatError(
                f"tensor {name!r} has shape {list(one.shape)}, but the config needs {list(shape)}"
            )
    if source.each:
        return Stack.of(source.name, [found[name] for name in source.names(config)])
    if source.stacked and source.transposed:
        check_vector(one)  # of which alone it is known where columns are
        rows, data = shape[:0:-1], one.data.reshape(shape[0], -1)
        members = [replace(one, shape=rows, data=member, transposed=True) for member in data]
        return Stack.of(one.name, members)
    return replace(one, shape=(shape[0] * shape[1], *shape[2:])) if source.stacked else one


def _checked(tensor: SourceTensor, source: From, want: Expected, config: BaseConfig) -> SourceTensor:
    """The rows that are wanted, of the tensor that the source names, if it is what it should be."""
    _, counts = _needed(source, want, config)
    if want.role == "vector" or source.transposed:
        check_vector(tensor)
    if not tensor.held:
        raise UnsupportedError(f"tensor {tensor.name!r} is {tensor.kind}, which no scheme holds")
    order = columns = None
    for move, count in zip(source.moves, counts[1:], strict=True):
        moved = move.order(config, count)
        order = moved if order is None else order[moved]
    if source.columns is not None:
        columns = source.columns.order(config, want.shape[1])
        columns = None if (np.diff(columns) == 1).all() else columns
    if columns is not None:
        check_vector(tensor)  # of which alone it is known where columns are
    return replace(
        tensor,
        shape=want.shape,
        order=order,
        stored=0 if order is None else counts[0],
        plus=source.plus,
        transposed=source.transposed,
        columns=columns,
        through=source.through,
    )


def number_of(tensor: SourceTensor) -> float:
    """The one number of a tensor."""
    if tensor.shape not in ((), (1,)):
        raise FormatError(f"tensor {tensor.name!r} has shape {list(tensor.shape)}, but [1] is needed")
    check_vector(tensor)
    return float(replace(tensor, shape=(1,)).floats()[0, 0])


def layer_numbers(rows: Mapping[str, str], found: dict[str, SourceTensor]) -> dict[str, list[float]]:
    """Words of a config that are numbers of the layers, from tensors that hold one each, which are taken out
    of those found; rows: the tensor's name for each word.
    """
    words = {}
    for word, name in rows.items():
        numbers: list[float] = []
        while (tensor := found.pop(name.replace("{i}", str(len(numbers))), None)) is not None:
            numbers.append(number_of(tensor))
        words[word] = numbers
    return words


def made_of(ropes: Mapping[str, Rope], config: BaseConfig) -> dict[str, Array]:
    """The vectors of a file that the config alone settles."""
    return {
        f"{name}.inverse_frequencies": rope.inverse_frequencies(config.head_of(name))
        for name, rope in ropes.items()
    }
