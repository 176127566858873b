"""The instruction sets that verbs are tested on: this CPU's, and rows that stand for those it lacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeq.simd import isa
from tests.simd.rows import STAND_INS


@pytest.fixture(autouse=True, scope="module")
def stand_ins() -> Iterator[None]:
    """The table of instruction sets with the stand-ins' rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isa, "ISAS", (*isa.ISAS, *STAND_INS))
        yield
