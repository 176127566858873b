"""Windows of a text: where they begin, what is kept apart, and dialogues as the model is used to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeq import tokenizer
from edgeq.calibrate.documents import Document, Message
from edgeq.calibrate.texts import text_sha256
from edgeq.calibrate.windows import COUNT_MIN, LENGTH_MIN, Windows, encoded, windows
from edgeq.converters.source import Source
from edgeq.errors import UsageError

STORY = "Once upon a time there was a little dog who liked to run in the park. He saw {} big red balls. "
STORIES = [Document("a", "stories", text=STORY.format(n) * 3) for n in range(40)]
DIALOGUE = Document(
    "a", "chat", messages=(Message("user", "Who is there?"), Message("assistant", "A little dog."))
)
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def source(opened: Callable[[str], Source]) -> Source:
    return opened("stories260K")


@pytest.fixture(scope="module")
def spoken(source: Source) -> Any:
    found = source.tokenizer()
    assert found is not None
    return tokenizer.load(*found, source.config.vocab_size)


def test_they_are_pieces_of_the_text(source: Source, spoken: Any) -> None:
    """Each from BOS on, in the text's order, none of them twice."""
    found = windows(source, spoken, STORIES, tokens=300, length=30)
    assert found.ids.shape == (10, 30) and (found.length, found.tokens) == (30, 300)
    assert (found.ids[:, 0] == spoken.bos_id).all()
    text = [i for document in STORIES for i in spoken.encode(document.plain + "\n\n", add_bos=False)]
    assert found.text_tokens == len(text) and found.text_sha256 == text_sha256(STORIES)
    whole = np.array(text[: len(text) // 29 * 29]).reshape(-1, 29)
    places = [np.flatnonzero((whole == window[1:]).all(axis=1)) for window in found.ids]
    firsts = [int(place[0]) for place in places]
    assert firsts == sorted(set(firsts)) and firsts[0] == 0
    gaps = np.diff([*firsts, len(whole)])
    assert gaps.max() - gaps.min() <= 1  # spread evenly


def test_all_of_a_text_where_more_is_wanted(source: Source, spoken: Any) -> None:
    found = windows(source, spoken, STORIES, tokens=1 << 40)
    assert found.length == 512  # the model's positions
    assert len(found.ids) == found.text_tokens // 511
    assert windows(source, spoken, STORIES, tokens=1).ids.shape == (COUNT_MIN, 512)


def test_no_beginning_where_the_tokenizer_has_none(
    source: Source, spoken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoken, "spec", replace(spoken.spec, add_bos=False))
    found = windows(source, spoken, STORIES, tokens=90, length=30)
    np.testing.assert_array_equal(found.ids[0], spoken.encode(STORIES[0].plain, add_bos=False)[:30])


def test_too_little_text(source: Source, spoken: Any) -> None:
    with pytest.raises(UsageError, match="text has 108 tokens, but 3 windows of 64 are needed"):
        windows(source, spoken, STORIES[:1], tokens=100, length=64)
    with pytest.raises(UsageError, match="text has 0 tokens, but 3 windows of 512 are needed"):
        windows(source, spoken, [], tokens=100)


def test_a_model_of_few_positions(source: Source, spoken: Any) -> None:
    short = replace(source, config=replace(source.config, max_position_embeddings=LENGTH_MIN - 1))
    with pytest.raises(UsageError, match=f"has {LENGTH_MIN - 1} positions, but .* needs {LENGTH_MIN}"):
        windows(short, spoken, STORIES, tokens=100)
    assert windows(source, spoken, STORIES, tokens=100, length=LENGTH_MIN).length == LENGTH_MIN


@pytest.mark.parametrize("count", [*range(COUNT_MIN, 50), 64, 127, 200])
def test_parts(count: int) -> None:
    """Disjoint, none empty, all windows among them; most is to learn from."""
    ids = np.arange(count)[:, None] + np.zeros((1, 4), np.int64)
    parts = Windows(ids, "", 4 * count).parts()
    assert set(parts) == {"learn", "judge", "report"}
    found = [int(window[0]) for part in parts.values() for window in part]
    assert sorted(found) == list(range(count))
    learn, judge, report = (len(part) for part in parts.values())
    assert judge and report and (learn > judge + report or count < 5)


# ---- dialogues ----
def test_a_dialogue_is_written_by_the_template(source: Source, spoken: Any) -> None:
    chatting = replace(source, chat_template=TEMPLATE)
    ids = encoded(chatting, spoken, DIALOGUE)
    assert spoken.decode(ids).strip() == "<user>Who is there?\n<assistant>A little dog."
    assert encoded(chatting, spoken, STORIES[0]) == encoded(source, spoken, STORIES[0])


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no such dialogue') }}", "{% if %}"])
def test_where_there_is_none_its_words_are_text(source: Source, spoken: Any, template: str | None) -> None:
    ids = encoded(replace(source, chat_template=template), spoken, DIALOGUE)
    assert ids == spoken.encode("Who is there?\n\nA little dog.\n\n", add_bos=False)
