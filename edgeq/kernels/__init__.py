"""What a transformer needs, each kernel written once in verbs. `catalog` lists them, in the words of `roles`;
`sources` hands them to whoever compiles; the other modules import numba.
"""
