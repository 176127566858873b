"""What a row of the table of kernels is, and what many rows have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from edgeq.errors import UsageError
from edgeq.formats.schemes import SCHEMES

from .catalog import GROUP, OPERANDS_MAX, ROOM, TILE
from .roles import (
    CACHE,
    FLAT,
    OUTSIDE,
    SCRATCH,
    Const,
    Derived,
    Float,
    In,
    InBatch,
    Number,
    Operand,
    Out,
    Role,
    Shaped,
    Weight,
    fact,
    factors,
)


@dataclass(frozen=True)
class Kernel:
    """A row: the module that defines the kernel, the roles of its operands, and the schemes that it is
    compiled for. UsageError for a row that no instruction could hold, or that names what it does not have.
    """

    module: str
    roles: tuple[Role, ...]
    schemes: tuple[str, ...] = ("",)  # "" where it reads neither weights nor cache
    plain: bool = False  # a C function of its own, not called through an instruction

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The words of an instruction, which are the kernel's own parameters."""
        return tuple(word for role in self.roles for word in role.words)

    @cached_property
    def given(self) -> frozenset[str]:
        """The names of what a recorder is given."""
        return frozenset(role.name for role in self.roles if not isinstance(role, Derived))

    @cached_property
    def shared(self) -> tuple[Operand, ...]:
        """The operands that instructions share."""
        return tuple(role for role in self.roles if isinstance(role, Operand))

    @cached_property
    def shaped(self) -> tuple[Shaped, ...]:
        """The operands whose columns the kernel takes to be as many as its numbers say."""
        return tuple(role for role in self.roles if isinstance(role, Shaped) and role.width)

    @cached_property
    def of_scheme(self) -> str:
        """The name of the operand for whose scheme the kernel is compiled, "" where there is none."""
        of = (
            r.name
            for r in self.roles
            if isinstance(r, Weight) or (isinstance(r, Operand) and r.form is CACHE)
        )
        return next(of, "")

    def __post_init__(self) -> None:
        words = self.operands
        if len(words) > OPERANDS_MAX:
            raise UsageError(
                f"a kernel of {self.module} has {len(words)} operands, at most {OPERANDS_MAX} fit."
            )
        named = [f for role in self.roles for size in role.sizes for f in factors(size) if isinstance(f, str)]
        derived = [name for role in self.roles if isinstance(role, Derived) for name in role.of]
        unknown = {*named} - {*words, *OUTSIDE} | {*derived} - self.given
        twice = {word for word in words if words.count(word) > 1}
        if unknown or twice:
            wrong = ", ".join(sorted(unknown | twice))
            raise UsageError(f"a kernel of {self.module} names operands twice or not at all: {wrong}.")


def plain(module: str, *operands: str) -> Kernel:
    """A row of a plain function, whose operands are addresses and numbers."""
    return Kernel(module, tuple(map(Number, operands)), plain=True)


CODES = tuple(row.name for row in SCHEMES.values() if row.planes)  # schemes of weights: codes with scales
FLOATS = tuple(row.name for row in SCHEMES.values() if row.number)  # and floats
CACHED = ("f32", "f16")  # floats of a cache; its bytes are q8
FAR = ("q4m", "q2m")  # and codes of its far pages


WEIGHTS = Weight("weights")
IDS = In("ids", form=FLAT, item=8)
COUNT = InBatch("count_at")
EPSILON = Float("epsilon")
ADDED = Number("add"), COUNT
BIAS = Const("bias", ("tiles", TILE), optional=True)
PRODUCT = Out("y", ("tiles", TILE), adds="add")
FLOAT_PRODUCT = (
    In("x", "columns", count="read"),
    WEIGHTS,
    BIAS,
    PRODUCT,
    fact("tiles", "weights"),
    fact("columns", "weights"),
    *ADDED,
)

UNPACKED = Out("scratch", (ROOM, "groups", GROUP), count="workers", form=SCRATCH, item=1)
ALL_HEADS, KV_HEADS = ("heads", "head_dim"), ("kv_heads", "head_dim")
