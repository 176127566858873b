"""Packs of compiled kernels: how they are made, kept and found.

`pack` is the format of a file, `build` makes one of a tier's kernels, `store` finds packs or has kernels
compiled and gives addresses, `folder` guards the user's files, `executable` maps code. In `shipped` lie the
packs that come with edgeq. None of these imports numba or llvmlite, and importing this package imports none
of them.
"""
