"""What samplers ask of rows of logits: plain functions, each of addresses and counts, called from Python.

A row is float32 of any length at any address; nothing beyond its end is read. What a function finds it writes
at `found`, float64; what it needs beside comes from its caller (`edgeq.sampling.native`). Sums are made in
one order on every instruction set: lanes, then BLOCK logits, then blocks.
"""
