"""A linker for kernels: ELF objects become one flat image that runs wherever it is mapped.

The image is the objects' code and constants, one after the other, with every reference between them resolved.
That is possible because kernels call nothing from outside and keep nothing that must be written: an object
that does otherwise is refused by the name of what is wrong with it. An image starts on a PAGE, which is as
far as the instructions of ARM look beyond their own position.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PAGE = 4096
ALIGN = 64  # of each object in the image: a line of the cache

PROGBITS, SYMTAB, RELA = 1, 2, 4  # types of sections
WRITE, ALLOC = 1, 2  # flags of sections
UNDEFINED, RESERVED = 0, 0xFF00  # numbers of sections that are none
UNUSED = (".eh_frame", ".note")  # for debuggers and stack unwinding, which kernels do without


class LinkError(Exception):
    """An object that cannot become part of an image."""


# ---- references: what is written at `at`, which refers to the address s + a from the address p ----
Patch = Callable[[bytearray, int, int, int, int], None]


def relative32(code: bytearray, at: int, s: int, a: int, p: int) -> None:
    """A distance of 32 bits."""
    struct.pack_into("<i", code, at, fits(s + a - p, 32))


def fits(value: int, bits: int) -> int:
    """value, checked to fit in so many bits with its sign."""
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise LinkError(f"a distance of {value} bytes does not fit in {bits} bits")
    return value


def field(code: bytearray, at: int, value: int, low: int, bits: int) -> None:
    """Put value into the bits of the instruction from `low` on."""
    mask = ((1 << bits) - 1) << low
    word = struct.unpack_from("<I", code, at)[0]
    struct.pack_into("<I", code, at, word & ~mask | value << low & mask)


def branch26(code: bytearray, at: int, s: int, a: int, p: int) -> None:
    """bl and b: a distance in words."""
    field(code, at, fits(s + a - p, 28) >> 2, 0, 26)


def page21(code: bytearray, at: int, s: int, a: int, p: int) -> None:
    """adrp: a distance in pages."""
    pages = fits((s + a) // PAGE - p // PAGE, 21)
    field(code, at, pages & 3, 29, 2)
    field(code, at, pages >> 2, 5, 19)


def low12(scale: int) -> Patch:
    """The place in the page, for add and for loads of `scale` bytes, which count in their own size."""

    def patch(code: bytearray, at: int, s: int, a: int, p: int) -> None:
        place = (s + a) % PAGE
        if place % scale:
            raise LinkError(f"a constant of {scale} bytes is not aligned")
        field(code, at, place // scale, 10, 12)

    return patch


@dataclass(frozen=True)
class Machine:
    """What ELF calls a machine, and the references that LLVM makes for it, by their numbers."""

    number: int
    references: Mapping[int, Patch]


MACHINES = {
    "x86_64": Machine(
        62,
        {
            2: relative32,  # PC32
            4: relative32,  # PLT32
        },
    ),
    "aarch64": Machine(
        183,
        {
            261: relative32,  # PREL32
            275: page21,  # ADR_PREL_PG_HI21
            277: low12(1),  # ADD_ABS_LO12_NC
            278: low12(1),  # LDST8_ABS_LO12_NC
            282: branch26,  # JUMP26
            283: branch26,  # CALL26
            284: low12(2),  # LDST16_ABS_LO12_NC
            285: low12(4),  # LDST32_ABS_LO12_NC
            286: low12(8),  # LDST64_ABS_LO12_NC
            299: low12(16),  # LDST128_ABS_LO12_NC
        },
    ),
}


# ---- objects ----
@dataclass(frozen=True)
class Section:
    name: str
    kind: int
    flags: int
    data: bytes
    link: int  # the section that this one speaks of
    info: int
    align: int


@dataclass(frozen=True)
class Symbol:
    name: str
    section: int
    value: int


class Object:
    """An ELF file of 64 bits as an assembler writes it."""

    def __init__(self, blob: bytes, machine: Machine):
        kind = b"\x7fELF\x02\x01", struct.pack("<HH", 1, machine.number)
        if len(blob) < 64 or (blob[:6], blob[16:20]) != kind:
            raise LinkError("the compiler wrote no ELF object for the target's machine")
        at, size, count, names = struct.unpack_from("<40xQ10xHHH", blob)
        rows = [struct.unpack_from("<IIQQQQIIQQ", blob, at + n * size) for n in range(count)]
        text = blob[rows[names][4] :]
        self.sections = [
            Section(
                string(text, row[0]),
                row[1],
                row[2],
                blob[row[4] : row[4] + row[5]] if row[1] == PROGBITS or not row[2] & ALLOC else bytes(row[5]),
                row[6],
                row[7],
                row[8],
            )
            for row in rows
        ]
        self.symbols: list[Symbol] = []
        for section in self.sections:
            if section.kind == SYMTAB:
                text = self.sections[section.link].data
                for name, _, section_number, value, _ in struct.iter_unpack("<IHHQQ", section.data):
                    self.symbols.append(Symbol(string(text, name), section_number, value))

    def kept(self) -> list[int]:
        """The sections that become part of the image."""
        kept = []
        for n, section in enumerate(self.sections):
            if not section.flags & ALLOC or section.name.startswith(UNUSED) or not section.data:
                continue
            if section.flags & WRITE or section.kind != PROGBITS:
                raise LinkError(f"{section.name} would have to be written when the code is loaded")
            kept.append(n)
        return kept

    def references(self, section: int) -> list[tuple[int, int, int, int]]:
        """(place, kind, symbol, addend) of what the section's bytes refer to."""
        return [
            (at, info & 0xFFFFFFFF, info >> 32, addend)
            for table in self.sections
            if table.kind == RELA and table.info == section
            for at, info, addend in struct.iter_unpack("<QQq", table.data)
        ]


def string(text: bytes, at: int) -> str:
    return text[at : text.index(b"\0", at)].decode()


def link(objects: Mapping[str, bytes], symbol: str, machine: str) -> tuple[bytes, dict[str, int]]:
    """The image of the objects, and where in it the function `symbol` of each of them stands."""
    image = bytearray()
    entries = {}
    for name, blob in objects.items():
        try:
            entries[name] = append(image, Object(blob, MACHINES[machine]), symbol, MACHINES[machine])
        except LinkError as error:
            raise LinkError(f"{name} on {machine}: {error}") from None
    return bytes(image), entries


def append(image: bytearray, part: Object, symbol: str, machine: Machine) -> int:
    """Add an object to the image; where its function `symbol` stands."""
    kept = part.kept()
    place = {}
    image += bytes(-len(image) % ALIGN)
    for n in kept:
        section = part.sections[n]
        image += bytes(-len(image) % max(1, section.align))
        place[n] = len(image)
        image += section.data

    def address(symbol: Symbol) -> int:
        if symbol.section == UNDEFINED:
            raise LinkError(f"it calls {symbol.name} from outside")
        if symbol.section not in place:
            raise LinkError(f"it refers to {symbol.name}, which is neither code nor a constant")
        return place[symbol.section] + symbol.value

    for n in kept:
        for at, kind, number, addend in part.references(n):
            if kind not in machine.references:
                raise LinkError(f"reference of kind {kind} to {part.symbols[number].name} cannot be resolved")
            target = address(part.symbols[number])
            machine.references[kind](image, place[n] + at, target, addend, place[n] + at)
    (entry,) = (s for s in part.symbols if s.name == symbol)
    return address(entry)
