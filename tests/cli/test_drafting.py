"""--draft: the text is the same, and what guesses is what was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli import fakes
from tests.cli.conftest import Call

SONG = "row, row, row your boat, row, row, row your boat"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was drafted with."""
    from edgeq.speculate import Drafts

    of, seen = Drafts.of.__func__, []  # type: ignore[attr-defined]

    def recorded(draft: Any, model: Any) -> Any:
        seen.append(draft)
        return of(Drafts, draft, model)

    monkeypatch.setattr(Drafts, "of", recorded)
    monkeypatch.setattr(fakes, "SONG", SONG)
    return seen


@pytest.mark.parametrize("command", ["run", "chat"])
@pytest.mark.parametrize("draft", ["prompt", "model"])
def test_the_text_is_the_same(call: Call, model: str, asked: list[Any], command: str, draft: str) -> None:
    words = [command, model, "--draft", model if draft == "model" else draft, "--draft-p-min", "0.5"]
    result = call(*words, "--draft-max", "5", "--draft-min", "2", "-q", stdin=b"sing\n")
    assert result.code == 0 and result.out == SONG + "\n"
    (drafting,) = [each for each in asked if each is not None]
    assert (drafting.most, drafting.least, drafting.p_min) == (5, 2, 0.5)
    assert drafting.draft == "prompt" if draft == "prompt" else isinstance(drafting.draft, fakes.Model)
    assert [each.open_sequences for each in result.models] == [0] * (1 + (draft == "model"))


def test_a_number_is_how_many(call: Call, model: str, asked: list[Any]) -> None:
    result = call("run", model, "--draft", "7", "-md", model, "-p", "sing", "--json")
    assert result.code == 0 and json.loads(result.out)["timings"]["draft_tokens"] >= 0
    (drafting,) = asked
    assert drafting.most == 7 and isinstance(drafting.draft, fakes.Model)
    call("run", model, "--draft", "7", "-p", "sing")
    assert asked[-1] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--draft", "prompt", "--draft", "FILE"], "two drafts are given, FILE and prompt: give one of them"),
        (["--draft", "99"], "most is 99, but must be how many tokens are guessed"),
        (["--draft", "prompt", "--draft-p-min", "2"], "p_min is 2.0, but must be a probability"),
    ],
)
def test_what_is_no_draft(call: Call, model: str, words: list[str], told: str) -> None:
    result = call("run", model, "-p", "sing", *words)
    assert result.code == 2 and told in result.err
