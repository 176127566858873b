"""From what is given for a kernel's roles to the words of an instruction, and to what it reads and writes.

This is where a mistake in an operation or a family ends: native code checks nothing. What a role does not
take is refused by the names of the kernel, its weight and the role.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from edgeq.errors import UsageError
from edgeq.kernels import roles
from edgeq.kernels.catalog import KERNELS, State
from edgeq.kernels.roles import Const, Derived, Float, InState, Number, Operand, Role, Shaped, Tables, Weight

from . import arena, rotary, weights
from .instructions import CacheLayer, Shared, Word, called

FORMS: Mapping[roles.Form, type] = {
    roles.ROWS: arena.Rows,
    roles.SHARED: arena.Rows,
    roles.INT8: arena.Quantized,
    roles.FLAT: arena.Buffer,
    roles.SCRATCH: arena.Workspace,
    roles.CACHE: CacheLayer,
}
OTHERS: Mapping[type[Role], tuple[tuple[type, ...], str]] = {
    Weight: ((weights.Matrix,), "a matrix"),
    Const: ((weights.Vector,), "a vector"),
    Tables: ((rotary.Tables,), "a pair of rotary tables"),
    Number: ((int,), "a whole number"),
    Float: ((int, float), "a number"),
    InState: ((int,), "an offset in the state"),
}


def float32_bits(x: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", x))[0])


def check(kernel: str, given: Mapping[str, Any]) -> None:
    """UsageError where there is no such kernel, or it is given too little, too much or something else."""
    if kernel not in KERNELS or KERNELS[kernel].plain:
        raise UsageError(f"{kernel} is no kernel that a program can call.")
    row = KERNELS[kernel]
    if wrong := row.given ^ given.keys():
        raise UsageError(
            f"kernel {kernel} is given too many or too few operands: {', '.join(sorted(wrong))}."
        )
    for role in row.roles:
        if isinstance(role, Derived) or (
            isinstance(role, Const) and role.optional and given[role.name] is None
        ):
            continue
        types, kind = (
            ((FORMS[role.form],), role.form.name) if isinstance(role, Operand) else OTHERS[type(role)]
        )
        value = given[role.name]
        if not isinstance(value, types) or isinstance(value, bool):
            raise UsageError(
                f"{called(kernel, given)} is given a {type(value).__name__} as {role.name}, "
                f"where {kind} is needed."
            )
        if isinstance(role, InState) and value not in (State.COUNT, State.OUTPUTS):
            raise UsageError(
                f"{called(kernel, given)} is given {value} as {role.name}, where no count stands."
            )


def scheme(kernel: str, given: Mapping[str, Any]) -> str:
    """What the kernel is compiled for: the scheme of its weight or its cache. UsageError for another."""
    row = KERNELS[kernel]
    of = [
        given[role.name].scheme
        for role in row.roles
        if isinstance(role, Weight) or (isinstance(role, Operand) and role.form is roles.CACHE)
    ]
    found = str(of[0]) if of else ""
    if found not in row.schemes:
        right = " or ".join(row.schemes)
        raise UsageError(f"{called(kernel, given)} is not made for {found}, but for {right}.")
    return found


def words(kernel: str, given: Mapping[str, Any]) -> dict[str, Word]:
    """The words of an instruction by their names. UsageError where widths or strides do not fit together."""
    found: dict[str, Word] = {}
    for role in KERNELS[kernel].roles:
        found.update(zip(role.words, _words(kernel, role, given), strict=True))
    numbers = {name: word for name, word in found.items() if isinstance(word, int)}
    for role in KERNELS[kernel].roles:
        if isinstance(role, Shaped):
            _check_width(kernel, role, given, numbers)
    return found


def _words(kernel: str, role: Role, given: Mapping[str, Any]) -> tuple[Word, ...]:
    if isinstance(role, Derived):
        facts = {getattr(given[name], role.fact) for name in role.of}
        if len(facts) > 1:
            raise UsageError(f"{called(kernel, given)} is given {' and '.join(role.of)} of different widths.")
        return (facts.pop(),)
    value = given[role.name]
    if isinstance(role, Float):
        return (float32_bits(value),)
    if isinstance(role, Number | InState):
        return (value,)
    if value is None:
        return (0,)
    handle: tuple[Word, ...] = value.words
    return handle[:1] if isinstance(role, Operand) and role.form is roles.SHARED else handle


def _check_width(kernel: str, role: Shaped, given: Mapping[str, Any], numbers: Mapping[str, int]) -> None:
    """UsageError unless what is given has the columns that the kernel takes it to have, or as many of its
    whole tiles or groups.
    """
    columns = getattr(given[role.name], "columns", None)
    if columns is None or not role.width:
        return
    unit = roles.product(tuple(f for f in roles.factors(role.width) if isinstance(f, int)), numbers)
    wanted = roles.product(role.width, numbers)
    if isinstance(role, Const) and role.count:  # rows of whole steps, one after another
        wanted = roles.product(role.count, numbers) * role.touched(numbers)
    if -(-columns // unit) * unit != wanted:
        raise UsageError(
            f"{called(kernel, given)} is given {role.name} of {columns} columns, where {wanted} are needed."
        )


def shared(kernel: str, found: Mapping[str, Word]) -> tuple[list[Shared], list[Shared]]:
    """What an instruction with these words (reads, writes)."""
    numbers = {name: word for name, word in found.items() if isinstance(word, int)}
    reads: list[Shared] = []
    writes: list[Shared] = []
    for role in KERNELS[kernel].roles:
        if isinstance(role, Operand):
            touched = [word for name in role.words if not isinstance(word := found[name], int)]
            reads += touched if role.read(numbers) else []
            writes += touched if role.WRITTEN else []
    return reads, writes
