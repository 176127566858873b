"""SIMD for kernels written in Python: verbs, tags, instruction sets, and what compiles kernels.

What a kernel is written in and for: `isa` spells vector operations for each instruction set (llvmlite's IR
builder only), `verbs` gives them to numba under the names that kernels use, `tag` is the value whose type
carries scheme and instruction set, `target` is what machine code is made for, `host` chooses the instruction
set of this machine.

From source to machine code: `frontend` has numba write a kernel down, by the `passes` that kernels need and
into a `library` of text, `compile` makes an object file of it, all in processes of their own (`compiler` is
what runs there, `compilers` starts them, `shortage` tells why they ended); `link` makes one image of many.
But for the first four, none of these imports numba or llvmlite, and importing this package imports nothing.
"""
