"""What the scheduler asks of an engine, and of what it steps."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Ids
from typing import Any, Protocol

from edgeq.passes import Fed, Feed, Part


class Sequence(Protocol):
    """Token ids and the pages of their keys and values."""

    @property
    def ids(self) -> list[int]: ...
    def truncate(self, n: int) -> int:
        """Forget what is behind the first n ids; how many are left, which may be fewer than n."""

    def fork(self) -> Any:
        """Another sequence of the same ids, which shares the pages."""

    def close(self) -> None: ...


class Pool(Protocol):
    """Where pages come from."""

    @property
    def limit(self) -> int:
        """Bytes."""


class Engine(Protocol):
    """One model's passes."""

    @property
    def pass_tokens(self) -> int:
        """Ids of a pass at the most."""

    @property
    def pass_outputs(self) -> int:
        """Rows of logits of a pass at the most."""

    @property
    def page_tokens(self) -> int:
        """Positions of a page."""

    @property
    def pool(self) -> Pool: ...

    def cache_bytes(self, tokens: int, shared: int = 0) -> int:
        """Bytes of the pages of a sequence that comes to hold so many ids, at the most it ever has, but for
        the copy of one that it shares; of a fork those that it takes beyond its first `shared` ids'."""

    def sequence(self) -> Any:
        """A new, empty sequence."""

    def advance(self, parts: list[Part]) -> Iterable[Fed]:
        """One pass over several sequences."""


class Course(Protocol):
    """One text as a state machine: `edgeq.generate.Continuation`."""

    held: int  # ids of the history that the sequence holds
    scores: bool  # whether the logits of all its prompt are wanted, before the first token is drawn

    @property
    def history(self) -> list[int]: ...
    @property
    def ids(self) -> list[int]: ...
    @property
    def over(self) -> bool: ...
    @property
    def room(self) -> int: ...
    @property
    def positions(self) -> int: ...
    def wanted(self, draft: Ids[int] = ...) -> Feed | None: ...
    def score(self, fed: Fed) -> Fed:
        """Take what rows of its prompt, from `held` on, say of the ids behind them; the last row alone."""

    def accept(self, fed: Fed) -> Any: ...
    def end(self, reason: str) -> list[Any]: ...
