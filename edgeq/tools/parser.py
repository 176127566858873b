"""An answer's tokens to deltas: content, thoughts and calls."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from edgeq.generate import StopStrings
from edgeq.tools import thinking
from edgeq.tools.source import Cut, Delta, Source, call_id
from edgeq.tools.syntax import Syntax
from edgeq.tools.tags import Tags


class Parser:
    """Reads the tokens of one answer as they are drawn. `calls` is how many calls have begun; `complete` is
    false within one.

    No delta holds half a character or a part of a tag: what could become one is held back. A tag that is a
    token of the model is seen by its id, so that the same characters in a text are text.
    """

    def __init__(
        self,
        tokenizer: Any,
        tags: Tags,
        syntax: Syntax | None,
        block: thinking.Block | None,
        state: str,
        stop: Sequence[str] = (),
    ) -> None:
        """syntax: how calls are written; None where the whole answer is content. stop: strings before which
        the content ends."""
        self._tokenizer, self._marks, self._spelled = tokenizer, tags.marks, tags.spelled
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._source = Source(call_id if syntax is None else syntax.new_id, StopStrings(stop))
        self._steps: Iterator[None] | None = self._read(syntax, block, state)

    @property
    def calls(self) -> int:
        return self._source.calls

    @property
    def complete(self) -> bool:
        return not self._source.inside

    def push(self, id: int) -> list[Delta]:
        """The deltas that are certain with this token. GrammarError where a call is none, which a mask of the
        same plan does not let happen."""
        mark = self._marks.get(id)
        if mark is not None:
            return self._go(self._utf8.decode(b"", final=True) + mark)
        if id in self._tokenizer.control_ids:
            return []
        return self._go(self._utf8.decode(self._tokenizer.token(id)))

    def extend(self, ids: Iterable[int]) -> list[Delta]:
        """The deltas of several tokens."""
        return [delta for id in ids for delta in self.push(id)]

    def finish(self) -> list[Delta]:
        """The deltas that were held back, when no more will come. A call that was cut off stays so, and is
        not `complete`."""
        self._source.over = True
        rest = self._utf8.decode(b"", final=True)
        return self._go("" if self._source.inside else rest)

    def _read(self, syntax: Syntax | None, block: thinking.Block | None, state: str) -> Iterator[None]:
        source = self._source
        yield from thinking.read(source, block, state)
        if syntax is not None:
            yield from syntax.read(source)
        else:
            yield from source.rest(source.plain)

    def _go(self, text: str) -> list[Delta]:
        source = self._source
        source.buffer += text
        if self._steps is not None and (text or source.over):
            try:
                for _ in self._steps:
                    if not source.over:
                        break
                else:
                    self._steps = None
            except Cut:
                self._steps = None
        if source.over:
            source.end()
        found, source.out = source.out, []
        return [self._told(delta) for delta in found]

    def _told(self, delta: Delta) -> Delta:
        """A delta in which a tag that means nothing where it stands is the text that it spells."""
        spelled = self._spelled
        if delta.content:
            return replace(delta, content=delta.content.translate(spelled))
        return replace(delta, reasoning=delta.reasoning.translate(spelled)) if delta.reasoning else delta
