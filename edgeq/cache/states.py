"""States of recurrent layers: where a layer's numbers lie on a page, and which pages a sequence has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .pool import Page

ITEM = 4  # bytes of a number, float32


@dataclass(frozen=True, eq=False)
class StateLayer:
    """A recurrent layer's numbers, `columns` of them from byte `at` of a page on."""

    at: int
    columns: int

    @property
    def nbytes(self) -> int:
        return self.columns * ITEM

    @property
    def words(self) -> tuple[int]:
        return (self.at,)


class State(NamedTuple):
    """The page of the states after so many tokens."""

    length: int
    page: Page
