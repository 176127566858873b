"""The instruction sets that verbs are tested on: this CPU's, and a row that stands for one it lacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeq.simd import isa
from tests.simd.rows import STAND_IN


@pytest.fixture(autouse=True, scope="module")
def stand_in() -> Iterator[None]:
    """The table of instruction sets with the stand-in's row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isa, "ISAS", (*isa.ISAS, STAND_IN))
        yield
