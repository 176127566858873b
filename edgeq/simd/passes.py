"""The passes of numba by which a kernel is typed and written down, and nothing around them.

Kernels have no closures, generators, exceptions, arrays or references. What numba finds out about the lives
of variables serves those alone, so it is left out, and so are the events and checks around each pass.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from numba.core import ssa, transforms
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.ir_utils import build_definitions

READ: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # functions' statements, before they have types


def read(state: Any) -> None:
    """From bytecode to statements: loops with one way back, and each variable assigned once. They are the
    same for each tag that a function is compiled for.
    """
    function = state.func_id.func
    if function not in READ:
        untyped.TranslateByteCode().run_pass(state)
        found = state.func_ir
        found.generator_info = None
        found.blocks = transforms.canonicalize_cfg(found.blocks)
        found = ssa.reconstruct_ssa(found)
        found._definitions = build_definitions(found.blocks)
        READ[function] = found
    state.func_ir = READ[function].copy()


class Assignments(typed.PreLowerStripPhis):
    """What joins values where branches meet is assigned on each branch."""

    def run_pass(self, state: Any) -> bool:
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


class Passes:
    """What numba's compiler runs as its pass manager. `lowering` turns typed statements into LLVM's."""

    pipeline_name = "kernel"

    def __init__(self, lowering: typed.BaseNativeLowering) -> None:
        self.exec_times: OrderedDict[str, Any] = OrderedDict()  # numba takes note of it
        self._steps: tuple[Callable[[Any], Any], ...] = (
            read,
            untyped.FixupArgs().run_pass,
            typed.NopythonTypeInference().run_pass,
            Assignments().run_pass,
            lowering.run_pass,
            typed.NoPythonBackend().run_pass,
        )

    def run(self, state: Any) -> None:
        """Compile what the state says."""
        for step in self._steps:
            step(state)
