"""From a kernel to an object file: numba types and optimizes, llvmlite emits. The only module that imports
numba to compile.

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

COMMON = ("t", "work", "worker", "workers", "state")


def target_machine() -> Any:
    """LLVM's machine for this very CPU."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="small",
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
    """The kernel compiled by numba for this tag: its LLVM text, the native name of its entry, how many int64
    that takes.

    The entry of a kernel takes (instruction, worker, workers), the entry of a plain function its operands.
    """
    from numba import types

    from .verbs import native, peek_i64

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
    compiled = native(result(*[types.int64] * len(arguments)))(scope["entry"])
    (one,) = compiled.overloads.values()
    return one.library.get_llvm_str(), one.fndesc.llvm_func_name, len(arguments)


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


def module_of(name: str, tag: Tag, symbol: str) -> Any:
    """The kernel's LLVM module: the C function `symbol`, what it calls, and nothing from outside."""
    text, native, count = typed(name, tag)
    parameters = ", ".join(f"i64 %a{n}" for n in range(count))
    wrapper = WRAPPER.format(symbol=symbol, native=native, parameters=parameters, arguments=parameters)
    module = llvm.parse_assembly(text + wrapper)
    for value in (*module.functions, *module.global_variables):
        if value.name != symbol and not value.is_declaration:
            value.linkage = llvm.Linkage.internal
    builder = llvm.create_pass_builder(target_machine(), llvm.create_pipeline_tuning_options(speed_level=0))
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()  # numba's entries for Python go, and what only they needed
    passes.run(module, builder)
    module.verify()
    outside = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    errors = [g.name for g in module.global_variables if "picklebuf" in g.name]
    if outside or errors:
        raise RuntimeError(
            f"kernel {name} {tag} needs {', '.join(outside + errors)}, but kernels neither call nor raise"
        )
    return module


def compile_kernel(name: str, tag: Tag, symbol: str) -> bytes:
    """The kernel's object file for this CPU; the function in it is called `symbol`."""
    return bytes(target_machine().emit_object(module_of(name, tag, symbol)))


def assembly(name: str, tag: Tag) -> str:
    """The kernel's assembly for this CPU, for tests and people."""
    return str(target_machine().emit_assembly(module_of(name, tag, "kernel")))
