"""Multiple choice from local files: which of some continuations a model finds likeliest.

The log-probabilities of a continuation's tokens, given the context, are added up. `acc` is the share of items
whose right choice has the largest sum; `acc_norm` divides each sum by the bytes of its choice first, both as
the Language Model Evaluation Harness has them. A line of a file is an object in the words of HellaSwag, ARC,
PIQA, BLiMP or LAMBADA, or plainly `context`, `choices` and `answer` (a number from 0). An item with one
choice, as in LAMBADA, is right where each of its tokens is the likeliest.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from edgeq.errors import FormatError, UsageError
from edgeq.evaluate.windows import log_softmax, standard_error
from edgeq.formats.strictjson import parse
from edgeq.generate import LanguageModel, TokenSequence, alike, encode, remaining
from edgeq.sampling import check_logits

PROTOCOL = (
    "log-probabilities of a choice's tokens after the context, added up; by length: a byte of the choice"
)


class Item(NamedTuple):
    """What is asked; a choice continues the context as it stands."""

    context: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Choices:
    """Shares of items, and their standard errors as if items were independent."""

    acc: float
    acc_standard_error: float
    acc_norm: float
    acc_norm_standard_error: float
    items: int
    tokens: int  # scored
    file_sha256: str
    protocol: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# ---- files ----
def _texts(value: Any) -> tuple[str, ...]:
    if not (isinstance(value, list) and value and all(isinstance(text, str) for text in value)):
        raise ValueError("choices that are no list of texts")
    return tuple(value)


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row.get(name), str):
        raise ValueError(f"no text {name!r}")
    return str(row[name])


def _number(value: Any) -> int:
    """HellaSwag's labels are texts."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
        return int(value)
    if type(value) is not int:
        raise ValueError("no number of the right choice")
    return value


def _plain(row: Mapping[str, Any]) -> Item:
    return Item(_text(row, "context"), _texts(row.get("choices")), _number(row.get("answer")))


def _hellaswag(row: Mapping[str, Any]) -> Item:
    endings = tuple(" " + text for text in _texts(row.get("endings")))
    return Item(_text(row, "ctx"), endings, _number(row.get("label")))


def _arc(row: Mapping[str, Any]) -> Item:
    found = row.get("choices")
    if not isinstance(found, dict):
        raise ValueError("choices that are no texts with labels")
    texts, labels = _texts(found.get("text")), _texts(found.get("label"))
    if _text(row, "answerKey") not in labels or len(texts) != len(labels):
        raise ValueError("an answerKey that is no choice's label")
    question = f"Question: {_text(row, 'question')}\nAnswer:"
    return Item(question, tuple(" " + text for text in texts), labels.index(row["answerKey"]))


def _piqa(row: Mapping[str, Any]) -> Item:
    solutions = " " + _text(row, "sol1"), " " + _text(row, "sol2")
    return Item(f"Question: {_text(row, 'goal')}\nAnswer:", solutions, _number(row.get("label")))


def _blimp(row: Mapping[str, Any]) -> Item:
    return Item("", (_text(row, "sentence_good"), _text(row, "sentence_bad")), 0)


def _lambada(row: Mapping[str, Any]) -> Item:
    before, space, last = _text(row, "text").rpartition(" ")
    if not before or not last:
        raise ValueError("a text without a last word")
    return Item(before, (space + last,), 0)


KINDS: Mapping[str, Callable[[Mapping[str, Any]], Item]] = {  # by a key that the others have not, in turn
    "endings": _hellaswag,
    "answerKey": _arc,
    "goal": _piqa,
    "sentence_good": _blimp,
    "choices": _plain,
    "text": _lambada,
}


def items_of(data: bytes, where: str, most: int | None = None) -> list[Item]:
    """The items of JSON lines, or the first `most` of them. FormatError, which begins with `where` and the
    line, for one that is none.
    """
    found: list[Item] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        if len(found) == most:
            break
        row = parse(line, f"{where}, line {number},", depth_max=8)
        try:
            if not isinstance(row, dict):
                raise ValueError("no object")
            kind = next((kind for key, kind in KINDS.items() if key in row), None)
            if kind is None:
                raise ValueError(f"none of {', '.join(KINDS)}")
            item = kind(row)
            if not 0 <= item.answer < len(item.choices):
                raise ValueError(f"the answer {item.answer} of {len(item.choices)} choices")
            if not all(item.choices):
                raise ValueError("a choice without a text")
        except ValueError as error:
            raise FormatError(f"{where}, line {number}, has {error}, and is no item") from None
        found.append(item)
    if not found:
        raise FormatError(f"{where} has no items: one JSON object on each line is needed")
    return found


# ---- a model's choices ----
class Score(NamedTuple):
    """Of a choice."""

    logprob: float
    greedy: bool  # whether each of its tokens is the likeliest
    tokens: int


def choices(
    model: LanguageModel,
    items: Sequence[Item],
    data: bytes = b"",
    *,
    progress: Callable[[int, int, float], object] | None = None,
) -> Choices:
    """How often the model finds the right choice likeliest. data: the file, for its hash. progress: called
    with (items done, items in all, acc so far). UsageError for an item that the context does not hold.
    """
    start, tokens = time.perf_counter(), 0
    right = np.empty((2, len(items)))
    sequence = model.sequence()
    try:
        for n, item in enumerate(items):
            scores = [score(model, sequence, item.context, choice, n) for choice in item.choices]
            tokens += sum(each.tokens for each in scores)
            if len(scores) == 1:
                right[:, n] = scores[0].greedy
            else:
                sums = np.array([each.logprob for each in scores])
                sizes = np.array([len(choice.encode()) for choice in item.choices])
                right[:, n] = sums.argmax() == item.answer, (sums / sizes).argmax() == item.answer
            if progress is not None:
                progress(n + 1, len(items), float(right[0, : n + 1].mean()))
    finally:
        sequence.close()
    (acc, acc_norm), (error, error_norm) = right.mean(1), map(standard_error, right)
    return Choices(
        acc=float(acc),
        acc_standard_error=error,
        acc_norm=float(acc_norm),
        acc_norm_standard_error=error_norm,
        items=len(items),
        tokens=tokens,
        file_sha256=hashlib.sha256(data).hexdigest(),
        protocol=PROTOCOL,
        seconds=time.perf_counter() - start,
    )


def score(model: LanguageModel, sequence: TokenSequence, context: str, choice: str, number: int = 0) -> Score:
    """The choice after the context. Tokens are those of both as one text; the choice's begin where they
    differ from the context's own. What the sequence holds of them is kept.
    """
    ids = encode(model, context + choice)
    if len(ids) < 2:
        raise UsageError(f"item {number + 1} is one token, which nothing comes before, and cannot be scored")
    before = encode(model, context) if context else ids[:1]
    first = max(1, alike(before, ids[:-1]))
    if len(ids) - 1 > model.context:
        raise UsageError(
            f"item {number + 1} has {len(ids)} tokens, more than the context of {model.context} holds"
        )
    if left := remaining(sequence, ids[:first])[:-1]:
        sequence.feed(left)
    logits = sequence.feed(ids[first - 1 : -1], all_logits=True)
    check_logits(logits)
    target = np.array(ids[first:])
    logprobs = np.take_along_axis(log_softmax(logits), target[:, None], 1)
    return Score(float(logprobs.sum()), bool((logits.argmax(1) == target).all()), len(target))
