"""How far instructions reach from the addresses in their words, in bytes, at the most.

It follows from the roles in the catalog, an instruction's numbers and the sizes of its program, and counts
every byte that is read or written, what means nothing included (see `arena`); between rows lie others. With
memory checked, a program is held against it before it runs, and kernels against the pages while they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.formats.layout import round_up
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels import roles
from edgeq.kernels.catalog import CHUNK, GROUP, TILE, Batch, Scratch
from edgeq.kernels.roles import Const, Operand, Role, Shaped, Tables, Weight
from edgeq.kernels.table import KERNELS

from .arena import padded, spare_rows
from .instructions import Instruction

Bytes = dict[str, int]


@dataclass(frozen=True)
class Sizes:
    """Of a program: tokens and outputs of a pass at the most, and workers."""

    limit: int
    outputs: int
    workers: int


class Call:
    """An instruction with its words as numbers, those of its program's sizes among them."""

    def __init__(self, instruction: Instruction, words: Mapping[str, int], sizes: Sizes):
        only = words.get("count_at", Batch.COUNT) == Batch.OUTPUTS
        tokens = sizes.outputs if only else sizes.limit
        outside = dict(limit=sizes.limit, workers=sizes.workers, tokens=tokens)
        outside["read"] = tokens + (spare_rows(instruction.tag.tokens) if tokens > 1 else 0)
        self.instruction = instruction
        self.numbers = {**outside, **words}

    def __getitem__(self, word: str) -> int:
        return self.numbers[word]

    @property
    def padded(self) -> int:
        """Dimensions of a head as caches hold them."""
        return padded(self["head_dim"])

    def count(self, role: Shaped) -> int:
        return roles.product(role.count, self.numbers)

    def touched(self, role: Shaped) -> int:
        return role.touched(self.numbers)


def groups(columns: int) -> int:
    return padded(columns) // GROUP


def strided(count: int, stride: int, reach: int) -> int:
    """Bytes of rows a stride apart, of each of which `reach` are touched."""
    return (count - 1) * stride + reach if count else 0


def rows(role: Operand, c: Call) -> Bytes:
    return {role.name: strided(c.count(role), c[role.words[1]], c.touched(role) * 4)}


def shared_rows(role: Operand, c: Call) -> Bytes:
    derived = (r for r in KERNELS[c.instruction.kernel].roles if isinstance(r, roles.Derived))
    stride = next(r.name for r in derived if r.fact == "stride" and role.name in r.of)
    return {role.name: strided(c.count(role), c[stride], c.touched(role) * 4)}


def int8(role: Operand, c: Call) -> Bytes:
    n = c.count(role) * groups(c.touched(role))
    return dict(zip(role.words, (n * GROUP, n * 4, n * 4), strict=True))


def flat(role: Operand, c: Call) -> Bytes:
    return {role.name: c.count(role) * c.touched(role) * role.item}


def scratch(role: Operand, c: Call) -> Bytes:
    """So many numbers and what is before them; without a width, all that attention has."""
    if role.width:
        own = role.before + c.touched(role) * role.item
    else:
        own = Scratch(c.instruction.tag.tokens, c["head_dim"]).bytes
    return {role.name: strided(c.count(role), c[role.words[1]], own)}


def cache(role: Operand, c: Call) -> Bytes:
    """Nothing at an address: its words are offsets in a page, see `on_page`. A state's columns are those that
    its role says, and so is how far it reaches.
    """
    return {}


FORMS: Mapping[roles.Form, Callable[[Any, Call], Bytes]] = {
    roles.ROWS: rows,
    roles.SHARED: shared_rows,
    roles.INT8: int8,
    roles.FLAT: flat,
    roles.SCRATCH: scratch,
    roles.CACHE: cache,
    roles.STATE: cache,
}


def weight(role: Weight, c: Call) -> Bytes:
    """The tiles that the kernel computes, or where it picks rows all that there are."""
    matrix, scheme = c.instruction.given[role.name], SCHEMES[c.instruction.tag.scheme]
    tiles = c.numbers.get("tiles", matrix.tiles)
    return {"weights": tiles * scheme.tile_bytes(round_up(matrix.columns, scheme.step))}


def constant(role: Const, c: Call) -> Bytes:
    return {role.name: c.count(role) * c.touched(role) * 4 if c[role.name] else 0}


def tables(role: Tables, c: Call) -> Bytes:
    positions = c.instruction.given[role.name].positions
    return dict.fromkeys(role.words, positions * (c["turned"] // 2) * 4)


OTHERS: Mapping[type[Role], Callable[[Any, Call], Bytes]] = {Weight: weight, Const: constant, Tables: tables}


def of(instruction: Instruction, words: Mapping[str, int], sizes: Sizes) -> Bytes:
    """Bytes from each address in the words of the instruction on."""
    c, found = Call(instruction, words, sizes), Bytes()
    for role in KERNELS[instruction.kernel].roles:
        reach = FORMS[role.form] if isinstance(role, Operand) else OTHERS.get(type(role))
        if reach:
            found |= reach(role, c)
    return found


def on_page(instruction: Instruction, words: Mapping[str, int], name: str) -> Iterator[int]:
    """Where on a page what the instruction reads or writes of a layer's cache ends, part by part; it is given
    as `name`.
    """
    scheme = SCHEMES[instruction.tag.scheme]
    dims, positions = padded(words["head_dim"]), words["kv_heads"] * CHUNK
    if scheme.number:
        sizes = dict.fromkeys(("keys", "values"), positions * dims * scheme.itemsize)
    else:
        matrix = positions // TILE * scheme.tile_bytes(dims)
        values = words["kv_heads"] * dims // TILE * scheme.tile_bytes(CHUNK)
        sizes = {"value_scales": positions * 4, "far_keys": matrix, "far_values": values}
        sizes |= dict.fromkeys(("keys", "near_keys", "values"), positions * dims)
        sizes |= dict.fromkeys(("key_scales", "near_scales"), positions * groups(dims) * 4)
        sizes |= {"means": positions // TILE * dims, "mean_scales": positions // TILE * groups(dims) * 4}
    (role,) = (r for r in KERNELS[instruction.kernel].shared if r.name == name)
    for word in role.words:
        yield words[word] + sizes[word]
