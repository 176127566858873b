"""What follows a prompt, as a state machine: which ids to feed, and what comes of their logits.

It knows no clock, no model and no thread. Whoever drives it feeds what is `wanted` to a sequence, gives what
the pass gave to `accept`, and cuts the sequence to what counts; one driver is `stream`, another the scheduler
that steps many of them together.

Guesses of what follows (a draft) may be fed with a pass. Each token is drawn from the logits of its own
place, as if there were no guesses, by the same sampler with the same random numbers; where the token drawn is
the one guessed, the next row is that of the next token. So a draft changes how many passes there are, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import EdgeqError, GrammarError, UsageError, shown
from edgeq.generate import logprobs as likelihoods
from edgeq.generate.logprobs import TokenLogprob
from edgeq.generate.protocols import Mask
from edgeq.generate.results import Piece
from edgeq.generate.stops import StopStrings
from edgeq.passes import Fed, Feed
from edgeq.sampling import Sampler
from edgeq.sampling.masks import words


class Accepted(NamedTuple):
    """What came of a pass."""

    kept: int  # how many of the ids that were fed count: the sequence is to be cut behind them
    pieces: list[Piece]  # one for each token drawn, and at the end perhaps one of text that was held back
    drawn: int  # tokens, an end token among them


class Continuation:
    """A prompt and the tokens that follow it.

    `history` is every id so far, `ids` those drawn (without the end token), `held` how many of the history's
    ids the sequence holds: a driver whose sequence holds fewer says so by setting it, and they are wanted
    again. `finish_reason` is "eos", "stop", "length", whatever `end` was told, or None; `error` is what a
    token could not be drawn for, after which nothing is wanted.
    """

    def __init__(
        self,
        before: Sequence[int],
        prompt_ids: Sequence[int],
        sampler: Sampler,
        *,
        context: int,
        limit: float,
        ends: Collection[int] = (),
        allowed: NDArray[np.uint32] | None = None,
        stops: StopStrings | None = None,
        tokenizer: Any = None,
        logprobs: int | None = None,
        mask: Mask | None = None,
    ) -> None:
        """before: what the sequence holds. limit: tokens that may be drawn. ends: ids that end the text.
        allowed: ids that may be drawn, a bit each; None for all. logprobs: how many of the likeliest are told
        beside each token."""
        self.history = [*before, *prompt_ids]
        self.held = len(before)
        self.ids: list[int] = []
        self.finish_reason: str | None = None
        self.error: EdgeqError | None = None
        self.scores = False  # whether the logits of all its prompt are wanted: set before the first pass
        self.prompt_logprobs: list[TokenLogprob | None] = []  # of each id that was scored; None of the first
        self.end_logprob: TokenLogprob | None = None  # of the end token, where logprobs are asked for
        self._prompt_end = len(self.history)
        self._sampler, self._mask = sampler, mask
        self._context, self._limit = context, limit
        self._ends, self._may = ends, allowed
        self._stops = stops if stops is not None else StopStrings(())
        self._tokenizer, self._best = tokenizer, logprobs
        self._decoder = tokenizer.stream() if tokenizer is not None else None
        self._draft: list[int] = []

    @property
    def over(self) -> bool:
        """Whether nothing more is wanted."""
        return self.finish_reason is not None or self.error is not None

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the text."""
        return self._stops.found

    @property
    def room(self) -> int:
        """How many ids of a draft can be of use to the next pass; none to the prompt's."""
        if not self.ids or self.over:
            return 0
        return int(max(0, min(self._limit - len(self.ids) - 1, self._context - len(self.history))))

    @property
    def positions(self) -> int:
        """How many ids the sequence will hold at the most: the last token drawn is never fed."""
        return int(min(self._context, self._prompt_end + max(0, self._limit - 1)))

    def wanted(self, draft: Sequence[int] = ()) -> Feed | None:
        """What the next pass is to be fed, guesses of what follows behind it; None when it is over.

        A driver may feed the first of the ids alone, say so in `held`, and ask again."""
        if self.over:
            return None
        self._draft = list(draft[: self.room])
        return Feed([*self.history[self.held :], *self._draft], 1 + len(self._draft))

    def score(self, fed: Fed) -> Fed:
        """How likely the ids of the prompt were that stand behind those just fed, the first of them at
        `held`; the last row alone, from which the next token may be drawn."""
        del self.prompt_logprobs[self.held + 1 :]  # where a pass is made again
        self.prompt_logprobs += [None] * (self.held + 1 - len(self.prompt_logprobs))
        behind = self.history[self.held + 1 : self._prompt_end]
        for logits, id in zip(fed.logits, behind, strict=False):
            self.prompt_logprobs.append(likelihoods.of_token(logits, id, self._best or 0, self._tokenizer))
        return Fed(fed.logits[-1:], fed.likeliest[-1:])

    def accept(self, fed: Fed) -> Accepted:
        """Draw tokens from what the pass of `wanted` gave. An error of a token is kept in `error`, behind the
        tokens before it."""
        draft, self._draft = self._draft, []
        if len(fed.likeliest) != 1 + len(draft) or len(fed.logits) != len(fed.likeliest):
            raise UsageError(f"{1 + len(draft)} rows of logits are wanted, but {len(fed.likeliest)} came.")
        start, before = self.held, len(self.history)
        self.held = before
        pieces: list[Piece] = []
        row = 0
        try:
            while not self._full():
                piece = self._next(fed, row)
                row += 1
                if piece is None:
                    pieces += self.end("eos")
                    break
                pieces.append(piece)
                if self.stop_string is None and getattr(self._mask, "over", False):
                    pieces += self.end("eos")
                    break
                guessed = row <= len(draft) and piece.id == draft[row - 1]
                if not guessed or self.stop_string is not None or self._full():
                    break
                self.held += 1
            if not self.over and (self.stop_string is not None or self._full()):
                pieces += self.end("length")
        except EdgeqError as error:
            self.error = error
        return Accepted(self.held - start, pieces, row)

    def end(self, reason: str) -> list[Piece]:
        """End it, for that reason unless a stop string is found in the last of the text: what was held back
        of that."""
        rest = self._stops.push(self._decoder.flush()) if self._decoder is not None else ""
        rest += self._stops.flush()
        self.finish_reason = "stop" if self.stop_string is not None else reason
        if self.finish_reason == "stop" and not getattr(self._mask, "complete", True):
            self.finish_reason = None
            self.error = GrammarError(
                f"the stop string {shown(self.stop_string)} came before the text was what it is held to"
            )
        return [Piece(rest)] if rest else []

    def _full(self) -> bool:
        """Whether no further token may be drawn: the one after a full context needs no place in it."""
        return len(self.ids) >= self._limit or len(self.history) > self._context

    def _next(self, fed: Fed, row: int) -> Piece | None:
        """The next token, drawn from that row, with the text that may be shown now; None for an end."""
        logits = fed.logits[row]
        token = self._drawn(logits, int(fed.likeliest[row]))
        logprob = None
        if self._best is not None:
            logprob = likelihoods.of_token(logits, token, self._best, self._tokenizer)
        if token in self._ends:
            self.end_logprob = logprob
            return None
        self.history.append(token)
        self.ids.append(token)
        text = self._stops.push(self._decoder.push(token)) if self._decoder is not None else ""
        return Piece(text, token, logprob)

    def _drawn(self, logits: NDArray[np.float32], likeliest: int) -> int:
        """The next token's id."""
        allowed = self._allowed(len(logits))
        if self._sampler.options.takes_likeliest and allowed is None and likeliest >= 0:
            token = likeliest
        else:  # the sampler has a word on what is not finite
            forced = None if allowed is None else self._sampler.forced(allowed)
            token = forced if forced is not None else self._sampler(logits, self.history, mask=allowed)
        if self._mask is not None:
            self._mask.accept(token)
        return token

    def _allowed(self, vocab: int) -> NDArray[np.uint32] | None:
        """The tokens that may be drawn, a bit each; None for all."""
        if self._mask is not None:
            bits = np.zeros(words(vocab), np.uint32)
            if self._mask.fill(bits):
                return bits if self._may is None else bits & self._may
        return self._may
