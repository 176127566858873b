"""numba as a front end for kernels, beside what else uses it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from edgeq.kernels import sources
from edgeq.simd import compile, compilers
from edgeq.simd.link import link
from edgeq.simd.sources import Sources
from edgeq.simd.tag import Request, Tag
from edgeq.simd.target import Target

GENERIC = Target.of("generic")


def tag(scheme: str) -> Tag:
    return Tag("generic", scheme, GENERIC.isa_row.tokens)


def test_numba_users_are_left_alone() -> None:
    """Kernels have a target of their own: numba's functions for this CPU are compiled and run as ever, arrays
    and reference counts included, before and after.
    """
    from numba import njit

    @njit
    def doubled(x: Any) -> Any:
        return np.concatenate((x, x))

    assert doubled(np.arange(3.0)).tolist() == [0, 1, 2, 0, 1, 2]
    compile.typed(sources.entry("argmax", Tag("generic")))
    assert doubled(np.arange(2)).tolist() == [0, 1, 0, 1]


def test_what_numba_was_asked_for_meanwhile_changes_nothing() -> None:
    """A type of a function is one object for all targets, and keeps by what it was lowered last."""
    from numba import njit

    @njit
    def least(x: int, y: int) -> int:
        return min(x, y)

    for scheme in ("f32", "f16"):
        compile.typed(sources.entry("matmul_float", tag(scheme)))  # has min, too
        assert least(4, 3) == 3
        least.recompile()


def test_a_kernel_is_written_once() -> None:
    """Each of its functions is there, once, and nothing that is there is declared beside it."""
    text, name = compile.typed(sources.entry("matmul_float", tag("f32")))
    functions = re.findall(r'^define [^@]*@"?([^"(]+)', text, re.MULTILINE)
    declared = re.findall(r'^declare [^@]*@"?([^"(]+)', text, re.MULTILINE)
    assert functions[0] == name and len(functions) > 5
    assert len(set(functions + declared)) == len(functions + declared)
    assert declared and all(one.startswith("llvm.") for one in declared)


def test_what_was_compiled_before_changes_nothing() -> None:
    """What one version of a function has found out serves the next ones, and shows in none: the machine code
    is that of a process which compiles nothing else.
    """
    request: Request = ("matmul_float", tag("f16"))
    for scheme in ("f32", "bf16", "f16"):
        here = compile.compile_kernel(sources.entry("matmul_float", tag(scheme)), "kernel")
    told = Sources(sources.__name__, sources.digest())
    ((_, alone),) = compilers.compiled([request], GENERIC, 1, told)
    assert image(here) == image(alone)


def image(blob: bytes) -> tuple[bytes, int]:
    """The machine code and where it begins, without the names of its parts."""
    whole, entries = link({"kernel": blob}, "kernel", GENERIC.machine)
    return bytes(whole), entries["kernel"]
