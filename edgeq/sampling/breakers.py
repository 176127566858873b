"""DRY's sequence breakers as tokens: where a text that is a breaker can begin, and what then follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from edgeq.sampling.context import Breakers

CHARACTERS, TOKENS = 40, 20  # of a breaker: what is longer counts up to there

_found: WeakKeyDictionary[Any, dict[tuple[str, ...], Breakers]] = WeakKeyDictionary()


def breakers(tokenizer: Any, vocab: int, texts: tuple[str, ...]) -> Breakers:
    """The tokens that begin one of the texts, and for each the tokens that complete it: () where the token
    holds it whole. Found once for a tokenizer: it looks at each token."""
    if tokenizer is None or not texts:
        return {}
    known = _found.setdefault(tokenizer, {})
    if texts not in known:
        known[texts] = _breakers(tokenizer, vocab, texts)
    return known[texts]


def _breakers(tokenizer: Any, vocab: int, texts: tuple[str, ...]) -> Breakers:
    found: dict[int, set[tuple[int, ...]]] = {}
    wanted = [text[:CHARACTERS].encode("utf-8", "surrogateescape") for text in texts]
    rests: dict[bytes, tuple[int, ...]] = {b"": ()}
    for id in range(vocab):
        spelling = tokenizer.token(id)
        for text in wanted:
            for rest in _rests(spelling, text):
                if rest not in rests:
                    ids = tokenizer.encode(rest.decode("utf-8", "replace"), add_bos=False)
                    rests[rest] = tuple(ids[:TOKENS])
                found.setdefault(id, set()).add(rests[rest])
    return {id: sorted(each) for id, each in found.items()}


def _rests(spelling: bytes, text: bytes) -> Iterator[bytes]:
    """What of the text must follow a token for the text to be there: nothing where it is in the token."""
    if text in spelling:
        yield b""
        return
    for length in range(min(len(text) - 1, len(spelling)), 0, -1):
        if spelling.endswith(text[:length]):
            yield text[length:]
