"""Small object files for tests of linker and packs: written in LLVM's language, made in no time."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm

from edgeq.simd import compile
from edgeq.simd.target import Target

GENERIC = Target.of("generic")


@cache
def made(text: str, target: Target = GENERIC) -> bytes:
    """The object file of a module."""
    machine = compile.target_machine(target)
    module = llvm.parse_assembly(text)
    module.triple = target.triple
    return bytes(machine.emit_object(module))


def adding(n: int) -> str:
    """A module whose function `kernel` gives a + b + c + n."""
    return f"""define i64 @kernel(i64 %a, i64 %b, i64 %c) {{
    %ab = add i64 %a, %b
    %abc = add i64 %ab, %c
    %r = add i64 %abc, {n}
    ret i64 %r }}"""
