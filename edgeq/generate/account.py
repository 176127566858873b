"""What there is of a generation so far, as whoever reads it has seen it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeq.errors import shown
from edgeq.generate.logprobs import TokenLogprob
from edgeq.generate.results import Piece, Result, Timings, Usage


class Account:
    """The facts of a generation: what went in, what came out up to the last piece that was given.

    `prompt_ids` went in; `ids` are the tokens that came out, without the end token; `text` is what was
    given so far, the decoded ids up to a stop string; `logprobs` is a list beside `ids` where they are asked
    for. `seed` draws the same tokens again.
    """

    def __init__(
        self, prompt_ids: list[int], seed: int, timings: Timings, *, cached_tokens: int, logprobs: bool
    ) -> None:
        self.prompt_ids = prompt_ids
        self.ids: list[int] = []
        self.finish_reason: str | None = None
        self.stop_string: str | None = None
        self.timings = timings
        self.logprobs: list[TokenLogprob] | None = [] if logprobs else None
        self.seed = seed
        self._cached, self._prompt = cached_tokens, cached_tokens + len(prompt_ids)
        self._pieces: list[Piece] = []

    def give(self, piece: Piece) -> Piece:
        """The piece, which counts from now on."""
        if piece.id is not None:
            self.ids.append(piece.id)
            self.timings.generated_tokens += 1
            if self.logprobs is not None and piece.logprob is not None:
                self.logprobs.append(piece.logprob)
        self._pieces.append(piece)
        return piece

    def found(self, cached_tokens: int) -> None:
        """So many of the prompt's tokens were known, and are not computed."""
        self._cached = cached_tokens
        self.timings.prompt_tokens = self._prompt - cached_tokens

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(self._prompt, self._cached, len(self.ids))

    @property
    def result(self) -> Result:
        """What came of it so far."""
        return Result(**self.facts())

    def facts(self) -> dict[str, Any]:
        """The fields of `result`."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "timings": replace(self.timings),
            "seed": self.seed,
            "ids": tuple(self.ids),
            "logprobs": None if self.logprobs is None else tuple(self.logprobs),
        }

    @property
    def over(self) -> bool:
        """Whether no piece will come any more."""
        return self.finish_reason is not None

    def told(self, name: str) -> str:
        """What there is of it, in a line."""
        state = self.finish_reason or ("broken off" if self.over else "not at its end")
        return f"<edgeq.{name}: {len(self.ids)} tokens, {state}, {shown(self.text)}>"
