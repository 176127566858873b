"""From a kernel to an object file: numba types and optimizes, llvmlite emits. The only module that imports numba to compile.

A kernel is a Python function (t, work, worker, workers, state, *operands). Its compiled form has one signature for all,
(instruction, worker, workers) -> void: the entry made here reads the operands out of the instruction.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from edgeq.kernels.catalog import KERNELS, OPERANDS_AT, WORK_AT

from .tag import Tag

COMMON = ("t", "work", "worker", "workers", "state")


def target_machine() -> Any:
    """LLVM's machine for this very CPU."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="pic", jit=True)


def kernel_function(name: str) -> Callable[..., Any]:
    """The kernel's numba dispatcher, its parameters checked against the catalog."""
    row = KERNELS[name]
    function = getattr(importlib.import_module(f"edgeq.kernels.{row.module}"), name)
    given = tuple(inspect.signature(function.py_func).parameters)
    common = COMMON[:1] if row.plain else COMMON
    if given != common + row.operands:
        raise TypeError(f"kernel {name} takes {given[len(common):]}, its catalog row says {row.operands}")
    return function  # type: ignore[no-any-return]


def entry(name: str, tag: Tag) -> Any:
    """The kernel as a C function (instruction, worker, workers) -> void, compiled by numba for this tag."""
    from numba import cfunc, types

    from .verbs import peek_i64
    operands = ", ".join(f"peek_i64(i + {OPERANDS_AT + 8 * n})" for n in range(len(KERNELS[name].operands)))
    source = f"def entry(i, worker, workers):\n    kernel(tag, i + {WORK_AT}, worker, workers, peek_i64(i + 8), {operands})\n"
    scope: dict[str, Any] = {"kernel": kernel_function(name), "tag": tag, "peek_i64": peek_i64}
    exec(source, scope)          # the operands of one kernel, spelled out: numba cannot call with *args of an address
    word = types.int64
    return cfunc(types.void(word, word, word), error_model="numpy")(scope["entry"])


def plain(name: str, tag: Tag) -> Any:
    """A catalog function that is no kernel (the interpreter), compiled as a C function of int64 to int64."""
    from numba import cfunc, types
    row = KERNELS[name]
    function = kernel_function(name)
    operands = ", ".join(row.operands)
    scope: dict[str, Any] = {"function": function, "tag": tag}
    exec(f"def entry({operands}):\n    return function(tag, {operands})\n", scope)
    word = types.int64
    return cfunc(word(*[word] * len(row.operands)), error_model="numpy")(scope["entry"])


def module_of(compiled: Any, symbol: str) -> Any:
    """The compiled function's LLVM module, with the function called `symbol`."""
    text = compiled._library.get_llvm_str().replace(compiled.native_name, symbol)
    module = llvm.parse_assembly(text)
    module.verify()
    return module


def compile_kernel(name: str, tag: Tag, symbol: str) -> bytes:
    """The kernel's object file for this CPU; the function in it is called `symbol`."""
    compiled = plain(name, tag) if KERNELS[name].plain else entry(name, tag)
    return bytes(target_machine().emit_object(module_of(compiled, symbol)))


def assembly(name: str, tag: Tag) -> str:
    """The kernel's assembly for this CPU, for tests and people."""
    compiled = plain(name, tag) if KERNELS[name].plain else entry(name, tag)
    return str(target_machine().emit_assembly(module_of(compiled, "kernel")))
