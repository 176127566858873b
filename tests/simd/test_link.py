"""The linker: images that run wherever they lie, and objects that cannot become part of one."""

from __future__ import annotations

import ctypes
import struct

import pytest

from edgeq.packs.build import all_kernels
from edgeq.packs.executable import Executable
from edgeq.packs.store import kernels
from edgeq.simd import link
from edgeq.simd.isa import by_name
from edgeq.simd.target import Target
from tests.simd.objects import GENERIC, adding, made
from tests.simd.rows import HERE

ARM = Target("generic", "aarch64")

# Calls a function of its own that may not be inlined, and looks into a table of constants.
REFERRING = """
@table = internal unnamed_addr constant [4 x i64] [i64 {0}, i64 {1}, i64 {2}, i64 {3}]
define internal i64 @look(i64 %n) noinline optnone {{
    %p = getelementptr i64, ptr @table, i64 %n
    %v = load i64, ptr %p
    ret i64 %v
}}
define i64 @kernel(i64 %a, i64 %b, i64 %c) {{
    %v = call i64 @look(i64 %a)
    %r = add i64 %v, %b
    ret i64 %r
}}
"""
CALLING = "declare i64 @other(i64)\ndefine i64 @kernel(i64 %a) { %r = call i64 @other(i64 %a) ret i64 %r }"
WRITING = """@count = internal global i64 7
define i64 @kernel(i64 %a) {
    %v = load i64, ptr @count
    store i64 %a, ptr @count
    ret i64 %v
}"""
POINTING = """@one = internal constant i64 1
@two = internal constant i64 2
@table = internal constant [2 x ptr] [ptr @one, ptr @two]
define i64 @kernel(i64 %n) {
    %p = getelementptr ptr, ptr @table, i64 %n
    %q = load ptr, ptr %p
    %v = load i64, ptr %q
    ret i64 %v
}"""
FOREIGN = "@x = external global i64\ndefine ptr @kernel() { ret ptr @x }"
THREADED = (
    "@x = internal thread_local global i64 0\ndefine i64 @kernel() { %v = load i64, ptr @x ret i64 %v }"
)


def call(code: Executable, at: int, *arguments: int) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(code.address + at)(*arguments))


def test_objects_run_from_one_image() -> None:
    """Calls and constants of each object stay its own; twice, since no address is in the image."""
    objects = {f"t{n}": made(REFERRING.format(n, n + 10, n + 20, n + 30)) for n in range(5)}
    objects["sum"] = made(adding(1000))
    image, entries = link.link(objects, "kernel", GENERIC.machine)
    assert list(entries) == list(objects)
    for code in (Executable.of_bytes(image), Executable.of_bytes(image)):
        for n in range(5):
            assert [call(code, entries[f"t{n}"], i, 5, 0) for i in range(4)] == [
                n + 5,
                n + 15,
                n + 25,
                n + 35,
            ]
        assert call(code, entries["sum"], 1, 20, 300) == 1321


@pytest.mark.parametrize("target", [GENERIC, ARM], ids=str)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CALLING, "calls other from outside"),
        (WRITING, "would have to be written"),
        (POINTING, "would have to be written"),
        (FOREIGN, "reference of kind"),
        (THREADED, "would have to be written"),
    ],
    ids=["calling", "writing", "pointing", "foreign", "threaded"],
)
def test_what_cannot_be_linked_is_named(text: str, words: str, target: Target) -> None:
    with pytest.raises(link.LinkError, match=f"^thing on {target.machine}: .*{words}"):
        link.link({"thing": made(text, target)}, "kernel", target.machine)


@pytest.mark.parametrize("blob", [b"", b"\x7fELF\x02\x01", bytes(100), made(adding(0), ARM)])
def test_what_is_no_object_for_the_machine_is_refused(blob: bytes) -> None:
    with pytest.raises(link.LinkError, match="no ELF object"):
        link.link({"thing": blob}, "kernel", "x86_64")


def test_every_kernel_of_this_tier_links() -> None:
    """None calls fmaf, memset or anything else, and none keeps anything to be written."""
    requests = all_kernels(Target.of(HERE))
    addresses = kernels().load(requests)
    assert all(addresses[request] for request in requests)
    assert {tag.tokens for _, tag in requests} == {1, by_name(HERE).tokens}


# ---- references, against their definition in the ELF ABI of ARM ----
def patched(kind: int, word: int, s: int, a: int, p: int) -> int:
    code = bytearray(struct.pack("<I", word))
    link.MACHINES["aarch64"].references[kind](code, 0, s, a, p)
    return int(struct.unpack("<I", code)[0])


@pytest.mark.parametrize(("s", "p"), [(0x5678, 0x1234), (0x1234, 0x7FFF4), (0x1000, 0x1000), (0, 0xFFC)])
def test_adrp(s: int, p: int) -> None:
    word = patched(275, 0x90000003, s, 8, p)  # adrp x3
    pages = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
    pages -= (pages >> 20) << 21  # its sign
    assert (p & ~0xFFF) + pages * 4096 == (s + 8) & ~0xFFF and word & 0x9F00001F == 0x90000003


@pytest.mark.parametrize(
    ("kind", "word", "scale"),
    [
        (277, 0x91000021, 1),  # add x1, x1, #
        (278, 0x39400021, 1),  # ldrb w1, [x1, #]
        (284, 0x79400021, 2),  # ldrh
        (285, 0xB9400021, 4),  # ldr w1
        (286, 0xF9400021, 8),  # ldr x1
        (299, 0x3DC00021, 16),  # ldr q1
    ],
)
def test_the_place_in_a_page(kind: int, word: int, scale: int) -> None:
    out = patched(kind, word, 0x1450, 0x20, 0x8000)
    assert (out >> 10 & 0xFFF) * scale == 0x470 and out & ~(0xFFF << 10) == word
    if scale > 1:
        with pytest.raises(link.LinkError, match="not aligned"):
            patched(kind, word, 0x1451, 0, 0)


@pytest.mark.parametrize(("kind", "word"), [(283, 0x94000000), (282, 0x14000000)])
@pytest.mark.parametrize("distance", [4, -4, 0x7FFFFFC, -0x8000000])
def test_branches(kind: int, word: int, distance: int) -> None:
    out = patched(kind, word, 0x9000000 + distance, 0, 0x9000000)
    words = out & 0x3FFFFFF
    assert (words - (words >> 25 << 26)) * 4 == distance and out >> 26 == word >> 26


def test_distances_that_do_not_fit() -> None:
    with pytest.raises(link.LinkError, match="does not fit in 28 bits"):
        patched(283, 0x94000000, 0x8000000, 0, 0)
    with pytest.raises(link.LinkError, match="does not fit in 32 bits"):
        link.relative32(bytearray(4), 0, 1 << 31, 0, 0)
