"""Tensors that a checkpoint's words multiply, which GGUF files have multiplied already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgeq.converters.source import Array, SourceTensor, check_vector
from edgeq.models import BaseConfig, family
from edgeq.models.tensors import Factors, size


def multiplied(
    tensors: Mapping[str, SourceTensor], factors: Mapping[str, Factors], config: BaseConfig
) -> dict[str, SourceTensor]:
    """The tensors with their factors, which are by the names in a family's table."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        times = factors.get(re.sub(r"\.\d+\.", ".{i}.", name), ())
        rows = tuple(_rows(each, tensor.shape[0], config) for each in times if each != 1)
        if rows:
            check_vector(tensor)
            found[name] = replace(tensor, times=rows)
    return found


def _rows(factor: float | tuple[tuple[str, float], ...], rows: int, config: BaseConfig) -> Array:
    """float32 [rows]."""
    if not isinstance(factor, tuple):
        return np.full(rows, factor, np.float32)
    counts = [size(config, word) for word, _ in factor]
    return np.repeat(np.array([number for _, number in factor], np.float32), counts)


def untied(family_name: str, found: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """With one more tensor for each that is another's, too, where that is there."""
    names = {row.name: str(row.hf_name) for row in family(family_name).TENSORS}
    shared = {names[row.name]: names[row.shares] for row in family(family_name).TENSORS if row.shares}
    return {**found, **{name: found[other] for name, other in shared.items() if other in found}}
