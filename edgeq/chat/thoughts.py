"""What a model thinks before it answers: where it stands in the text, and what switches it on and off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# (begins, ends) the thoughts of models that write them into their text: Qwen3, SmolLM3 and distilled R1;
# Magistral; fine-tunes that were taught with the longer word.
TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<thinking>", "</thinking>"))

# The variables by which templates know whether to think: of Qwen3, SmolLM3, GLM; of DeepSeek-V3.1, Granite.
SWITCHES = ("enable_thinking", "thinking")


class Part(NamedTuple):
    text: str
    is_thought: bool


class Thoughts:
    """Tells thoughts from the answer in a text that comes in pieces, however it is cut.

    Thoughts stand at the beginning, behind nothing but whitespace; a tag further on is text of the answer.
    The tags are in no part. `ends`: the thoughts have begun in the prompt and end with this tag.
    """

    def __init__(self, ends: str | None = None) -> None:
        self._ends = ends  # while thinking
        self._answering = False
        self._held = ""  # what could become a tag

    @property
    def thinking(self) -> bool:
        return self._ends is not None

    def push(self, piece: str) -> Iterator[Part]:
        """The parts, none of them empty, that are known now."""
        self._held += piece
        if not self._answering and self._ends is None:
            self._look_for_beginning()
        if self._ends is not None:
            yield from self._thought(self._ends)
        if self._answering and self._held:
            yield Part(self._take(len(self._held)), False)

    def flush(self) -> Iterator[Part]:
        """The part that was held back, when no more will come."""
        if self._held:
            yield Part(self._take(len(self._held)), self.thinking)

    def _take(self, size: int) -> str:
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _look_for_beginning(self) -> None:
        text = self._held.lstrip()
        for begins, ends in TAGS:
            if text.startswith(begins):
                self._held, self._ends = text[len(begins) :], ends
                return
        self._answering = not any(begins.startswith(text) for begins, _ in TAGS)

    def _thought(self, ends: str) -> Iterator[Part]:
        thought, found, rest = self._held.partition(ends)
        if found:
            self._held, self._ends, self._answering = rest, None, True
        else:
            thought = self._take(len(thought) - beginning(thought, ends))
        if thought:
            yield Part(thought, True)


def beginning(text: str, tag: str) -> int:
    """The length of the longest beginning of `tag`, short of all of it, that `text` ends with."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)


def begun(prompt: str) -> str | None:
    """The tag that ends the thoughts which the end of a prompt begins; None where it begins none."""
    return next((ends for begins, ends in TAGS if prompt.rstrip().endswith(begins)), None)


def switch(template: str) -> str | None:
    """The variable of a chat template that says whether to think, or None where it asks for none.

    Raises UnsupportedError for a template that cannot be compiled.
    """
    from edgeq.chat.sandbox import variables

    asked = variables(template)
    return next((name for name in SWITCHES if name in asked), None)
