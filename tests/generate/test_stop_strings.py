"""Stop strings never leak, and the way the text is cut into pieces makes no difference."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeq.generate import StopStrings, overlap

LETTERS = st.text(alphabet="ab\n<é", max_size=30)
STOPS = st.lists(st.text(alphabet="ab\n<é", min_size=1, max_size=5), max_size=4)


def cut_at_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The obvious meaning: read on letter by letter until what was read ends with a stop string."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@settings(max_examples=500)
@given(pieces=st.lists(LETTERS, max_size=12), stops=STOPS)
@example(pieces=["ab", "c"], stops=["abcd", "bc"])
@example(pieces=["a", "a", "b"], stops=["aab"])
@example(pieces=["a", "a", "a", "b"], stops=["aab"])
def test_the_text_is_cut_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    filter = StopStrings(stops)
    shown = ""
    wanted, stop = cut_at_stop("".join(pieces), stops)
    for piece in pieces:
        shown += filter.push(piece)
        # Whatever comes next, what was shown must stay right.
        assert wanted.startswith(shown)
    shown += filter.flush()
    assert (shown, filter.found) == (wanted, stop)
    assert filter.push("more") == "" or stop is None


@settings(max_examples=300)
@given(text=LETTERS, stops=STOPS)
def test_only_what_could_become_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    filter = StopStrings(stops)
    shown = filter.push(text)
    if filter.found is None:
        held = text[len(shown) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)
        assert not any(
            stop.startswith(text[start:])
            for stop in stops
            for start in range(len(shown))
            if len(text) - start < len(stop)
        )


@pytest.mark.parametrize(
    ("text", "stop", "size"),
    [
        ("", "ab", 0),
        ("a", "a", 0),
        ("xa", "ab", 1),
        ("ab", "ab", 0),
        ("aa", "aab", 2),
        ("aaa", "aab", 2),
        ("abab", "ababc", 4),
    ],
)
def test_overlap(text: str, stop: str, size: int) -> None:
    assert overlap(text, stop) == size
