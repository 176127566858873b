"""The quantization laboratory: from a model to a small file that stays close to it.

`pipeline.quantize` does it, `pipeline.measure` says what rounding each matrix costs. A method is a file of
`methods` and a row of its table, a transform one of `transforms`.
"""
