"""Methods: each brings a matrix into a scheme, or makes what another left better. One file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..task import Method
from .clip import clip
from .descent import descent
from .gptq import gptq
from .hqq import hqq
from .rtn import rtn
from .search import finer, importance, search
from .stochastic import stochastic


@dataclass(frozen=True)
class Row:
    """A method: what it needs and what it is."""

    run: Method
    about: str
    begins: bool = False  # needs no parts that another left
    data: bool = False  # needs to know of the inputs


METHODS: Mapping[str, Row] = {
    "search": Row(search, "scales by a search for the least squared error of the weights", begins=True),
    "importance": Row(
        importance, "the same, each column counted by its inputs' squares", begins=True, data=True
    ),
    "gptq": Row(gptq, "codes column after column, the rest takes the error", data=True),
    "descent": Row(
        descent, "codes, scales and row floats one at a time, as long as the error falls", data=True
    ),
    "finer": Row(finer, "the search of the weights with more scales and row floats tried", begins=True),
    # others' ways, to compare with
    "rtn": Row(rtn, "rounding around the largest magnitude, nothing searched", begins=True),
    "stochastic": Row(stochastic, "up or down by chance, right on average", begins=True),
    "hqq": Row(hqq, "zero points by a robust error (half-quadratic), without data", begins=True),
    "clip": Row(clip, "float scales made smaller as the group's outputs say", begins=True, data=True),
}
