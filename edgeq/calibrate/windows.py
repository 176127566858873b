"""Windows of token ids from documents: what calibration runs over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import tokenizer
from edgeq.calibrate.documents import Document, default_texts
from edgeq.calibrate.texts import text_sha256
from edgeq.chat import encode_chat
from edgeq.converters.source import Source
from edgeq.errors import EdgeqError, UnsupportedError, UsageError

LENGTH = 512  # tokens of a window, where the model has so many
LENGTH_MIN = 8  # half of a window is scored
COUNT_MIN = 3  # windows: one to learn from, one to choose by, one to report
CHOSEN, REPORTED = 8, 16  # of so many windows one is kept apart


@dataclass(frozen=True)
class Windows:
    """ids int64 [count, length] of a text with this hash, that has so many tokens in all."""

    ids: NDArray[np.int64]
    text_sha256: str
    text_tokens: int

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    @property
    def tokens(self) -> int:
        return self.ids.size

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """The windows that methods learn from ("learn"), those by which what they did is judged ("judge"),
        and those of which figures are told ("report"), spread evenly.
        """
        count = len(self.ids)
        numbers = np.arange(count)
        judge, report = numbers % CHOSEN == CHOSEN // 2, numbers % REPORTED == REPORTED - 1
        if count < CHOSEN:
            judge, report = numbers == count - 2, numbers == count - 1
        elif count < REPORTED:
            report = numbers == count - 1
        judge &= ~report
        return {"learn": self.ids[~judge & ~report], "judge": self.ids[judge], "report": self.ids[report]}


def windows(
    source: Source, speaker: Any, documents: Sequence[Document], tokens: int, length: int | None = None
) -> Windows:
    """About so many tokens of the documents, in windows spread evenly over them, each from the beginning-of-
    text token on where the tokenizer has one. Dialogues are written by the model's chat template, where it
    has one.

    UsageError where the documents fill fewer than COUNT_MIN windows, or windows are too short.
    """
    length = length or min(LENGTH, source.config.max_position_embeddings)
    if length < LENGTH_MIN:
        raise UsageError(f"the model has {length} positions, but calibration needs {LENGTH_MIN}")
    bos = [speaker.bos_id] if speaker.spec.add_bos and speaker.bos_id is not None else []
    ids: list[int] = []
    for document in documents:
        ids += encoded(source, speaker, document)
    body = length - len(bos)
    whole = len(ids) // body
    if whole < COUNT_MIN:
        raise UsageError(
            f"the calibration text has {len(ids)} tokens, but {COUNT_MIN} windows of {length} are needed"
        )
    all_windows = np.array(ids[: whole * body], np.int64).reshape(whole, body)
    count = max(COUNT_MIN, min(whole, -(-tokens // length)))
    chosen = all_windows[np.arange(count) * whole // count]
    first = np.tile(np.array(bos, np.int64), (count, 1))
    return Windows(np.concatenate([first, chosen], axis=1), text_sha256(documents), len(ids))


def encoded(source: Source, speaker: Any, document: Document) -> list[int]:
    """The ids of a document, without a beginning-of-text token."""
    if document.messages and source.chat_template:
        messages = [message._asdict() for message in document.messages]
        try:
            return list(
                encode_chat(
                    speaker, source.chat_template, messages, add_generation_prompt=False, add_bos=False
                )
            )
        except EdgeqError:  # a template that does not take such a dialogue: its words are still text
            pass
    text = document.plain + "\n\n"
    return list(speaker.encode(text, add_bos=False))


def check(source: Source) -> None:
    """UnsupportedError for a model that cannot be run one layer after another, or predicts nothing."""
    if source.config.WHOLE:
        raise UnsupportedError(
            f"family {source.family} predicts no token, by which calibrating is judged: "
            "edgeq quantize --quality fast, or edgeq convert, rounds its matrices"
        )
    if not source.config.apart:
        raise UnsupportedError(
            f"layers of this {source.family} read what others made, and calibrating takes them one by one: "
            "edgeq quantize --quality fast, or edgeq convert, rounds its matrices"
        )


def cut(source: Source, texts: Sequence[Document] | None, tokens: int) -> Windows:
    """The windows that a model is calibrated with, of documents or of those that come with edgeq.
    UnsupportedError as of `check`.
    """
    check(source)
    spoken = source.tokenizer()
    if spoken is None:
        raise UsageError("the model has no tokenizer, so there is nothing to calibrate it with")
    speaker = tokenizer.load(spoken[0], spoken[1], source.config.vocab_size)
    return windows(source, speaker, default_texts() if texts is None else texts, tokens)
