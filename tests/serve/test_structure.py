"""The seam to structured output: what is bound is never left free, and thoughts are told from answers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from edgeq.serve.errors import ApiError
from edgeq.serve.structure import CONTENT, REASONING, Delta, structure_of


def told(prompt_end: str | None, text: str, *cuts: int) -> dict[str, str]:
    """What is said and thought in a text, however it is cut."""
    parser = structure_of(prompt_end).parser()
    deltas: list[Delta] = []
    for start, end in pairwise([0, *cuts, len(text)]):
        deltas += parser.push(text[start:end])
    deltas += parser.flush()
    found = {CONTENT: "", REASONING: ""}
    for delta in deltas:
        assert delta.text
        found[delta.kind] += delta.text
    return found


@pytest.mark.parametrize(
    ("prompt_end", "text", "thoughts", "answer"),
    [
        ("<|im_start|>assistant\n", "<think>\nhm\n</think>\n\nYes.\n", "\nhm\n", "Yes.\n"),
        ("assistant\n<think>\n", "hm</think>Yes", "hm", "Yes"),
        ("assistant\n<think>\n", "hm", "hm", ""),
        ("assistant\n", "Yes <think> no", "", "Yes <think> no"),
        ("assistant\n", "\n\nYes", "", "\n\nYes"),
        ("assistant\n<think>\n\n</think>\n\n", "Yes", "", "Yes"),
        (None, "<think>a</think>b", "", "<think>a</think>b"),
        ("", "[THINK]a[/THINK]b", "a", "b"),
    ],
)
def test_thoughts_are_told_from_the_answer(
    prompt_end: str | None, text: str, thoughts: str, answer: str
) -> None:
    wanted = {CONTENT: answer, REASONING: thoughts}
    for cut in range(len(text) + 1):
        assert told(prompt_end, text, cut) == wanted, cut
    assert told(prompt_end, text, *range(1, len(text))) == wanted


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({"response_format": {"type": "json_object"}}, 501, "response_format"),
        ({"response_format": {"type": "json_schema"}}, 501, "response_format"),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type"),
        ({"response_format": {}}, 400, "response_format.type"),
        ({"grammar": {"grammar": "root ::= x"}}, 501, "grammar"),
        ({"tools": [{}]}, 501, "tools"),
        ({"tools": [{}], "tool_choice": "required"}, 501, "tools"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"parallel_tool_calls": True}, 400, "parallel_tool_calls"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], status: int, param: str) -> None:
    with pytest.raises(ApiError) as error:
        structure_of("", **asked)
    assert (error.value.status, error.value.param) == (status, param)


def test_what_binds_nothing_passes() -> None:
    free: list[dict[str, Any]] = [{}, {"response_format": {"type": "text"}}, {"tools": []}]
    for asked in [*free, {"tools": [{}], "tool_choice": "none"}]:
        assert structure_of("", **asked).mask is None
