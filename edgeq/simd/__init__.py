"""SIMD for kernels written in Python: verbs, tags, instruction sets, and the store of compiled kernels.

`isa` spells vector operations for each instruction set (llvmlite's IR builder only), `verbs` gives them to
numba under the names that kernels use, `tag` is the value whose type carries scheme and instruction set,
`compile` turns a kernel into an object file and `store` keeps and loads such files. Importing this package
imports none of them.
"""
