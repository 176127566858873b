"""Tables that are learned for one matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.errors import UnsupportedError
from edgeq.formats import SCHEMES
from edgeq.quantize.methods.search import search
from edgeq.quantize.tables import learned
from edgeq.quantize.task import Task
from edgeq.runtime.dense import Dense


def test_a_matrix_of_few_numbers_gets_these() -> None:
    """Eight magnitudes that e3's table does not have: the learned one leaves less of the error."""
    numbers = np.array([-63, -60, -9, -3, 3, 9, 60, 63], np.float32)
    w = np.random.default_rng(0).choice(numbers, (64, 256)).astype(np.float32)
    with Dense(1) as dense:
        task = Task(w, SCHEMES["e3"], None, dense)
        own = replace(task, scheme=learned(task))
        before, after = (np.linalg.norm(each.values(search(each, None)) - w) for each in (task, own))
        assert after < 0.75 * before
        assert len(own.scheme.table) == 8 and own.scheme.unsigned_fits
        again = learned(own)
        assert (
            np.linalg.norm(replace(task, scheme=again).values(search(replace(task, scheme=again), None)) - w)
            <= after
        )
        with pytest.raises(UnsupportedError, match="has not one table that could be learned"):
            learned(replace(task, scheme=SCHEMES["e8"]))
