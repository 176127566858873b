"""From what is given for a kernel's roles to the words of an instruction, and to what it reads and writes.

This is where a mistake in an operation or a family ends: native code checks nothing. What a role does not
take is refused by the names of the kernel, its weight and the role.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from edgeq.cache import CacheLayer, StateLayer
from edgeq.errors import UsageError
from edgeq.kernels import roles
from edgeq.kernels.catalog import Batch
from edgeq.kernels.roles import Const, Derived, Float, InBatch, Number, Operand, Role, Shaped, Tables, Weight
from edgeq.kernels.table import KERNELS

from . import arena, rotary, weights
from .instructions import Shared, Word, called

Given = Mapping[str, Any]  # by role

FORMS: Mapping[roles.Form, type] = {
    roles.ROWS: arena.Rows,
    roles.SHARED: arena.Rows,
    roles.INT8: arena.Quantized,
    roles.FLAT: arena.Buffer,
    roles.SCRATCH: arena.Workspace,
    roles.CACHE: CacheLayer,
    roles.STATE: StateLayer,
}
OTHERS: Mapping[type[Role], tuple[type | tuple[type, ...], str]] = {
    Weight: (weights.Matrix, "a matrix"),
    Const: (weights.Vector, "a vector"),
    Tables: (rotary.Tables, "a pair of rotary tables"),
    Number: (int, "a whole number"),
    Float: ((int, float), "a number"),
    InBatch: (int, "an offset in the batch"),
}


def float32_bits(x: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", x))[0])


def check(kernel: str, given: Given) -> None:
    """UsageError where there is no such kernel, or it is given too little, too much or something else."""
    row = KERNELS.get(kernel)
    if row is None or row.plain:
        raise UsageError(f"{kernel} is no kernel that a program can call.")
    if wrong := row.given ^ given.keys():
        names = ", ".join(sorted(wrong))
        raise UsageError(f"kernel {kernel} is given too many or too few operands: {names}.")
    for role in row.roles:
        if not isinstance(role, Derived):
            _check_kind(kernel, role, given)


def _check_kind(kernel: str, role: Role, given: Given) -> None:
    """UsageError where the role takes something else."""
    value = given[role.name]
    if value is None and isinstance(role, Const) and role.optional:
        return
    types, kind = (FORMS[role.form], role.form.name) if isinstance(role, Operand) else OTHERS[type(role)]
    if not isinstance(value, types) or isinstance(value, bool):
        what = f"a {type(value).__name__} as {role.name}, where {kind} is needed"
    elif isinstance(role, InBatch) and value not in (Batch.COUNT, Batch.OUTPUTS):
        what = f"{value} as {role.name}, where the batch has no count of rows"
    else:
        return
    raise UsageError(f"{called(kernel, given)} is given {what}.")


def scheme(kernel: str, given: Given) -> str:
    """What the kernel is compiled for: the scheme of its weight or its cache. UsageError for another."""
    row = KERNELS[kernel]
    found: str = given[row.of_scheme].scheme if row.of_scheme else ""
    if found not in row.schemes:
        right = " or ".join(row.schemes)
        raise UsageError(f"{called(kernel, given)} is not made for {found}, but for {right}.")
    return found


def words(kernel: str, given: Given) -> dict[str, Word]:
    """The words of an instruction by their names. UsageError where widths do not fit together."""
    row, found = KERNELS[kernel], dict[str, Word]()
    for role in row.roles:
        make = MADE.get(type(role))
        made = make(kernel, role, given) if make else given[role.name].words
        found.update(zip(role.words, made, strict=False))  # SHARED rows leave their stride out
    for role in row.shaped:
        _check_width(kernel, role, given, found)
    return found


def _derived(kernel: str, role: Derived, given: Given) -> tuple[Word]:
    facts = {getattr(given[name], role.fact) for name in role.of}
    if len(facts) > 1:
        raise UsageError(f"{called(kernel, given)} is given {' and '.join(role.of)} of different widths.")
    return (facts.pop(),)


def _constant(kernel: str, role: Const, given: Given) -> tuple[Word]:
    vector = given[role.name]
    return (0,) if vector is None else vector.words


def _number(kernel: str, role: Role, given: Given) -> tuple[Word]:
    return (given[role.name],)


def _float(kernel: str, role: Float, given: Given) -> tuple[Word]:
    return (float32_bits(given[role.name]),)


MADE: Mapping[type[Role], Callable[[str, Any, Given], tuple[Word]]] = {
    Derived: _derived,
    Const: _constant,
    Number: _number,
    InBatch: _number,
    Float: _float,
}


def _check_width(kernel: str, role: Shaped, given: Given, found: Mapping[str, Any]) -> None:
    """UsageError unless what is given has the columns that the kernel takes it to have, or as many of its
    whole tiles or groups.
    """
    columns = getattr(given[role.name], "columns", None)
    if columns is None:
        return
    if isinstance(role, Const) and role.count:  # rows of whole steps, one after another
        needed = roles.product(role.count, found) * role.touched(found)
    else:
        needed = roles.product(role.width, found)
    if -(-columns // role.unit) * role.unit != needed:
        what = f"{role.name} of {columns} columns, where {needed} are needed"
        raise UsageError(f"{called(kernel, given)} is given {what}.")


def _buffer(word: arena.Buffer | arena.Place) -> arena.Buffer:
    return word.buffer if isinstance(word, arena.Place) else word


def shared(kernel: str, given: Given, found: Mapping[str, Any]) -> tuple[list[Shared], list[Shared]]:
    """What an instruction with these words (reads, writes)."""
    reads: list[Shared] = []
    writes: list[Shared] = []
    for role in KERNELS[kernel].shared:
        if role.form in (roles.CACHE, roles.STATE):
            touched = [given[role.name]]
        else:
            touched = [_buffer(word) for name in role.words if not isinstance(word := found[name], int)]
        if role.read(found):
            reads += touched
        if role.WRITTEN:
            writes += touched
    return reads, writes
