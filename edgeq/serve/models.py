"""The models of one server, and which of them a request means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgeq.errors import UsageError
from edgeq.serve.errors import ApiError
from edgeq.serve.served import Served
from edgeq.serve.worker import Worker

NAMES_MAX = 32  # that are told to whoever asks for another


class Hosted(NamedTuple):
    """A model, and what steps it."""

    served: Served
    worker: Worker


class Models:
    """By their names; the first is meant where a request names none.

    strict: whether a request must name one as it is called. Among several it always must: that it gets
    another than it wanted is no answer.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._all: dict[str, Hosted] = {}

    def add(self, served: Served, worker: Worker) -> None:
        check_names([*self._all, served.name])
        self._all[served.name] = Hosted(served, worker)

    def __iter__(self) -> Iterator[Hosted]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def first(self) -> Hosted:
        return next(iter(self._all.values()))

    def named(self, name: str | None) -> Hosted:
        """The one that a request means. ApiError 404 where it names none of them and that counts."""
        if name is None or (len(self) == 1 and not self.strict):
            return self.first
        return self.exactly(name)

    def exactly(self, name: str) -> Hosted:
        """The one of that name. ApiError 404."""
        found = self._all.get(name) or self._all.get(name.removesuffix(":latest"))
        if found is None:
            more = ", …" if len(self) > NAMES_MAX else ""
            known = ", ".join(repr(each) for each in [*self._all][:NAMES_MAX])
            there = "there are" if len(self) > 1 else "there is"
            raise ApiError(
                404,
                f"the model {name[:80]!r} does not exist; {there} {known}{more}",
                code="model_not_found",
                param="model",
            )
        return found


def check_names(names: list[str]) -> None:
    """UsageError where two models would be called the same."""
    seen: set[str] = set()
    for name in names:
        plain = name.removesuffix(":latest")
        if plain in seen:
            raise UsageError(f"two models are called {name!r}: an --alias for each tells them apart")
        seen.add(plain)
