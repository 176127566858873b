"""A tag: a value without bits whose numba type carries what a kernel is compiled for.

That is a scheme (how weights are stored), an instruction set, the number of tokens that a tile serves at
once, and how it comes by codes. Kernels take it as their first argument and ask it for facts; numba compiles
one version per tag type.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeq.formats.schemes import SCHEMES, Part, Scheme

from . import computed
from .isa import ISA, by_name

PACKED = "packed"  # codes are read as they are stored
UNPACKING = "unpacking"  # so they are, and left unpacked for tiles that come after
UNPACKED = "unpacked"  # they are read as a tile before left them: a byte for each, what products multiply
MANY = 8  # tokens of a tile that it is worth a second one of half as many
ROOM = (  # where what a tile has lies unpacked: its codes, and `isa.parts.kept_lines`
    Part("unpacked", "|u1", 1, 8),
    Part("lines", "<i4", 4),
)


@dataclass(frozen=True)
class Tag:
    """What a compiled kernel is for. `scheme` is a scheme's name, or "" where it reads no weights. UsageError
    for one that no kernel computes.
    """

    isa: str
    scheme: str = ""
    tokens: int = 1
    codes: str = PACKED

    def __post_init__(self) -> None:
        if self.scheme:
            computed.check(self.scheme_row)

    @property
    def isa_row(self) -> ISA:
        return by_name(self.isa)

    @property
    def scheme_row(self) -> Scheme:
        return SCHEMES[self.scheme]

    @property
    def parts(self) -> tuple[Part, ...]:
        """What a tile of rows has: the scheme's parts, and ROOM where it is made use of."""
        stored = self.scheme_row.parts
        return stored if self.codes == PACKED else (*stored, *ROOM)

    @property
    def unpacks_once(self) -> bool:
        """Whether the first of many tiles of tokens leaves codes unpacked for the others."""
        return self.isa_row.unpacks_once(self.scheme_row)

    @property
    def streams(self) -> bool:
        """Whether a tile's weights are mostly read for it alone, so that they are worth being asked for in
        advance: not where they were unpacked for it, or are for others, or where long prompts take it too.
        """
        few = self.tokens < self.isa_row.tokens or self.unpacks_once
        return self.codes == PACKED and few

    @property
    def stored(self) -> Tag:
        """The same tag for a tile that reads codes as they are stored."""
        return replace(self, codes=PACKED)

    @property
    def unpacking(self) -> Tag:
        """The same tag for a tile that leaves codes unpacked, where it pays."""
        return replace(self, codes=UNPACKING) if self.unpacks_once else self

    @property
    def unpacked(self) -> Tag:
        """The same tag for a tile that finds them so."""
        return replace(self, codes=UNPACKED) if self.unpacks_once else self

    @property
    def half(self) -> Tag:
        """The same tag with half the tokens to a tile, where that is many: a few are often all there are."""
        return replace(self, tokens=self.tokens // 2) if self.tokens >= MANY else self

    @property
    def single(self) -> Tag:
        """The same tag with one token to a tile."""
        return replace(self, tokens=1)

    def __str__(self) -> str:
        return f"{self.scheme or 'any'}@{self.isa}"

    def named(self, kernel: str) -> str:
        """The kernel for this tag, as a pack of the tag's tier calls it."""
        return " ".join(filter(None, (kernel, self.scheme, f"x{self.tokens}" if self.tokens > 1 else "")))


Request = tuple[str, Tag]  # a kernel's name and what it is compiled for
