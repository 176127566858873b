"""Multiple choice on a model without weights, against sums taken the long way; files and what is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.cli import run_command
from edgeq.errors import FormatError, UsageError
from edgeq.evaluate.choices import Item, choices, items_of, score
from tests.fake_model import BOS, FakeModel, script

ITEMS = [
    Item("The cat", (" sat", " flew away", " was"), 0),
    Item("The cat is", (" black", " blue"), 1),
    Item("", ("Dogs bark.", "Dogs barks."), 0),
]


def logprobs(model: FakeModel, context: str, choice: str) -> list[float]:
    """Of the choice's tokens, the long way."""
    ids, first = [BOS, *script(context + choice)], 1 + len(script(context))
    found = []
    for place in range(first, len(ids)):
        weights = np.exp(model.next_logits(ids[:place]).astype(np.float64))
        found.append(math.log(weights[ids[place]] / weights.sum()))
    return found


def test_it_is_the_definition() -> None:
    model = FakeModel()
    calls: list[tuple[int, int, float]] = []
    found = choices(model, ITEMS, b"data", progress=lambda *call: calls.append(call))
    right, normalized, tokens = [], [], 0
    for item in ITEMS:
        each = [logprobs(model, item.context, choice) for choice in item.choices]
        tokens += sum(map(len, each))
        sums = [sum(row) for row in each]
        by_byte = [total / len(choice.encode()) for total, choice in zip(sums, item.choices, strict=True)]
        right.append(int(np.argmax(sums)) == item.answer)
        normalized.append(int(np.argmax(by_byte)) == item.answer)
    assert found.acc == float(np.mean(right)) and found.acc_norm == float(np.mean(normalized))
    assert (found.items, found.tokens) == (3, tokens)
    assert found.acc_standard_error == pytest.approx(np.std(right, ddof=1) / math.sqrt(3))
    assert calls[-1] == (3, 3, found.acc) and json.dumps(found.to_json())
    assert all(sequence.closed for sequence in model.sequences)


def test_scores_and_what_is_fed() -> None:
    model = FakeModel()
    sequence = model.sequence()
    for item in ITEMS:
        for choice in item.choices:
            found = score(model, sequence, item.context, choice)
            wanted = logprobs(model, item.context, choice)
            assert found.logprob == pytest.approx(sum(wanted), rel=1e-9) and found.tokens == len(wanted)
    model.fed.clear()
    sequence.truncate(0)
    for choice in ITEMS[0].choices:
        score(model, sequence, ITEMS[0].context, choice)
    again = len(script("The cat")) + sum(len(script(choice)) for choice in ITEMS[0].choices)
    assert len(model.fed) == again  # the context once, but for its last token, and each choice but its last


def test_the_only_choice_is_right_where_it_is_the_likeliest() -> None:
    model = FakeModel()
    ids = [BOS, *script("Say")]
    for _ in range(2):
        ids.append(int(model.next_logits(ids).argmax()))
    if min(ids[-2:]) < 2:
        pytest.fail("the fake model says no bytes here: take another context")
    said = bytes(id - 2 for id in ids[-2:])
    text = said.decode("latin-1")
    model.tokenizer.encode = lambda text, **_: [BOS, *(2 + byte for byte in text.encode("latin-1"))]
    assert choices(model, [Item("Say", (text,), 0)]).acc == 1
    assert choices(model, [Item("Say", (text[0] + chr(ord(text[1]) ^ 1),), 0)]).acc == 0


def test_what_cannot_be_scored() -> None:
    with pytest.raises(UsageError, match="item 2 has 34 tokens, more than the context of 32 holds"):
        choices(FakeModel(context=32), [Item("a", ("b", "c"), 0), Item("a" * 32, ("b", "c"), 0)])
    model = FakeModel()
    model.tokenizer.encode = lambda text, **_: [7]
    with pytest.raises(UsageError, match="item 1 is one token"):
        choices(model, [Item("", ("b", "c"), 0)])


LINES: list[tuple[dict[str, Any], Item]] = [
    ({"context": "a", "choices": [" b", " c"], "answer": 1}, Item("a", (" b", " c"), 1)),
    ({"ctx": "a", "endings": ["b", "c"], "label": "1", "ind": 3}, Item("a", (" b", " c"), 1)),
    (
        {"question": "q?", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "B"},
        Item("Question: q?\nAnswer:", (" b", " c"), 1),
    ),
    ({"goal": "g", "sol1": "b", "sol2": "c", "label": 0}, Item("Question: g\nAnswer:", (" b", " c"), 0)),
    ({"sentence_good": "b", "sentence_bad": "c"}, Item("", ("b", "c"), 0)),
    ({"text": "one two three"}, Item("one two", (" three",), 0)),
]


def test_files() -> None:
    data = "\n\n".join(json.dumps(row) for row, _ in LINES).encode()
    assert items_of(data, "x") == [item for _, item in LINES]
    assert items_of(data, "x", 2) == [item for _, item in LINES[:2]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "x has no items"),
        ("[1]", "x, line 1, has no object, and is no item"),
        ("{", "x, line 1,"),
        ('{"a": 1}', "has none of endings, answerKey, goal, sentence_good, choices, text"),
        ('{"context": "a", "choices": [], "answer": 0}', "choices that are no list of texts"),
        ('{"context": "a", "choices": "bc", "answer": 0}', "choices that are no list of texts"),
        ('{"context": "a", "choices": ["b", ""], "answer": 0}', "a choice without a text"),
        ('{"context": "a", "choices": ["b", "c"], "answer": 2}', "the answer 2 of 2 choices"),
        ('{"context": "a", "choices": ["b", "c"], "answer": true}', "no number of the right choice"),
        ('{"context": "a", "choices": ["b", "c"]}', "no number of the right choice"),
        ('{"choices": ["b", "c"], "answer": 0}', "no text 'context'"),
        ('{"ctx": "a", "endings": ["b"], "label": "x"}', "no number of the right choice"),
        ('{"question": "q", "choices": ["b"], "answerKey": "A"}', "choices that are no texts with labels"),
        (
            '{"question": "q", "choices": {"text": ["b"], "label": ["A"]}, "answerKey": "B"}',
            "an answerKey that is no choice's label",
        ),
        ('{"question": "q", "answerKey": "B"}', "choices that are no texts with labels"),
        ('{"text": "word"}', "a text without a last word"),
    ],
)
def test_what_is_no_item(line: str, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        items_of(line.encode(), "x")


def test_the_command(tmp_path: Path, demo_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "items.jsonl"
    rows = [
        {
            "sentence_good": "Once upon a time there was a girl.",
            "sentence_bad": "Once upon time a was girl there.",
        },
        {"context": "Once upon a", "choices": [" time", " xqz"], "answer": 0},
        {"text": "Once upon a time"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    command = ["eval", "choice", str(demo_checkpoint), "-f", str(path), "-q", "--gate", "acc >= 99%"]
    assert run_command([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["acc"], found["items"]) == (1, 3)
    assert run_command([*command, "--limit", "2"]) == 0
    assert "acc 100.00% ± 0.00%\nacc_norm 100.00% ± 0.00%\nitems: 2," in capsys.readouterr().out
    assert run_command([*command[:-1], "acc_norm < 0.5"]) == 1
    assert "the gate is not passed: acc_norm is 1, not < 0.5" in capsys.readouterr().err
