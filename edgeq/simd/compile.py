"""From a kernel to an object file: numba types it and writes it down, LLVM optimizes and emits it for the
target, which need not be this machine.

A kernel is a Python function (t, work, worker, workers, state, *operands). Its compiled form has one
signature for all, (instruction, worker, workers) -> void: the entry made here reads the operands out of
the instruction.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import llvmlite.binding as llvm

from edgeq.kernels.catalog import KERNELS, OPERANDS_AT, STATE_AT, WORK_AT

from .tag import Tag
from .target import Target

COMMON = ("t", "work", "worker", "workers", "state")


def target_machine(target: Target) -> Any:
    """LLVM's machine for the target."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


def kernel_function(name: str) -> Any:
    """The kernel's numba dispatcher, its parameters checked against the catalog."""
    row = KERNELS[name]
    function = getattr(importlib.import_module(f"edgeq.kernels.{row.module}"), name)
    given = tuple(inspect.signature(function.py_func).parameters)
    common = COMMON[:1] if row.plain else COMMON
    if given != common + row.operands:
        raise TypeError(f"kernel {name} takes {given[len(common) :]}, its catalog row says {row.operands}")
    return function


def typed(name: str, tag: Tag) -> tuple[str, str, int]:
    """The kernel as numba writes it for this tag: LLVM text, not optimized, the native name of its entry, how
    many int64 that takes.

    The entry of a kernel takes (instruction, worker, workers), the entry of a plain function its operands.
    """
    from numba import types

    from .frontend import written
    from .verbs import peek_i64

    row = KERNELS[name]
    if row.plain:
        arguments = row.operands
        call = ", ".join(("tag", *row.operands))
    else:
        arguments = ("instruction", "worker", "workers")
        operands = (f"peek_i64(instruction + {OPERANDS_AT + 8 * n})" for n in range(len(row.operands)))
        state = f"peek_i64(instruction + {STATE_AT})"
        call = ", ".join(("tag", f"instruction + {WORK_AT}", "worker", "workers", state, *operands))
    scope: dict[str, Any] = {"kernel": kernel_function(name), "tag": tag, "peek_i64": peek_i64}
    exec(
        f"def entry({', '.join(arguments)}):\n    return kernel({call})\n", scope
    )  # numba has no calls by a list
    result = types.int64 if row.plain else types.void
    return *written(scope["entry"], result(*[types.int64] * len(arguments))), len(arguments)


WRAPPER = """
define i64 @{symbol}({parameters}) {{
  %result = alloca i64
  %error = alloca ptr
  store i64 0, ptr %result
  %status = call i32 @"{native}"(ptr %result, ptr %error, {arguments})
  %value = load i64, ptr %result
  ret i64 %value
}}
"""

FUSED = """
define float @fmaf(float %x, float %y, float %z) {
  %p.x = fpext float %x to double
  %p.y = fpext float %y to double
  %c = fpext float %z to double
  %p = fmul double %p.x, %p.y
  %s = fadd double %p, %c
  %c.seen = fsub double %s, %p
  %p.seen = fsub double %s, %c.seen
  %p.lost = fsub double %p, %p.seen
  %c.lost = fsub double %c, %c.seen
  %lost = fadd double %p.lost, %c.lost
  %bits = bitcast double %s to i64
  %last = and i64 %bits, 1
  %even = icmp eq i64 %last, 0
  %inexact = fcmp one double %lost, 0.0
  %change = and i1 %even, %inexact
  %lost.up = fcmp ogt double %lost, 0.0
  %s.up = fcmp ogt double %s, 0.0
  %away = icmp eq i1 %lost.up, %s.up
  %step = select i1 %away, i64 1, i64 -1
  %moved = add i64 %bits, %step
  %odd = select i1 %change, i64 %moved, i64 %bits
  %wide = bitcast i64 %odd to double
  %result = fptrunc double %wide to float
  ret float %result
}
"""  # for CPUs without the instruction: a sum in double rounded to odd, which a float's rounding cannot spoil


def module_of(name: str, tag: Tag, symbol: str, target: Target) -> Any:
    """The kernel's LLVM module, optimized for the target: the C function `symbol`, what it calls, and nothing
    from outside.
    """
    try:
        return optimized(*typed(name, tag), symbol, target)
    except RuntimeError as error:
        raise RuntimeError(f"kernel {name} {tag}: {error}") from None


def optimized(text: str, native: str, count: int, symbol: str, target: Target) -> Any:
    """The module of a function that numba has written, with its native name and how many int64 it takes."""
    parameters = ", ".join(f"i64 %a{n}" for n in range(count))
    text += WRAPPER.format(symbol=symbol, native=native, parameters=parameters, arguments=parameters)
    kept = {symbol}
    if not target.fuses:
        text += FUSED
        kept.add("fmaf")
    module = llvm.parse_assembly(text)
    machine = target_machine(target)
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    for value in (*module.functions, *module.global_variables):
        if value.name not in kept and not value.is_declaration:
            value.linkage = llvm.Linkage.internal
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    module.verify()
    outside = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    errors = [g.name for g in module.global_variables if "picklebuf" in g.name]
    if outside or errors:
        raise RuntimeError(f"it needs {', '.join(outside + errors)}, but kernels neither call nor raise")
    return module


def compile_kernel(name: str, tag: Tag, symbol: str, target: Target | None = None) -> bytes:
    """The kernel's object file for the target, by default the tag's tier; the function in it is `symbol`."""
    target = target or Target.of(tag.isa)
    return bytes(target_machine(target).emit_object(module_of(name, tag, symbol, target)))


def assembly(name: str, tag: Tag, target: Target | None = None) -> str:
    """The kernel's assembly, for tests and people."""
    target = target or Target.of(tag.isa)
    return str(target_machine(target).emit_assembly(module_of(name, tag, "kernel", target)))
