"""What a transformer needs, each kernel written once in verbs. `catalog` lists them; the other modules import
numba.
"""
