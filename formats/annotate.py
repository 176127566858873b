"""More words in the header of a file that is whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .header import Entry
from .reader import open_model
from .writer import TensorPlan, Writer

PLACED = {field.name for field in fields(Entry)}  # what the writer says of a tensor


def annotated(
    path: str | os.PathLike[str], target: str | os.PathLike[str], words: Mapping[str, Any]
) -> Writer:
    """A writer that has all of the file `path` for `target`, with these fields in its header, in place of
    those that it has of the names; `path` is closed again. Errors as from `open_model` and `Writer`.
    """
    with open_model(path) as file:
        header = {name: value for name, value in file.header.items() if name not in ("format", "tensors")}
        plans = [
            TensorPlan(t.name, t.scheme, t.layout, t.shape, {k: v for k, v in row.items() if k not in PLACED})
            for t, row in zip(file.tensors.values(), file.header["tensors"], strict=True)
        ]
        writer = Writer(target, {**header, **words}, plans)
        try:
            for tensor in file.tensors.values():
                writer.write(tensor.name, tensor.data)
        except BaseException:
            writer.abort()
            raise
    return writer
