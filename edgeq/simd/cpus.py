"""CPUs by their names in LLVM: which there are, and the best tier that each can run."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from functools import cache

import llvmlite.binding as llvm

from edgeq.errors import UsageError

from .isa import ISAS
from .target import BASE, Target

LIST = """
import sys, llvmlite.binding as llvm
llvm.initialize_all_targets()
llvm.Target.from_triple(sys.argv[1]).create_target_machine(cpu="help")
"""

# LLVM inlines a function only into one whose CPU has all the features that it asks for
QUESTION = """
define internal i32 @asks(ptr %p) #0 {{ %v = load volatile i32, ptr %p ret i32 %v }}
define i32 @answers(ptr %p) #1 {{ %v = call i32 @asks(ptr %p) ret i32 %v }}
attributes #0 = {{ "target-cpu"="{cpu}" "target-features"="{always}{features}" }}
attributes #1 = {{ "target-cpu"="{cpu}" "target-features"="{always}" }}
"""
ALWAYS = {"x86_64": "+64bit,", "aarch64": ""}  # some of LLVM's x86-64 CPUs have 32 bits, at which it gives up


@cache
def known(machine: str) -> list[str]:
    """The names of the machine's CPUs. LLVM tells them on stderr alone, so another process asks."""
    triple = Target("generic", machine).triple
    done = subprocess.run(
        [sys.executable, "-c", LIST, triple], capture_output=True, text=True, timeout=60, check=True
    )
    listed = done.stderr.partition("Available features")[0]
    return re.findall(r"^\s+(\S+)\s+-", listed, re.MULTILINE)


def has(machine: str, cpu: str, features: str) -> bool:
    """Whether the CPU has the features, as LLVM lists them."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(QUESTION.format(cpu=cpu, features=features, always=ALWAYS[machine]))
    module.triple = Target("generic", machine).triple
    target = llvm.Target.from_triple(module.triple).create_target_machine()
    passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    return "@asks" not in str(module.get_function("answers"))


def tier_of(cpu: str) -> Target:
    """The best tier that the CPU can run; UsageError for a name that LLVM does not know."""
    for machine in BASE:
        if cpu in known(machine):
            rows = (row for row in ISAS if row.machine in ("", machine))
            best = next(
                row for row in rows if has(machine, cpu, ",".join(f"+{n}" for n in sorted(row.needs)))
            )
            return Target(best.name, machine)
    every = [name for machine in BASE for name in known(machine)]
    near = difflib.get_close_matches(cpu, every, 4)
    raise UsageError(
        f"no CPU is called {cpu!r}" + (f"; near are {', '.join(near)}." if near else " in LLVM.")
    )
