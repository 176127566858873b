"""From a kernel's entry to an object file: numba types it and writes it down, LLVM optimizes and emits it for
the target, which need not be this machine.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding as llvm

from .sources import Entry
from .target import Target


@cache
def target_machine(target: Target) -> Any:
    """LLVM's machine for the target."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


def typed(entry: Entry) -> tuple[str, str]:
    """The entry as numba writes it: LLVM text, not optimized, and its native name."""
    from numba import types

    from .frontend import written
    from .verbs import TagType

    result = types.int64 if entry.returns else types.void
    return written(entry.function, result(TagType(entry.tag), *[types.int64] * len(entry.given)))


WRAPPER = """
define i64 @{symbol}({parameters}) {attributes} {{
  %result = alloca i64
  %error = alloca ptr
  store i64 0, ptr %result
{words}
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


def module_of(entry: Entry, symbol: str, target: Target) -> Any:
    """The kernel's LLVM module, optimized for the target: the C function `symbol`, what it calls, and nothing
    from outside.
    """
    try:
        return optimized(*typed(entry), entry.arguments, symbol, target, call=call(entry))
    except RuntimeError as error:
        raise RuntimeError(f"kernel {entry}: {error}") from None


CALLED = ") noinline\n"  # how the first line of a function ends that is not inlined


def call(entry: Entry) -> tuple[str, str]:
    """How an entry calls its kernel: what it reads first, and the arguments."""
    words, arguments = [], ["ptr null"]  # the tag has no bits
    for n, (argument, offset, lies_there) in enumerate(entry.given):
        value = f"%a{argument}"
        if offset:
            words.append(f"%s{n} = add i64 {value}, {offset}")
            value = f"%s{n}"
        if lies_there:
            words.append(f"%p{n} = inttoptr i64 {value} to ptr")
            words.append(f"%w{n} = load i64, ptr %p{n}, align 1")
            value = f"%w{n}"
        arguments.append(f"i64 {value}")
    return "\n".join(words), ", ".join(arguments)


def optimized(
    text: str, native: str, count: int, symbol: str, target: Target, call: tuple[str, str] | None = None
) -> Any:
    """The module of a function that numba has written, with its native name, called by a C function of
    `count` int64: with these, or as `call` has it.
    """
    parameters = ", ".join(f"i64 %a{n}" for n in range(count))
    words, arguments = call or ("", parameters)
    if target.stack:
        text = text.replace(CALLED, f") noinline alignstack({target.stack})\n")
    attributes = f"alignstack({target.stack})" if target.stack else ""
    text += WRAPPER.format(
        symbol=symbol,
        native=native,
        parameters=parameters,
        words=words,
        arguments=arguments,
        attributes=attributes,
    )
    kept = {symbol}
    if not target.fuses:
        text += FUSED
        kept.add("fmaf")
    machine = target_machine(target)
    # before the text is read: it decides how what has no alignment of its own is aligned
    layout = f'target triple = "{target.triple}"\ntarget datalayout = "{machine.target_data}"\n'
    module = llvm.parse_assembly(layout + text)
    for value in (*module.functions, *module.global_variables):
        if value.name not in kept and not value.is_declaration:
            value.linkage = llvm.Linkage.internal
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    for stage in (inlining(), passes.getModulePassManager()):
        stage.run(module, passes)
    module.verify()
    outside = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    errors = [g.name for g in module.global_variables if "picklebuf" in g.name]
    if outside or errors:
        raise RuntimeError(f"it needs {', '.join(outside + errors)}, but kernels neither call nor raise")
    return module


def inlining() -> Any:
    """Passes that inline what a kernel does not call before anything is optimized: LLVM would optimize each
    function by itself and again in whatever it is inlined into, six times over for the innermost.
    """
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    return passes


def compile_kernel(entry: Entry, symbol: str, target: Target | None = None) -> bytes:
    """The kernel's object file for the target, by default the tag's tier; the function in it is `symbol`."""
    target = target or Target.of(entry.tag.isa)
    return bytes(target_machine(target).emit_object(module_of(entry, symbol, target)))


def assembly(entry: Entry, target: Target | None = None) -> str:
    """The kernel's assembly, for tests and people."""
    target = target or Target.of(entry.tag.isa)
    return str(target_machine(target).emit_assembly(module_of(entry, "kernel", target)))
