"""What a generation gives: pieces of text, and what is to be known of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.generate.logprobs import TokenLogprob


class Piece(str):
    """A piece of generated text. It is often empty: a token may end inside a character or a possible stop
    string, whose text comes with a later piece."""

    __slots__ = ("id", "logprob")

    id: int | None  # the token that was drawn; None where text that was held back comes at the end
    logprob: TokenLogprob | None  # of that token, where logprobs are asked for

    def __new__(cls, text: str, id: int | None = None, logprob: TokenLogprob | None = None) -> Piece:
        piece = super().__new__(cls, text)
        piece.id, piece.logprob = id, logprob
        return piece


@dataclass(frozen=True)
class Usage:
    """Tokens of one generation. `prompt_tokens` is all that stood before the first token drawn,
    `cached_tokens` those of them that the sequence held already; `completion_tokens` is without the end
    token."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def to_json(self) -> dict[str, int]:
        """All fields, and the total."""
        return {**asdict(self), "total_tokens": self.total_tokens}


@dataclass
class Timings:
    """Seconds and tokens of one generation; the time a caller holds a piece is not counted.

    `prompt_seconds` is the pass over the prompt. `generate_seconds` is everything after it: sampling,
    decoding and `decode_passes` forward passes, each of which gives a token (the first comes out of the
    prompt's pass) and, with drafts, those of its guesses that came true: `draft_tokens` were guessed,
    `accepted_tokens` of them came true and saved a pass each.
    """

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    generated_tokens: int = 0
    generate_seconds: float = 0.0
    decode_passes: int = 0
    first_token_seconds: float = 0.0
    load_seconds: float | None = None
    draft_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prompt_tokens_per_second(self) -> float:
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds > 0 else 0.0

    @property
    def generated_tokens_per_second(self) -> float:
        """Tokens that came out of passes over tokens, in a second; 0 before the second token."""
        tokens = self.decode_passes + self.accepted_tokens
        return tokens / self.generate_seconds if self.generate_seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """All fields, and the two rates."""
        return {
            **asdict(self),
            "prompt_tokens_per_second": self.prompt_tokens_per_second,
            "generated_tokens_per_second": self.generated_tokens_per_second,
        }


@dataclass(frozen=True)
class Result:
    """What came of a generation; its fields mean what those of `Generation` mean."""

    text: str
    finish_reason: str | None
    usage: Usage
    timings: Timings
    seed: int
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            **asdict(self),
            "ids": list(self.ids),
            "usage": self.usage.to_json(),
            "timings": self.timings.to_json(),
        }
