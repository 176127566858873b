"""A model that recites: the commands around it can be tested in milliseconds, without kernels.

After a prompt (a feed of several tokens) it says SONG letter by letter and then the end token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeq.errors import UsageError

BOS, EOS = 256, 257
SONG = "one, two, three, four."


class Tokenizer:
    """Bytes are tokens; <s> and </s> are the two ids above them."""

    bos_id = BOS
    eos_ids = frozenset({EOS})
    vocab_size = 258

    def encode(self, text: str, *, add_bos: bool | None = None, special: bool = False) -> list[int]:
        head = [] if add_bos is False else [BOS]
        return head + list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(id for id in ids if id < 256).decode(errors="replace")

    def token(self, id: int) -> str:
        return {BOS: "<s>", EOS: "</s>"}.get(id) or chr(id)

    def id(self, token: str) -> int | None:
        return {"<s>": BOS, "</s>": EOS}.get(token)

    def stream(self) -> Any:
        return SimpleNamespace(push=lambda id: chr(id), flush=lambda: "")


class Sequence_:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.ids: list[int] = []
        self.said = 0
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
        time.sleep(self.model.delay)
        self.said = 0 if len(ids) > 1 else self.said + 1
        self.ids += ids
        self.fed.append(len(ids))
        song = self.model.song
        logits = np.zeros(258, np.float32)
        logits[ord(song[self.said]) if self.said < len(song) else EOS] = 50
        return logits

    def truncate(self, n: int) -> None:
        del self.ids[n:]

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
        self.song = SONG
        self.delay = 0.0
        self.open_sequences = 0
        self.sequences: list[Sequence_] = []

    def sequence(self) -> Sequence_:
        self.open_sequences += 1
        self.sequences.append(Sequence_(self))
        return self.sequences[-1]

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.open_sequences, "a sequence was left open"


def slow(path: str | Path, **options: Any) -> Model:
    """A model that takes a second for every 20 tokens and has much to say."""
    model = Model(path, **options)
    model.delay, model.song = 0.05, SONG * 10
    return model
