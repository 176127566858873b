"""The inner loops of products, made for each tier on whatever CPU this is: what multiplies there, and that
nothing slow stands beside it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from bench.assembly import STACK, counted, functions, inner_loops, instructions, tile
from edgeq.errors import UsageError
from edgeq.formats.schemes import SCHEMES, Floats, Integers, Scheme
from edgeq.kernels import sources
from edgeq.kernels.row import CODES as CODED
from edgeq.simd import compile, isa
from edgeq.simd.isa.parts import halves, quads
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target
from edgeq.simd.verbs.dots import dots_of
from tests.simd.rows import CODES as CODES_ALIKE
from tests.simd.rows import STAND_INS, ways


@cache
def assembly(kernel: str, tag: Tag, machine: str = "") -> str:
    return compile.assembly(sources.entry(kernel, tag), Target(tag.isa, machine or tag.isa_row.machine))


# ---- loops in assembly ----
def test_inner_loops_are_found() -> None:
    x86 = "a:\n  nop\n.Lb:\n  add %rax, %rbx\n  jne .Lb\n  jmp a\nc:\n jne d\nd:\n"
    assert inner_loops(x86) == [[".Lb:", "  add %rax, %rbx", "  jne .Lb"]]
    arm = ".Lb:\n  add x0, x0, #1\n  b.hi .Lb\n.Lc:\n  tbnz w0, #3, .Lc\n  b .Ld\n.Ld:\n"
    assert inner_loops(arm) == [
        [".Lb:", "  add x0, x0, #1", "  b.hi .Lb"],
        [".Lc:", "  tbnz w0, #3, .Lc"],
    ]


def test_what_is_code() -> None:
    """Neither labels nor directives nor remarks; functions by their names, and of a tile what it is for."""
    loop = [".Lb: // a loop", "\tadd x0, x0, #1 // one", "\t//APP", "\t#APP", "\t.p2align 4", "\tb.hi .Lb"]
    assert instructions(loop) == ["\tadd x0, x0, #1", "\tb.hi .Lb"]
    text = "\t.text\nTag_2ck6_2c4_2cunpacked_29:\n\tnop\n.La:\n\tret\nkernel:  # @kernel\n\tcall x\n"
    (first, second) = functions(text).items()
    assert tile(first[0]) == (4, "unpacked") and "ret" in first[1] and "call" not in first[1]
    assert second[0] == "kernel" and tile("kernel") is None


# ---- what goes together ----
@pytest.mark.parametrize("name", [row.name for row in isa.ISAS])
def test_runs_are_all_quads_of_a_group(name: str) -> None:
    """Each once, in whole steps, beside the sub-scale that they share."""
    for scheme in CODED:
        dots = dots_of(Tag(name, scheme))
        count = quads(dots.row)
        size = count // halves(dots.row)
        assert [(i // size, i) for i in range(count)] == [(h, i) for h, run in dots.runs() for i in run]
        assert not [run for _, run in dots.runs() if len(run) % dots.quads]


@pytest.mark.parametrize("name", [row.name for row in isa.ISAS])
def test_schemes_with_one_way_are_lowered_alike(name: str) -> None:
    """What is not compiled by tests of kernels is what they do compile, but for the numbers in it."""
    found: dict[Any, set[Any]] = {}
    for scheme in CODED:
        dots = dots_of(Tag(name, scheme))
        spelling = (
            type(dots),
            dots.acc,
            dots.signed,
            dots.quads,
            str(dots.runs()),
            dots.carries(1),
            str(dots.sum),
        )
        found.setdefault(ways(SCHEMES[scheme])[0], set()).add(spelling)
    assert {ways(SCHEMES[scheme])[0] for scheme in CODES_ALIKE} == set(found)
    assert [len(spellings) for spellings in found.values()] == [1] * len(found)


REFUSED = [
    (dict(planes=(4, 2), table=tuple(range(64))), "kernels look up 32 integers at the most, not 64"),
    (
        dict(planes=(8,), zero=255, sub=Integers("u8", 32)),
        "times the smallest integer is 65025, more than 16 bits hold",
    ),
    (
        dict(planes=(4,), table=tuple(range(64)), sub=Integers("u6c2", 32)),
        "kernels look up 32 integers at the most, not 64",
    ),
    (dict(planes=(8,)), "its integers are 0 to 255, more than 8 bits hold"),
    (
        dict(planes=(4, 1), scale=Floats("f16", 16)),
        "16 columns, which share a scale, are no whole lines of one bit",
    ),
    (
        dict(planes=(4,), sub=Integers("i8", 16), scale=Floats("f16", 16)),
        "a scale for 16 columns leaves none for sub-scales",
    ),
]


@pytest.mark.parametrize(("fields", "sentence"), REFUSED)
def test_a_scheme_that_no_kernel_computes(
    fields: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused by what is to be compiled, before it is."""
    monkeypatch.setitem(SCHEMES, "new", Scheme("new", **{"scale": Floats("f16", 32), **fields}))
    with pytest.raises(UsageError, match=f"scheme new: .*{sentence}"):
        Tag("avx2", "new", 4)


def test_a_new_scheme_needs_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three planes, sub-scales, brain floats for 64 columns and for a row: no code knows of it."""
    scales: dict[str, Any] = dict(sub=Integers("i8", 16), scale=Floats("bf16", 64), row=Floats("bf16", 0))
    row = Scheme("new", planes=(4, 2, 1), zero=64, **scales)
    monkeypatch.setitem(SCHEMES, "new", row)
    for name in ("avx2", "avx512vnni", "i8mm", "neon"):
        assert inner_loops(compile.assembly(sources.entry("matmul", Tag(name, "new", 2))))


# ---- products ----
# Nothing of this stands in a loop of products: scalar multiplications, bytes that are taken out of vectors or
# put into them one by one, calls.
SLOW = {
    "x86_64": re.compile(r"\s(imul|v?pinsr[bwdq]|v?pextr[bwdq]|call)\w*\s"),
    "aarch64": re.compile(r"\s(mul\s+[wx]|madd|[su]maddl|[su]mov|ldrs?b|bl|blr)\s"),
}
# But for these: of 16 columns a token's sum times -12, and the places of two groups in 32 columns.
SLOW_MOST = {("i8mm", "nv4"): 4}
# Touches of the stack in a group's loop of a full tile, at the most: none, or what is named with its reason.
# For a tile that reads codes as they are stored and, where there are these, one that finds them unpacked and
# the one that leaves them so, which puts them by besides. A change that adds one fails; one that takes one
# away lowers the number.
# Of tiles that read codes as they are stored, that unpack them and that find them unpacked. The first ask for
# weights in advance, which takes a register or two.
STACK_MOST: dict[str, dict[str, tuple[int, ...]]] = {
    # 32 registers hold 8 tokens' floats and integers; some constants of the last ones are read from the stack
    "avx512vnni": {"q4": (4, 1, 7), "q8": (4, 1, 8), "nv4": (10, 6, 12)},
    # 8 of 16 registers hold integers and 8 are wanted for floats, which are put by while integers are added
    "avxvnni": {"q4": (28, 16, 28), "q8": (22, 16, 27), "nv4": (19, 11, 20)},
    # the same, and codes are kept as pairs of 16 bits meanwhile
    "avx2": {
        "q4": (28, 28, 49),
        "q8": (44, 38, 54),
        "k4": (43, 37, 54),
        "q5": (63, 47, 68),
        "k6": (79, 64, 77),
        "t4x": (44, 42, 69),
        "nv4": (41, 30, 52),
    },
    # all floats, the integers of four rows and the scales of four tokens in 32 registers; where codes and
    # sub-scales are unpacked as well, there are too few
    "i8mm": {
        "q4": (2, 0, 2),
        "q8": (0, 0, 0),
        "k4": (7, 0, 11),
        "k6": (37, 2, 31),
        "e4": (16, 0, 14),
        "nv4": (8, 0, 9),
    },
    "dotprod": {
        "q4": (0, 0, 0),
        "q8": (0, 0, 0),
        "k4": (5, 0, 10),
        "k6": (18, 0, 18),
        "e4": (11, 0, 8),
        "nv4": (3, 0, 5),
    },
    # integers of 16 bits take twice the registers
    "neon": {"q4": (0,), "q8": (6,), "nv4": (10, 4, 8)},
}
WAYS = "packed", "unpacked", "unpacking"
ATTENTION_STACK_MOST = 80  # besides a group's numbers it keeps the places of keys, scales and sums
EVEX, VEX = r"\svpdpbusd\s.*%zmm", r"\{vex\}\s+vpdpbusd\s.*%ymm"
Counts = dict[str, int]  # of instructions for 16 rows by 4 columns by a token
PAIRS = {r"vpmaddubsw\s.*%ymm": 2, r"vpmaddwd\s.*%ymm": 2}
NEON_BYTES = {r"\bsmull2?\s": 4, r"\bsmlal2?\s": 4}  # two lines share them
CODES: list[tuple[str, str, Counts]] = [
    *(("avx512vnni", scheme, {EVEX: 1}) for scheme in ("q4", "q8", "nv4")),
    *(("avxvnni", scheme, {VEX: 2}) for scheme in ("q4", "q8", "nv4")),
    *(("avx2", scheme, {r"vpmaddubsw\s.*%ymm": 2}) for scheme in ("q4", "k4", "q5", "k6", "nv4")),
    *(("avx2", scheme, PAIRS) for scheme in ("q8", "t4x")),
    *(("i8mm", scheme, {r"\su?smmla\s": 2}) for scheme in ("q4", "q8", "k4", "k6", "e4", "nv4")),
    *(("dotprod", scheme, {r"\ssdot\s": 4}) for scheme in ("q4", "q8", "k4", "k6", "e4", "nv4")),
    ("neon", "q4", {r"\ssml?[au]ll?2?\s": 8}),
    *(("neon", scheme, NEON_BYTES) for scheme in ("q8", "nv4")),
]
WIDE_PAIR = r"vpmaddwd\s.*%ymm"
WIDE: list[tuple[str, Counts]] = [  # of numbers of 16 bits
    ("avx512vnni", {r"\svpdpwssd\s.*%zmm": 2}),
    ("avxvnni", {r"\{vex\}\s+vpdpwssd\s.*%ymm": 2, WIDE_PAIR: 2}),
    ("avx2", {WIDE_PAIR: 4}),
    ("i8mm", {r"\ssmmla\s": 4}),
    ("dotprod", {r"\ssdot\s": 8}),
    ("neon", {r"\ssm(?:ul|la)l2?\s": 16}),
]


def check(text: str, tag: Tag, expected: Counts, most: int, count: int = 1) -> None:
    """So many loops of the assembly have a group's products for a full tile, none of which touches the stack
    more often, and no loop of products is slow.
    """
    loops = inner_loops(text)
    times = tag.tokens * quads(tag.scheme_row)
    found = [loop for loop in loops if all(counted(loop, what) == n * times for what, n in expected.items())]
    assert len(found) >= count, [{what: counted(loop, what) for what in expected} for loop in loops]
    (first, *_) = expected
    machine = tag.isa_row.machine
    slow = SLOW[machine]
    found_slow = [line for loop in loops if counted(loop, first) for line in loop if slow.search(line)]
    assert len(found_slow) <= SLOW_MOST.get((tag.isa, tag.scheme), 0), found_slow
    touched = [counted(loop, STACK) for loop in found[:count]]
    assert max(touched) <= most, (tag, touched)


def full(name: str, scheme: str) -> Tag:
    return Tag(name, scheme, isa.by_name(name).tokens)


@pytest.mark.parametrize(("name", "scheme", "expected"), CODES, ids=lambda v: v if isinstance(v, str) else "")
def test_matmul(name: str, scheme: str, expected: Counts) -> None:
    tag = full(name, scheme)
    texts = {tile(function): text for function, text in functions(assembly("matmul", tag)).items()}
    most = STACK_MOST[name][scheme]
    assert len(most) == (3 if tag.unpacks_once else 1)
    for way, touched in zip(WAYS, most, strict=False):
        check(texts[tag.tokens, way], tag, expected, touched)


@pytest.mark.parametrize(("name", "expected"), WIDE, ids=lambda v: v if isinstance(v, str) else "")
def test_attention(name: str, expected: Counts) -> None:
    """Both products, for a full tile and for a query alone."""
    tag = full(name, "q8")
    text = assembly("attend_int8", tag)
    for one in (tag, tag.single):
        check(text, one, expected, ATTENTION_STACK_MOST, count=2)


@pytest.mark.parametrize("name", [row.name for row in isa.ISAS if row.machine == "x86_64"])
@pytest.mark.parametrize("kernel", ["matmul", "attend_int8"])
def test_registers_are_put_by_within_lines(name: str, kernel: str) -> None:
    """Each function aligns the stack to lines, and none but tiles are called."""
    text = assembly(kernel, full(name, "q8"))
    found = functions(text)
    assert len(found) == len(re.findall(r"andq\s+\$-64, %rsp", text)) > 0
    called = set(re.findall(r"\scallq?\s+([^*\s]\S*)", text))
    assert called == {function for function in found if tile(function)}


def test_every_tier_is_checked() -> None:
    rows = {row.name for row in isa.ISAS if row.machine and row not in STAND_INS}
    assert rows == {name for name, *_ in CODES} == {name for name, _ in WIDE}


@pytest.mark.parametrize(
    ("machine", "there", "absent"),
    [("x86_64", r"pmaddwd\s.*%xmm", "ymm"), ("aarch64", r"fmla\s+v\d+\.4s", "sdot")],
)
def test_generic_is_made_for_any_machine(machine: str, there: str, absent: str) -> None:
    text = assembly("matmul", full("generic", "q4"), machine)
    assert re.search(there, text) and absent not in text


LATER = [  # tier, instructions of extensions that it does not name
    ("avxvnni", r"zmm|\s(mulx|shlx|shrx|sarx|rorx|tzcnt\w|lzcnt\w)\s"),
    ("avx2", r"zmm|\s(mulx|shlx|shrx|sarx|rorx|tzcnt\w|lzcnt\w|vpdp\w+)\s"),
    ("i8mm", r"\bz\d+\.|\bp\d+/"),
    ("dotprod", r"\s(us?mmla|smmla|usdot)\s|\bz\d+\."),
    ("neon", r"\s(us?mmla|smmla|u?sdot|ldadd\w*|swp\w*)\s|\.8h,.*\sfmla|\bz\d+\."),
]


@pytest.mark.parametrize(("name", "pattern"), LATER)
def test_a_tier_is_all_that_its_code_uses(name: str, pattern: str) -> None:
    """Code for a tier has no instruction of a later extension, though this CPU may."""
    for kernel in ("attend_int8", "matmul"):
        assert not re.search(pattern, assembly(kernel, full(name, "q8")))
