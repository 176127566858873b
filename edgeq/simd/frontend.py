"""numba as a front end: it types kernels and writes them in LLVM's language, and makes no machine code.

numba's own CPU target would optimize every function for this machine and emit it, which ends the process
where a function uses an instruction of another one. So kernels have a target of their own in numba's sense:
they are kept as text (`library`), with neither CPU nor data layout in it, and `compile` gives it both.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any

from numba.core import cpu, dispatcher, lowering, registry, typed_passes, types
from numba.core.compiler import CompilerBase
from numba.core.compiler_lock import global_compiler_lock
from numba.core.target_extension import (
    CPU,
    dispatcher_registry,
    jit_registry,
    target_override,
    target_registry,
)
from numba.core.typing.context import BaseContext

from .library import Codegen
from .passes import Passes

NAME = "edgeq"  # of the target in numba's registries

OPTIONS = dict(  # no entry for Python, no exceptions, division as in NumPy
    nopython=True,
    boundscheck=False,
    error_model="numpy",
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)


# ---- division ----
def division(b: Any, dividend: Any, divisor: Any) -> tuple[Any, Any]:
    """Quotient and rest as Python has them, of a divisor above zero: numba's own asks for its sign and for
    zero, in four blocks of code.
    """
    quotient = b.sdiv(dividend, divisor)
    rest = b.sub(dividend, b.mul(quotient, divisor))
    less = b.ashr(rest, rest.type(rest.type.width - 1))  # -1 where it is below zero
    return b.add(quotient, less), b.add(rest, b.and_(less, divisor))


DIVISIONS = {operator.floordiv: 0, operator.ifloordiv: 0, operator.mod: 1, operator.imod: 1}


class Context(cpu.CPUContext):
    """How numba lowers kernels: as for a CPU, without the runtime that counts references."""

    @global_compiler_lock
    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen: Any = Codegen()
        self._sizes: dict[str, int] = {}

    def load_additional_registries(self) -> None:
        from numba.core import inline_closurecall, optional  # noqa: F401  (they register what they lower)
        from numba.cpython import builtins, numbers, rangeobj, tupleobj  # noqa: F401

    def get_function(self, function: Any, signature: Any, _firstcall: bool = True) -> Any:
        """How a function is lowered: as numba does it, but for the division of integers."""
        known = isinstance(function, types.Callable)
        wanted = DIVISIONS.get(function.get_impl_key(signature.as_function())) if known else None
        if wanted is None or not isinstance(signature.return_type, types.Integer):
            return super().get_function(function, signature, _firstcall)

        def lower(b: Any, values: Any) -> Any:
            result = signature.return_type
            whole = [self.cast(b, v, t, result) for v, t in zip(values, signature.args, strict=True)]
            return division(b, *whole)[wanted]

        return lower

    def call_internal(self, b: Any, function: Any, signature: Any, values: Any) -> Any:
        """A call of another kernel's part, which raises nothing that would have to be looked for."""
        _, result = self.call_internal_no_propagate(b, function, signature, values)
        return result

    def get_abi_sizeof(self, ty: Any) -> int:
        """Bytes of a type, which numba asks for with each variable and LLVM answers by parsing a module."""
        key = str(ty)
        if key not in self._sizes:
            self._sizes[key] = super().get_abi_sizeof(ty)
        return self._sizes[key]

    def post_lowering(self, module: Any, library: Any) -> None:
        """Nothing: no reference counting is linked in."""


class Typing(BaseContext):
    """How numba types kernels: integers, floats, tuples and what verbs register; arrays are left out, whose
    rules would be asked about every sum of two integers.
    """

    def load_additional_registries(self) -> None:
        """None: what kernels use is in numba's first ones."""

    def init(self) -> None:
        self._resolved: dict[Any, tuple[Any, Any, Any]] = {}  # by what is called, itself and not its equal

    def resolve_function_type(self, function: Any, given: Any, named: Any) -> Any:
        """The signature of a call, which depends on nothing but what is called with what. numba asks for it
        in each round of its inference, for the same few sums again and again.
        """
        if named:
            return super().resolve_function_type(function, given, named)
        key = id(function), tuple(given)
        if key not in self._resolved:
            found = super().resolve_function_type(function, given, named)
            self._resolved[key] = found, function, wanted_of(function, found)
        found, _, wanted = self._resolved[key]
        if wanted is not None:  # numba keeps what was wanted last, which may have been for its own target
            function._impl_keys[found.args] = wanted
        return found


def wanted_of(function: Any, signature: Any) -> Any:
    """What a call of a function's type is lowered by, where numba keeps that beside the type."""
    return getattr(function, "_impl_keys", {}).get(signature.args) if signature is not None else None


class Lower(lowering.Lower):
    """Variables hold no references: nothing is counted, and nothing zeroed for who counts."""

    def setup_function(self, descriptor: Any) -> None:
        """What is not `called` is inlined, whatever LLVM thinks of its size."""
        super().setup_function(descriptor)
        self.function.attributes.add("noinline" if self.func_ir.func_id.func in CALLED else "alwaysinline")

    def lower_block(self, block: Any) -> None:
        """Statement by statement: places of variables are made when they are first written, no block raises,
        and what goes wrong is told with the kernel's name.
        """
        for statement in block.body:
            self.loc = statement.loc
            self.lower_inst(statement)

    def delvar(self, name: str) -> None:
        """Nothing."""

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """A variable's place, which is written before it is read."""
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)


class Lowering(typed_passes.NativeLowering):
    """numba's typed statements to LLVM's."""

    @property
    def lowering_class(self) -> Any:
        return Lower


PASSES = Passes(Lowering())


class Pipeline(CompilerBase):
    """numba's compiler with the passes that kernels need."""

    def define_pipelines(self) -> list[Passes]:
        return [PASSES]


class KernelTarget(registry.CPUTarget):
    """What numba compiles kernels with: its types of a CPU, the lowering above."""

    @cached_property
    def _toplevel_typing_context(self) -> Any:
        return Typing()

    @cached_property
    def _toplevel_target_context(self) -> Any:
        return Context(self.typing_context, self._target_name)


class Anywhere(CPU):
    """The target's place among numba's: what is written for any CPU serves it."""


class Native(dispatcher.Dispatcher):
    """A kernel or a part of one: typed for each tag that it is called with, never run."""

    targetdescr = KernelTarget(NAME)

    def compile(self, signature: Any) -> Any:
        with target_override(NAME):
            return super().compile(signature)


def native(function: Callable[..., Any]) -> Any:
    """Mark a kernel or a part of one."""
    return Native(function, targetoptions=dict(OPTIONS), pipeline_class=Pipeline)


CALLED: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def called(function: Callable[..., Any]) -> Any:
    """Mark a part of a kernel that is not inlined: its loops have all registers for themselves, and LLVM
    optimizes it once. A call takes some nanoseconds.
    """
    CALLED.add(function)
    return native(function)


target_registry[NAME] = Anywhere
dispatcher_registry[Anywhere] = Native
jit_registry[Anywhere] = lambda **options: native  # how the bodies of overloads are compiled


def written(function: Callable[..., Any], signature: Any) -> tuple[str, str]:
    """The function and all it calls as LLVM text, not optimized, and the name it has there."""
    dispatcher = function if isinstance(function, Native) else native(function)
    dispatcher.compile(signature)
    one: Any = dispatcher.overloads[signature.args]
    return one.library.get_llvm_str(), one.fndesc.llvm_func_name
