"""The inner loops of products, made for each tier on whatever CPU this is: what multiplies there, and that
nothing slow stands beside it.
"""

from __future__ import annotations

import re
from functools import cache

import pytest

from edgeq.errors import UsageError
from edgeq.formats.schemes import SCHEMES, Scheme
from edgeq.kernels.catalog import CODES as CODED
from edgeq.simd import compile, isa
from edgeq.simd.isa.dots import Dots
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target
from edgeq.simd.verbs.dots import dots_of, signed_of
from tests.simd.rows import STAND_INS


@cache
def assembly(kernel: str, tag: Tag, machine: str = "") -> str:
    return compile.assembly(kernel, tag, Target(tag.isa, machine or tag.isa_row.machine))


# ---- loops in assembly ----
JUMP = re.compile(r"\s+(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:\S+,\s*)*(\S+)$")


def inner_loops(text: str) -> list[list[str]]:
    """The innermost loops of the assembly: from a label to the jump back to it, with no such jump between."""
    lines = text.splitlines()
    labels = {line.split(":")[0]: n for n, line in enumerate(lines) if re.match(r"\S+:", line)}
    loops = []
    for n, line in enumerate(lines):
        jump = JUMP.match(line)
        if jump and labels.get(jump[1], n) < n:
            loops.append((labels[jump[1]], n))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [lines[start : end + 1] for start, end in inner]


def test_inner_loops_are_found() -> None:
    x86 = "a:\n  nop\n.Lb:\n  add %rax, %rbx\n  jne .Lb\n  jmp a\nc:\n jne d\nd:\n"
    assert inner_loops(x86) == [[".Lb:", "  add %rax, %rbx", "  jne .Lb"]]
    arm = ".Lb:\n  add x0, x0, #1\n  b.hi .Lb\n.Lc:\n  tbnz w0, #3, .Lc\n  b .Ld\n.Ld:\n"
    assert inner_loops(arm) == [
        [".Lb:", "  add x0, x0, #1", "  b.hi .Lb"],
        [".Lc:", "  tbnz w0, #3, .Lc"],
    ]


# ---- what goes together ----
@pytest.mark.parametrize("name", [row.name for row in isa.ISAS])
def test_every_scheme_goes_with_every_instruction_set(name: str) -> None:
    for scheme in CODED:
        assert SCHEMES[scheme].group % (4 * SCHEMES[scheme].planes * dots_of(Tag(name, scheme)).lines) == 0


@pytest.mark.parametrize(
    ("name", "bits", "fits"), [("i8mm", 1, False), ("i8mm", 2, True), ("dotprod", 1, True)]
)
def test_a_scheme_that_an_instruction_set_cannot_compute(
    name: str, bits: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of 32 one-bit codes is one line, and i8mm takes two to a step: refused when it is compiled."""
    monkeypatch.setitem(SCHEMES, "new", Scheme("new", bits, 32, 1, "|u1"))
    tag = Tag(name, "new", 4)
    if fits:
        assert inner_loops(compile.assembly("matmul", tag))
        return
    with pytest.raises(UsageError, match="scheme new on i8mm: a step takes 64 columns, but a group has 32"):
        compile.assembly("matmul", tag)


# ---- products ----
# Nothing of this stands in a loop of products: the stack, scalar multiplications, bytes that are taken out of
# vectors or put into them one by one, calls.
SLOW = {
    "x86_64": re.compile(r"%[re]sp|\s(imul|v?pinsr[bwdq]|v?pextr[bwdq]|call)\w*\s"),
    "aarch64": re.compile(r"\[sp|\s(mul\s+[wx]|madd|[su]maddl|[su]mov|ldrs?[bh]|bl|blr)\s"),
}
EVEX, VEX = r"\svpdpbusd\s.*%zmm", r"\{vex\}\s+vpdpbusd\s.*%ymm"
Counts = dict[str, int]  # of instructions for 16 rows by 4 columns by a token
NEON_BYTES = {r"\bsmull2?\s": 4, r"\bsmlal2?\s": 4, r"\bsadalp\s": 4}  # two lines share them
CODES: list[tuple[str, str, Counts]] = [
    *(("avx512vnni", scheme, {EVEX: 1}) for scheme in ("q4", "q8")),
    *(("avxvnni", scheme, {VEX: 2}) for scheme in ("q4", "q8")),
    ("avx2", "q4", {r"vpmaddubsw\s.*%ymm": 2, r"vpaddw\s.*%ymm": 2}),
    ("avx2", "q8", {r"vpmaddubsw\s.*%ymm": 2, r"vpmaddwd\s.*%ymm": 2}),
    *(("i8mm", scheme, {r"\susmmla\s": 2}) for scheme in ("q4", "q8")),
    *(("dotprod", scheme, {r"\ssdot\s": 4}) for scheme in ("q4", "q8")),
    ("neon", "q4", {r"\ssmlal2?\s": 8}),
    ("neon", "q8", NEON_BYTES),
]
SIGNED: list[tuple[str, Counts]] = [
    ("avx512vnni", {EVEX: 1}),
    ("avxvnni", {VEX: 2}),
    ("avx2", {r"vpmaddubsw\s.*%ymm": 2, r"vpmaddwd\s.*%ymm": 2}),
    ("i8mm", {r"\ssmmla\s": 2}),
    ("dotprod", {r"\ssdot\s": 4}),
    ("neon", NEON_BYTES),
]


def counted(loop: list[str], instruction: str) -> int:
    return sum(bool(re.search(instruction, line)) for line in loop)


def check(text: str, tag: Tag, dots: Dots, expected: Counts) -> None:
    """One loop of the assembly has a step's products for a full tile, and no loop of products is slow."""
    steps = tag.tokens * dots.planes * dots.lines
    loops = inner_loops(text)
    assert [
        loop for loop in loops if all(counted(loop, what) == n * steps for what, n in expected.items())
    ], [{what: counted(loop, what) for what in expected} for loop in loops]
    (first, *_) = expected
    slow = SLOW[tag.isa_row.machine]
    assert not [line for loop in loops if counted(loop, first) for line in loop if slow.search(line)]


def tile(name: str, scheme: str) -> Tag:
    return Tag(name, scheme, isa.by_name(name).tokens)


@pytest.mark.parametrize(("name", "scheme", "expected"), CODES, ids=lambda v: v if isinstance(v, str) else "")
def test_matmul(name: str, scheme: str, expected: Counts) -> None:
    tag = tile(name, scheme)
    check(assembly("matmul", tag), tag, dots_of(tag), expected)


@pytest.mark.parametrize(("name", "expected"), SIGNED, ids=lambda v: v if isinstance(v, str) else "")
def test_attention(name: str, expected: Counts) -> None:
    """Both products: queries and keys as in matmul, probabilities and values as signed bytes."""
    tag = tile(name, "q8")
    text = assembly("attend_int8", tag)
    check(text, tag, dots_of(tag), next(c for n, s, c in CODES if (n, s) == (name, "q8")))
    check(text, tag, signed_of(tag), expected)


def test_every_tier_is_checked() -> None:
    rows = {row.name for row in isa.ISAS if row.machine and row not in STAND_INS}
    assert rows == {name for name, *_ in CODES} == {name for name, _ in SIGNED}


@pytest.mark.parametrize(
    ("machine", "there", "absent"),
    [("x86_64", r"pmaddwd\s.*%xmm", "ymm"), ("aarch64", r"fmla\s+v\d+\.4s", "sdot")],
)
def test_generic_is_made_for_any_machine(machine: str, there: str, absent: str) -> None:
    text = assembly("matmul", tile("generic", "q4"), machine)
    assert re.search(there, text) and absent not in text


LATER = [  # tier, instructions of extensions that it does not name
    ("avxvnni", r"zmm|\s(mulx|shlx|shrx|sarx|rorx|tzcnt\w|lzcnt\w)\s"),
    ("avx2", r"zmm|\s(mulx|shlx|shrx|sarx|rorx|tzcnt\w|lzcnt\w|vpdpbusd)\s"),
    ("i8mm", r"\bz\d+\.|\bp\d+/"),
    ("dotprod", r"\s(us?mmla|smmla|usdot)\s|\bz\d+\."),
    ("neon", r"\s(us?mmla|smmla|u?sdot|ldadd\w*|swp\w*)\s|\.8h,.*\sfmla|\bz\d+\."),
]


@pytest.mark.parametrize(("name", "pattern"), LATER)
def test_a_tier_is_all_that_its_code_uses(name: str, pattern: str) -> None:
    """Code for a tier has no instruction of a later extension, though this CPU may."""
    for kernel in ("attend_int8", "matmul"):
        assert not re.search(pattern, assembly(kernel, tile(name, "q8")))
