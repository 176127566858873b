"""What numba calls a library: a function in LLVM's language and those that it calls, kept as text.

numba's own parses each function by itself, links into it all that it calls, with what those call, and
verifies the whole, once for each function of a kernel. Here LLVM sees a kernel once, when all of it is there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import codegen


class Function(NamedTuple):
    """A function as it is written, and the names of those that it calls, in its order."""

    text: str
    calls: tuple[str, ...]

    @classmethod
    def of(cls, function: Any) -> Function:
        """llvmlite's function."""
        lines = (line for block in function.blocks for line in block.instructions)
        calls = (line.callee for line in lines if isinstance(line, ir.instructions.CallInstr))
        names = dict.fromkeys(callee.name for callee in calls if isinstance(callee, ir.Function))
        return cls(str(function), tuple(names))


class Library(codegen.CodeLibrary):
    """A function's own text, and the libraries of those that it calls."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self._functions: dict[str, Function] = {}  # by name, as the others
        self._variables: dict[str, str] = {}
        self._declared: dict[str, str] = {}
        self._called: dict[Library, None] = {}

    def add_ir_module(self, ir_module: Any) -> None:
        """Take what llvmlite's module has. Its types have no names: a text with such would need them told."""
        self._raise_if_finalized()
        if ir_module.get_identified_types():
            raise RuntimeError(f"{self.name}: kernels have no types with names")
        for value in ir_module.global_values:
            if not isinstance(value, ir.Function):
                self._variables[value.name] = str(value)
            elif value.is_declaration:
                self._declared[value.name] = str(value)
            else:
                self._functions[value.name] = Function.of(value)

    def add_linking_library(self, library: Library) -> None:
        """Note that the function calls another."""
        self._called[library] = None

    def finalize(self) -> None:
        """Nothing is left to do."""
        self._finalized = True

    def get_llvm_str(self) -> str:
        """The text of the function and of all that it leads to: a module that declares nothing it has.

        Functions are in the order in which LLVM's own linker would put them. It decides in which order they
        are inlined, and so how many registers a loop puts by.
        """
        functions, variables, declared = self._reached()
        order = dict.fromkeys(self._functions)
        left = list(order)
        while left:
            calls = functions[left.pop()].calls
            new = [name for name in calls if name in functions and name not in order]
            order.update(dict.fromkeys(new))
            left += new
        outside = (text for name, text in declared.items() if name not in functions)
        texts = (functions[name].text for name in order)
        return "\n".join([*variables.values(), *texts, *outside, *map(str, self.codegen.notes)])

    def _reached(self) -> tuple[dict[str, Function], dict[str, str], dict[str, str]]:
        """Functions, variables and declarations of this library and of all that it leads to."""
        functions: dict[str, Function] = {}
        variables: dict[str, str] = {}
        declared: dict[str, str] = {}
        seen = {self: None}
        left = [self]
        for library in left:
            functions |= library._functions
            variables |= library._variables
            declared |= library._declared
            left += [called for called in library._called if called not in seen]
            seen.update(library._called)
        return functions, variables, declared

    def get_asm_str(self) -> str:
        """None: it is for no machine."""
        return ""

    def get_function(self, name: str) -> Any:
        """None: LLVM has not seen it."""
        return None

    def get_pointer_to_function(self, name: str) -> int:
        """That of no function: numba asks for the entry for Python when all is there, and there is none."""
        return 0


class Codegen(codegen.Codegen):
    """Makes libraries that are for no machine in particular."""

    _library_class = Library

    def __init__(self) -> None:
        self.notes: list[Any] = []  # LLVM's metadata of all modules, under one numbering
        llvm.initialize_native_target()
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._target_data = machine.target_data  # numba asks for sizes of types; kernels' are the same on all

    def _create_empty_module(self, name: str) -> Any:
        module = ir.Module(name)
        module.metadata = self.notes
        return module

    def _add_module(self, module: Any) -> None:
        """Nothing: no module is ever run."""

    def set_env(self, name: str, environment: Any) -> None:
        """Nothing: the environment is for Python objects, which kernels have none of."""
