"""What messages are made of: near names, several reasons in one."""

from __future__ import annotations

import pytest

from edgeq.errors import TOLD_MAX, FormatError, Troubles, UnsupportedError, UsageError, near


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("serch", "search"),
        ("SEARCH", "search"),
        ("rnt", "rtn"),
        ("hqqq", "hqq"),
        ("x", ""),
        ("", ""),
        (7, ""),
    ],
)
def test_near_names(word: object, meant: str) -> None:
    assert near(word, ("search", "rtn", "hqq")) == (f"; did you mean {meant!r}?" if meant else "")


def test_a_word_without_end_is_near_nothing() -> None:
    assert near("search" * 10**6, ("search",)) == near("search", ()) == ""


def test_no_troubles_are_none() -> None:
    troubles = Troubles()
    with troubles.noted():
        pass
    troubles.tell()
    assert not troubles


def test_all_reasons_are_one_error_of_the_first_ones_kind() -> None:
    troubles = Troubles()
    with troubles.noted():
        raise UnsupportedError("config: a is 1")
    with troubles.noted():
        raise FormatError("config: b is 2")
    troubles.add(FormatError("tensor c"))
    troubles.add(FormatError("config: b is 2"))
    with pytest.raises(UnsupportedError) as caught:
        troubles.tell()
    assert str(caught.value) == "config: a is 1; b is 2; tensor c"


def test_of_many_reasons_the_first_are_told() -> None:
    troubles = Troubles()
    for number in range(TOLD_MAX + 3):
        troubles.add(UsageError(f"reason {number}"))
    with pytest.raises(UsageError, match="^reason 0; .*reason 7; and 3 more$"):
        troubles.tell()


def test_what_is_not_of_edgeqs_own_goes_on() -> None:
    troubles = Troubles()
    with pytest.raises(KeyError), troubles.noted():
        raise KeyError("x")
    assert not troubles
