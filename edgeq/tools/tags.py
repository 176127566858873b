"""The marks that a family puts around thoughts and calls: a token of the vocabulary where it has one, else
text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeq.structured.forms import quoted

MARKS = 0xD800  # a parser sees tokens as lone surrogates from here on, which no decoded text holds


@dataclass(frozen=True)
class Tag:
    """One mark of a family. `id` is its token, where the vocabulary reserves one; then the same characters
    spelled with other tokens are text."""

    text: str
    id: int | None
    mark: str  # what a parser looks for

    @property
    def lark(self) -> str:
        """The tag in a grammar."""
        return quoted(self.text) if self.id is None else f"<[{self.id}]>"


class Tags:
    """The tags of a family in one vocabulary, by their text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, Tag] = {}
        self.marks: dict[int, str] = {}  # of the tokens among them
        self.spelled: dict[int, str] = {}  # the texts of marks, as str.translate takes them

    def __call__(self, text: str) -> Tag:
        """The tag that is so spelled."""
        if text not in self._known:
            id = self._tokenizer.id(text)
            if id is not None and id in self._tokenizer.reserved_ids:
                self.marks[id] = chr(MARKS + len(self.marks))
                self.spelled[ord(self.marks[id])] = text
                self._known[text] = Tag(text, id, self.marks[id])
            else:
                self._known[text] = Tag(text, None, text)
        return self._known[text]
