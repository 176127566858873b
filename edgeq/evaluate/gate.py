"""What figures must be for a model to pass: `kld < 0.003 and ppl < 1.01`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeq.errors import UsageError, shown

COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
TERM = re.compile(r"([a-z][a-z0-9._]*)\s*(<=|>=|<|>)\s*((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%?)")


@dataclass(frozen=True)
class Term:
    """A figure, and what it is held to."""

    name: str
    compared: str  # a key of COMPARED
    limit: float

    def holds(self, figure: float) -> bool:
        """A figure that is no number holds to nothing."""
        return COMPARED[self.compared](figure, self.limit)

    def __str__(self) -> str:
        return f"{self.name} {self.compared} {self.limit:g}"


def gate(text: str, names: Iterable[str]) -> list[Term]:
    """The terms of `text`, which are joined by "and". A limit may end with a percent sign.

    Raises UsageError for what is no term, and for a figure that is none of `names`.
    """
    known, terms = sorted(names), []
    for part in re.split(r"\band\b", text):
        found = TERM.fullmatch(part.strip())
        if found is None:
            raise UsageError(
                f"a gate is a figure and its limit, as in '{known[0]} < 0.5', or several joined by 'and', "
                f"but it has {shown(part.strip())}"
            )
        name, compared, limit, percent = found.groups()
        if name not in known:
            raise UsageError(f"no figure is called {shown(name)}; a gate knows {', '.join(known)}")
        terms.append(Term(name, compared, float(limit) / (100 if percent else 1)))
    return terms


def missed(terms: Iterable[Term], figures: Mapping[str, float]) -> list[str]:
    """A sentence for each term that does not hold."""
    return [f"{term.name} is {figures[term.name]:.6g}, not {term.compared} {term.limit:g}"
            for term in terms if not term.holds(figures[term.name])]  # fmt: skip
