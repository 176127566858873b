"""Published configs: each is accepted, and its table adds up to the published number of parameters."""

from __future__ import annotations

from math import prod

import pytest

from bench.known import KNOWN
from edgeq import models


@pytest.mark.parametrize("name", KNOWN)
def test_parameters(name: str) -> None:
    raw, parameters = KNOWN[name]
    family = models.family_of(raw)
    config = models.family(family).Config.from_hf(raw)
    rows = models.expected(family, config)
    assert sum(prod(row.shape) for row in rows if row.hf_name is not None) == parameters
    assert len({row.name for row in rows}) == len({row.hf_name for row in rows}) == len(rows)
    assert config.sliding_window == (4096 if name.startswith("Mistral") else None)
