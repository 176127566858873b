"""Thoughts are told from answers, however the text is cut, and templates are asked for their switch."""

from __future__ import annotations

import itertools

import pytest

from edgeq.chat.thoughts import TAGS, Thoughts, begun, switch
from edgeq.errors import UnsupportedError
from tests.chat.shapes import ALL


def parted(pieces: list[str], ends: str | None = None) -> tuple[str, str]:
    """(thought, answer) of a text in pieces."""
    thoughts, said = Thoughts(ends), {True: "", False: ""}
    for part in itertools.chain.from_iterable([*map(thoughts.push, pieces), thoughts.flush()]):
        assert part.text
        said[part.is_thought] += part.text
    return said[True], said[False]


def cuts(text: str) -> list[list[str]]:
    """A text whole, in letters, and cut in two at every place."""
    return [[text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))]


@pytest.mark.parametrize(("begins", "ends"), TAGS)
def test_thoughts_end_where_the_answer_begins(begins: str, ends: str) -> None:
    for pieces in cuts(f"\n {begins}a < b{ends}Yes, <b>{begins}no."):
        assert parted(pieces) == ("a < b", f"Yes, <b>{begins}no.")
    for pieces in cuts(f"hm{ends}Yes"):
        assert parted(pieces, ends) == ("hm", "Yes")


def test_a_text_without_thoughts_stays_whole() -> None:
    for text in ("Hello", "  <thin ice>", "<", "x <think>y</think>", "\n", ""):
        for pieces in cuts(text):
            assert parted(pieces) == ("", text)


def test_thoughts_without_end() -> None:
    for pieces in cuts("<think>one </thi"):
        assert parted(pieces) == ("one </thi", "")


def test_the_tags_are_never_shown_even_in_part() -> None:
    thoughts = Thoughts()
    assert list(thoughts.push("<think>so</th")) == [("so", True)] and thoughts.thinking
    assert list(thoughts.push("ink>then")) == [("then", False)] and not thoughts.thinking


def test_a_prompt_may_begin_them() -> None:
    assert begun("<|im_start|>assistant\n<think>\n") == "</think>"
    assert begun("<|im_start|>assistant\n<think>\n\n</think>\n\n") is None


def test_the_switch_of_a_template() -> None:
    assert switch(ALL["thinking"]) == "enable_thinking"
    assert switch("{% if thinking is defined and thinking %}a{% endif %}{{ messages }}") == "thinking"
    assert switch("{% set enable_thinking = 1 %}{{ enable_thinking }}{{ messages }}") is None
    with pytest.raises(UnsupportedError, match="cannot be compiled"):
        switch("{% if %}")
