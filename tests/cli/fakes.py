"""A model that recites: the commands around it can be tested in milliseconds, without kernels.

After a prompt (a feed of several tokens) it says SONG letter by letter and then the end token.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeq.errors import UsageError
from edgeq.passes import Fed
from edgeq.tokenizer.base import Spec
from edgeq.tokenizer.base import Tokenizer as Base

BOS, EOS = 256, 257
SONG = "one, two, three, four."


class Tokenizer(Base):
    """Bytes are tokens; <s> and </s> are the two ids above them."""

    def __init__(self) -> None:
        super().__init__(Spec("bytes", 258, bos=BOS, eos=(EOS,), add_bos=True, control=(BOS, EOS)))

    def _plain(self, text: str, first: bool) -> list[int]:
        return list(text.encode())

    def spelling(self, id: int) -> str:
        return {BOS: "<s>", EOS: "</s>"}.get(id) or chr(id)

    def _bytes(self, id: int) -> bytes:
        return bytes([id])

    def id(self, token: str) -> int | None:
        return {"<s>": BOS, "</s>": EOS}.get(token)


class Sequence_:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.ids: list[int] = []
        self.said, self.next = 0, -1
        self._states: list[tuple[int, int]] = []  # these two after each id
        self.fed: list[int] = []  # lengths of the feeds, to see what was computed again

    def feed(
        self,
        ids: Sequence[int],
        *,
        all_logits: bool = False,
        progress: Callable[..., Any] | None = None,
    ) -> np.ndarray:
        if len(self.ids) + len(ids) > self.model.context:
            raise UsageError("past the context")
        self._hear(list(ids))
        self.fed.append(len(ids))
        return self._logits()

    def step(
        self,
        ids: Sequence[int],
        *,
        wanted: int = 1,
        progress: Callable[..., Any] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Fed:
        rows = [self.feed(ids[: len(ids) - wanted + 1])]
        for id in ids[len(ids) - wanted + 1 :]:  # guesses
            self._hear([id])
            rows.append(self._logits())
        return Fed(np.stack(rows), np.argmax(rows, axis=1))

    def _hear(self, ids: list[int]) -> None:
        self.said = self.said + 1 if ids == [self.next] else 0
        if self.said == self.model.halt:
            os.read(0, 1)
        self.ids += ids
        self.model.fed_ids += ids
        song = self.model.song
        self.next = ord(song[self.said]) if self.said < len(song) else EOS
        self._states += [(self.said, self.next)] * len(ids)

    def _logits(self) -> np.ndarray:
        logits = np.zeros(258, np.float32)
        logits[self.next] = 50
        return logits

    def truncate(self, n: int) -> int:
        del self.ids[n:], self._states[n:]
        if self._states:
            self.said, self.next = self._states[-1]
        return len(self.ids)

    def close(self) -> None:
        self.model.open_sequences -= 1


class Model:
    vocab_size = 258
    threads = 1
    load_seconds = 0.0
    chat_template: str | None = None
    tokenizer = Tokenizer()

    def __init__(self, path: str | Path, **options: Any) -> None:
        self.file = SimpleNamespace(path=Path(path), header={"generation": {}}, tensors={})
        self.options = options
        self.context = options.get("context") or 400
        self.kv, self.act = options.get("kv") or "q8", options.get("act")
        self.song = SONG
        self.halt: int | None = None  # after so many letters it waits until something comes on stdin
        self.open_sequences = 0
        self.fed_ids: list[int] = []
        self.sequences: list[Sequence_] = []

    def sequence(self) -> Sequence_:
        self.open_sequences += 1
        self.sequences.append(Sequence_(self))
        return self.sequences[-1]

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.open_sequences, "a sequence was left open"


def halting(path: str | Path, **options: Any) -> Model:
    """A model that says "one, two" and then halts."""
    model = Model(path, **options)
    model.halt = len("one, two")
    return model


def chatty(path: str | Path, **options: Any) -> Model:
    """A halting model with a chat template."""
    model = halting(path, **options)
    model.chat_template = TEMPLATE
    return model


TEMPLATE = (
    "{% for m in messages %}{{ bos_token }}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant: {% endif %}"
)


def program(load: str, *arguments: str) -> str:
    """Source of a process that is the edgeq command with one of the models above."""
    return (
        f"import sys, edgeq; from tests.cli import fakes; edgeq.load = fakes.{load}\n"
        "import edgeq.__main__ as main\n"
        f"sys.argv = ['edgeq', *{list(arguments)!r}]; sys.exit(main.main())"
    )
