"""A model's tokens as the grammar library knows them: bytes, made with edgeq's own encoder and checked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from hashlib import sha256
from itertools import product
from typing import Any

from edgeq.errors import UnsupportedError, UsageError
from edgeq.structured.library import library, limited, limits

KEPT_MAX = 64  # compiled grammars

# What the check of a vocabulary encodes: 100 texts of these, with words, numbers, JSON, and other scripts.
BEGINS = ("", "{", ' {"a": ', "Once upon", "\n\n", "3.14", "x = [1, 2]", "\t", '"', "  ")
ENDS = (
    "a",
    " time",
    '": [true, null]}',
    "été",
    "漢字かな",
    "Привет",
    "🙂🙃",
    "</think>",
    "\\n",
    "0123456789",
)


class Vocabulary:
    """The tokens of a model, and the grammars that were compiled for them.

    Control and marker tokens come where a grammar names them, and nowhere as text; every id in `ends` ends an
    answer where the grammar is satisfied.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, ends: Collection[int]) -> None:
        self.tokenizer, self.vocab_size, self.ends = tokenizer, vocab_size, frozenset(ends)
        if not self.ends:
            raise UnsupportedError(
                "the model names no token that ends a text, so no answer could end where its grammar does"
            )
        self._kept: OrderedDict[bytes, Any] = OrderedDict()
        self._lock = threading.Lock()
        spelled = Spelled(tokenizer, vocab_size, min(self.ends))
        self._tokens = library().LLTokenizer(
            library().TokenizerWrapper(spelled), n_vocab=vocab_size, eos_token=sorted(self.ends)
        )
        self._check(spelled)

    def _check(self, spelled: Spelled) -> None:
        """UnsupportedError where texts do not become tokens of just their bytes: masks would be wrong."""
        for begin, end in product(BEGINS, ENDS):
            text = begin + end
            ids = self._tokens.tokenize_str(text)
            data = b"".join(self.tokenizer.token(id) for id in ids)
            if not data == self._tokens.decode_bytes(ids) == text.encode() and spelled.spells(text):
                raise UnsupportedError(
                    f"the model's tokenizer makes tokens of other bytes of {text!r}, so no answer can be "
                    "held to a grammar"
                )

    def matcher(self, grammar: str, what: str = "the grammar") -> Any:
        """A matcher of its own at the beginning of a grammar; UsageError for one that cannot be compiled,
        that takes too long, or that no text satisfies."""
        key = sha256(grammar.encode()).digest()
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        if found is None:
            found = limited(lambda: self._compiled(grammar, what), what)
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
        return found.deep_copy()

    def _compiled(self, grammar: str, what: str) -> Any:
        matcher = library().LLMatcher(self._tokens, grammar, log_level=0, limits=limits())
        if not matcher.is_error():
            matcher.compute_bitmask()
        if matcher.is_error():
            raise UsageError(f"{what} is refused: {sentence(matcher.get_error())}")
        if matcher.is_stopped() and not matcher.is_accepting():
            raise UsageError(f"{what} is refused: no text satisfies it")
        return matcher


class Spelled:
    """What the library asks of a tokenizer: the bytes of its tokens, and how a text is made of them."""

    def __init__(self, tokenizer: Any, vocab_size: int, end: int) -> None:
        own = min(vocab_size, tokenizer.vocab_size)
        unknown = tokenizer.spec.unknown  # is not what it spells
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = end, tokenizer.bos_id
        special = {*tokenizer.reserved_ids, *([] if unknown is None else [unknown])}
        self.special_token_ids = sorted(id for id in special if id < own)
        self.tokens = [tokenizer.token(id) for id in range(own)] + [b""] * (vocab_size - own)
        self._ids = {self.tokens[id]: id for id in reversed(range(own)) if id not in special}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: bytes | str) -> list[int]:
        """The ids of a text: edgeq's own, where they are of just its bytes. An encoder that is made to change
        texts (one that takes repeated spaces away) gives others, in whose place the longest tokens stand."""
        data = text if isinstance(text, bytes) else text.encode()
        ids: list[int] = self._tokenizer.continued(data.decode())
        return ids if b"".join(self.tokens[id] for id in ids) == data else self.longest(data)

    def longest(self, data: bytes) -> list[int]:
        """The longest token at each place, up to a byte that no token begins with."""
        ids: list[int] = []
        at = 0
        while at < len(data):
            sizes = range(min(self._longest, len(data) - at), 0, -1)
            size = next((size for size in sizes if data[at : at + size] in self._ids), 0)
            if not size:
                break
            ids.append(self._ids[data[at : at + size]])
            at += size
        return ids

    def spells(self, text: str) -> bool:
        """Whether the tokens can spell a text."""
        return b"".join(self.tokens[id] for id in self.longest(text.encode())) == text.encode()


_making = threading.Lock()


def vocabulary_of(tokenizer: Any, vocab_size: int, ends: Collection[int]) -> Vocabulary:
    """The vocabulary of a model, made once for its tokenizer."""
    if tokenizer is None:
        raise UsageError("the model file holds no tokenizer, so there is no text to hold to a grammar")
    with _making:
        known = vars(tokenizer).setdefault("_vocabularies", {})  # with it, so that they go when it goes
        key = vocab_size, frozenset(ends)
        if key not in known:
            known[key] = Vocabulary(tokenizer, *key)
        found: Vocabulary = known[key]
        return found


def sentence(message: str) -> str:
    """The library's words in a line, without the text that it was given."""
    kept = message.replace("<non-verbose/>", "").splitlines()
    return " ".join(" ".join(kept).split())[:300]
