"""What computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeq.runtime.dense import Dense


@pytest.fixture(scope="session")
def dense() -> Iterator[Dense]:
    with Dense(1) as found:
        yield found
