"""What is asked of the engine, and what it gives, whatever the dialect: token ids in, pieces of text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgeq.generate import Mask, Piece
from edgeq.sampling import SamplingOptions
from edgeq.serve.errors import ApiError


@dataclass(frozen=True)
class Request:
    """n texts that go on from one prompt. The i-th is drawn with the options' seed + i.

    score: tell how likely each id of the prompt was. cache: use what is known of the prompt's beginning, and
    keep it, among those of one salt. mask: which tokens may come; each of several texts has a copy.
    """

    prompt: Sequence[int]
    options: SamplingOptions
    max_tokens: int
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    score: bool = False
    cache: bool = True
    salt: str = ""
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What steps gave one text."""

    index: int  # of the text, in the order of the requests and of their seeds
    pieces: list[Piece]
    over: bool  # whether no more will come


@dataclass(frozen=True)
class Whole:
    """The answer to a request for which there is nothing to compute, as JSON values."""

    value: Any


class Reply(Protocol):
    """A request of one dialect, read and checked, and the bytes that answer it.

    A dialect makes one, and whoever drives it (`answer`) submits `requests` and hands it what comes of them.
    """

    requests: list[Request]
    relaxed: Sequence[str]  # places in the tools whose keywords no answer is held to, as JSON pointers
    stream: bool
    media: str  # of the stream
    ping: bytes  # in a stream in which nothing else comes; empty for none

    def begin(self, generations: Sequence[Any]) -> None:
        """The texts were added: `edgeq.generate.BatchGeneration`, by their index."""

    def take(self, events: Sequence[Event]) -> bytes:
        """The bytes of a stream for these events, perhaps none."""

    def opening(self) -> bytes:
        """The first bytes of a stream."""

    def closing(self) -> bytes:
        """The last bytes of a stream that came to its end."""

    def failure(self, error: ApiError) -> bytes:
        """The last bytes of a stream that broke off."""

    def whole(self) -> Any:
        """The answer in one, as JSON values, once all events were taken."""
