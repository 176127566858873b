"""The state machine of a generation by itself: what it wants, and what it makes of logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq.errors import FormatError, UsageError
from edgeq.generate import Continuation, Piece, Sampler, SamplingOptions, StopStrings
from edgeq.passes import Fed, Feed
from tests.fake_model import BYTES, EOS, VOCAB, FakeTokenizer, script

GREEDY = SamplingOptions(temperature=0)


def continuation(
    before: list[int] | None = None,
    prompt: list[int] | None = None,
    *,
    context: int = 100,
    limit: float = np.inf,
    stops: tuple[str, ...] = (),
) -> Continuation:
    return Continuation(
        before or [],
        prompt or script("Hi"),
        Sampler(GREEDY),
        context=context,
        limit=limit,
        ends={EOS},
        stops=StopStrings(stops),
        tokenizer=FakeTokenizer(),
    )


def fed(*ids: int) -> Fed:
    """Rows in which these are the likeliest."""
    logits = np.zeros((len(ids), VOCAB), np.float32)
    logits[range(len(ids)), list(ids)] = 9
    return Fed(logits, np.array(ids, np.int64))


def texts(pieces: list[Piece]) -> list[str]:
    return [str(piece) for piece in pieces]


def test_the_prompt_then_each_token_is_wanted() -> None:
    text = continuation(before=[7, 8])
    assert text.wanted() == Feed(script("Hi"), 1) and text.held == 2
    accepted = text.accept(fed(*script("a")))
    assert accepted == (2, ["a"], 1) and text.held == 4
    assert text.wanted() == Feed(script("a"), 1)
    assert text.accept(fed(EOS)) == (1, [], 1)
    assert text.wanted() is None and text.finish_reason == "eos" and text.ids == script("a")
    assert text.history == [7, 8, *script("Hia")] and text.held == 5


def test_a_sequence_that_holds_less_is_fed_again() -> None:
    text = continuation()
    text.wanted()
    text.accept(fed(*script("a")))
    text.held = 0
    assert text.wanted() == Feed(script("Hia"), 1)
    text.held = 2  # the first two were fed alone
    assert text.wanted() == Feed(script("a"), 1)


def test_guesses_that_come_true_are_kept_and_the_next_is_drawn_from_their_row() -> None:
    text = continuation()
    text.wanted()
    text.accept(fed(*script("a")))
    assert text.wanted(script("bcd")) == Feed(script("abcd"), 4)
    accepted = text.accept(fed(*script("bcxy")))
    assert accepted == (3, ["b", "c", "x"], 3)
    assert text.held == len(script("Hiabc")) and text.history == script("Hiabcx")
    assert text.wanted(script("z")) == Feed(script("xz"), 2)
    assert text.accept(fed(*script("q!"))) == (1, ["q"], 1)
    text.wanted(script("r"))
    assert text.accept(fed(*script("rs"))) == (2, ["r", "s"], 2)  # all true: one more than guessed


def test_what_ends_the_text_ends_it_among_guesses() -> None:
    text = continuation()
    text.wanted()
    text.accept(fed(*script("a")))
    text.wanted([*script("b"), EOS, *script("c")])
    assert text.accept(fed(*script("b"), EOS, *script("cd"))) == (2, ["b"], 2)
    assert text.finish_reason == "eos" and text.ids == script("ab")
    text = continuation(stops=("bc",))
    text.wanted()
    text.accept(fed(*script("a")))
    text.wanted(script("bcd"))
    assert text.accept(fed(*script("bcde"))) == (2, ["", ""], 2)
    assert (text.finish_reason, text.stop_string, text.ids) == ("stop", "bc", script("abc"))
    assert text.held == len(script("Hiab"))  # the last token is never held, as without guesses


@pytest.mark.parametrize(("limit", "context", "room"), [(3, 100, 1), (2, 100, 0), (99, 4, 1), (99, 3, 0)])
def test_no_more_is_guessed_than_can_be_drawn(limit: int, context: int, room: int) -> None:
    text = continuation(limit=limit, context=context)
    assert text.room == 0 and text.wanted(script("xyz")) == Feed(script("Hi"), 1)
    text.accept(fed(*script("a")))
    assert text.room == room
    request = text.wanted(script("bcd"))
    assert request == Feed(script("abcd")[: 1 + room], 1 + room)
    accepted = text.accept(fed(*script("bcde")[: 1 + room]))
    assert text.finish_reason == "length" and text.history == script("Hiabc")[: 4 + room]
    assert accepted.kept == 1 + room


def test_positions_are_those_a_sequence_comes_to_hold() -> None:
    assert continuation(before=[1], limit=4).positions == 1 + 2 + 3
    assert continuation(limit=0).positions == continuation(limit=1).positions == 2
    assert continuation(context=9).positions == 9


def test_held_back_text_comes_at_the_end() -> None:
    text = continuation(stops=("abc",))
    text.wanted()
    assert text.accept(fed(*script("a"))).pieces == [""]
    pieces = text.end("cancelled")
    assert texts(pieces) == ["a"] and pieces[0].id is None and text.finish_reason == "cancelled"
    assert text.wanted() is None


def test_an_error_comes_behind_the_tokens_before_it() -> None:
    text = continuation()
    text.wanted()
    text.accept(fed(*script("a")))
    text.wanted(script("bc"))
    rows = fed(*script("bcd"))
    rows.logits[1] = np.nan
    rows.likeliest[1] = -1
    accepted = text.accept(rows)
    assert texts(accepted.pieces) == ["b"] and isinstance(text.error, FormatError)
    assert text.over and text.finish_reason is None and text.wanted() is None


def test_rows_that_were_not_wanted_are_refused() -> None:
    text = continuation()
    text.wanted()
    with pytest.raises(UsageError, match="1 rows of logits are wanted, but 2 came"):
        text.accept(fed(*script("ab")))


class Counting:
    """A mask of letters in order: after the n-th token only the n-th of the alphabet may come."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def fill(self, bits: NDArray[np.uint32]) -> bool:
        id = BYTES + ord("a") + len(self.taken)
        bits[:] = 0
        bits[id // 32] = np.uint32(1 << id % 32)
        return len(self.taken) < 4

    def accept(self, id: int) -> None:
        self.taken.append(id)


def test_a_mask_is_asked_for_each_row_in_order_and_told_what_was_drawn() -> None:
    mask = Counting()
    text = Continuation([], script("Hi"), Sampler(GREEDY), context=99, limit=9, ends={EOS}, mask=mask)
    text.wanted()
    text.accept(fed(*script("z")))
    text.wanted(script("bx"))
    assert text.accept(fed(*script("zzz"))).kept == 2
    assert mask.taken == script("abc") == text.ids
    text.wanted(script("dy"))
    assert text.accept(fed(*script("zyx"))).drawn == 3 and mask.taken == script("abcdyx")


def test_a_token_that_a_mask_forces_is_not_drawn_and_changes_no_later_draw() -> None:
    """After each forced token one is free: the random numbers are those of a sampler that draws them all."""

    class Every:
        """A mask that lets one token come, then any of four, in turns."""

        def __init__(self) -> None:
            self.count = 0

        def fill(self, bits: NDArray[np.uint32]) -> bool:
            bits[:] = 0
            for letter in "a" if self.count % 2 == 0 else "bcde":
                id = BYTES + ord(letter)
                bits[id // 32] |= np.uint32(1 << id % 32)
            return True

        def accept(self, id: int) -> None:
            self.count += 1

    class Drawing(Sampler):
        calls = 0

        def forced(self, mask: NDArray[np.uint32]) -> int | None:
            return None

        def __call__(self, *args: Any, **more: Any) -> int:
            Drawing.calls += 1
            return super().__call__(*args, **more)

    def said(sampler: Sampler) -> list[int]:
        text = Continuation([], script("Hi"), sampler, context=99, limit=30, ends={EOS}, mask=Every())
        rows = np.random.default_rng(5)
        while not text.over:
            text.wanted()
            logits = rows.normal(size=(1, VOCAB)).astype(np.float32)
            text.accept(Fed(logits, np.array([-1], np.int32)))
        return text.ids

    for more in ({}, {"xtc_probability": 0.5}, {"mirostat": 2}, {"repeat_penalty": 1.3, "top_p": 0.9}):
        options = SamplingOptions(temperature=1, seed=3, **more)
        assert said(Sampler(options)) == said(Drawing(options))
    assert Drawing.calls == 4 * 30
