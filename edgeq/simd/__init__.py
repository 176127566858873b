"""SIMD for kernels written in Python: verbs, tags, instruction sets, and packs of compiled kernels.

What a kernel is written in and for: `isa` spells vector operations for each instruction set (llvmlite's IR
builder only), `verbs` gives them to numba under the names that kernels use, `tag` is the value whose type
carries scheme and instruction set, `target` is what machine code is made for.

From source to a pack: `frontend` has numba write a kernel down, `compile` makes an object file of it, both in
processes of their own (`compiler` is what runs there, `compilers` starts them, `shortage` tells why they
ended); `link` makes one image of many, `build` a `pack`. From a pack to an address: `host` chooses the
instruction set, `store` finds packs or has kernels compiled, `folder` guards the user's files, `executable`
maps code. But for the first two, none of these imports numba or llvmlite, and importing this package imports
nothing.
"""
