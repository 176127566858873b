"""A scheme for each matrix under a budget, against all choices that there are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest

from edgeq.errors import UsageError
from edgeq.quantize.allocate import allocate, at_price, total

Costs = dict[str, dict[str, float]]
Sizes = dict[str, dict[str, int]]


def tables(seed: int, matrices: int = 5, schemes: int = 4) -> tuple[Costs, Sizes]:
    """Costs that fall as bytes grow, as they do of schemes; some matrices that cost nothing."""
    random = np.random.default_rng(seed)
    names = [f"e{n + 2}" for n in range(schemes)]
    costs, sizes = {}, {}
    for m in range(matrices):
        weights = int(random.integers(1, 9)) * 16
        scale = float(random.choice([0.0, 1.0, 30.0], p=[0.1, 0.6, 0.3])) * random.random()
        falls = np.cumprod(random.uniform(0.1, 0.7, schemes))
        costs[f"m{m}"] = dict(zip(names, (scale * falls).tolist(), strict=True))
        sizes[f"m{m}"] = {name: weights * (n + 2) + int(random.integers(5)) for n, name in enumerate(names)}
    return costs, sizes


def cost(costs: Costs, chosen: Mapping[str, str]) -> float:
    return sum(costs[name][scheme] for name, scheme in chosen.items())


def every(costs: Costs, sizes: Sizes) -> list[tuple[int, float]]:
    """(bytes, cost) of all choices."""
    rows = (dict(zip(costs, row, strict=True)) for row in product(*costs.values()))
    return [(total(sizes, row), cost(costs, row)) for row in rows]


@pytest.mark.parametrize("seed", range(12))
def test_no_choice_of_as_many_bytes_costs_less_than_that_at_a_price(seed: int) -> None:
    costs, sizes = tables(seed)
    choices = every(costs, sizes)
    for price in (0.0, *np.geomspace(1e-5, 1, 12)):
        chosen = at_price(costs, sizes, float(price))
        least = min(c for nbytes, c in choices if nbytes <= total(sizes, chosen))
        assert cost(costs, chosen) == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_it_is_near_the_best_of_all_choices(seed: int) -> None:
    """At most one matrix's step from it; within the budget; and never worse with more of it."""
    costs, sizes = tables(seed)
    choices = every(costs, sizes)
    least, most = min(choices)[0], max(choices)[0]
    before, steps = np.inf, [max(row.values()) - min(row.values()) for row in costs.values()]
    for budget in np.linspace(least, most + 9, 60).astype(int).tolist():
        chosen = allocate(costs, sizes, budget)
        assert total(sizes, chosen) <= budget and list(chosen) == list(costs)
        found, best = cost(costs, chosen), min(c for nbytes, c in choices if nbytes <= budget)
        assert best - 1e-12 <= found <= best + max(steps) and found <= before + 1e-12
        before = found
    assert before == pytest.approx(min(c for _, c in choices))


def test_ends() -> None:
    costs, sizes = tables(1)
    least = sum(min(row.values()) for row in sizes.values())
    assert total(sizes, allocate(costs, sizes, least)) == least
    largest = {name: min(row, key=row.__getitem__) for name, row in costs.items()}
    assert cost(costs, allocate(costs, sizes, 1 << 60)) == cost(costs, largest)
    with pytest.raises(
        UsageError, match=f"the smallest schemes take {least} bytes, more than the {least - 1}"
    ):
        allocate(costs, sizes, least - 1)
    with pytest.raises(UsageError, match="more than the 0 that there are"):
        allocate(costs, sizes, -5)


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e300])
def test_costs_of_any_size(scale: float) -> None:
    costs, sizes = tables(2)
    other = {name: {scheme: scale * x for scheme, x in row.items()} for name, row in costs.items()}
    budget = (min(every(costs, sizes))[0] + max(every(costs, sizes))[0]) // 2
    chosen = allocate(other, sizes, budget)
    assert total(sizes, chosen) <= budget
    if scale:
        assert cost(costs, chosen) < cost(costs, allocate(costs, sizes, min(every(costs, sizes))[0]))


def test_what_cannot_have_the_smaller_number() -> None:
    """One matrix takes all that is left where it serves most."""
    costs = {"a": {"e2": 9.0, "e8": 0.0}, "b": {"e2": 1.0, "e8": 0.5}}
    sizes = {"a": {"e2": 2, "e8": 8}, "b": {"e2": 2, "e8": 8}}
    assert allocate(costs, sizes, 10) == {"a": "e8", "b": "e2"}
    assert allocate(costs, sizes, 9) == {"a": "e2", "b": "e2"}
    assert allocate(costs, sizes, 16) == {"a": "e8", "b": "e8"}
