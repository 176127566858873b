"""What every tokenizer does the same way: the spec, control tokens, guards, and decoding to whole characters.

Three classes of tokens matter here:

* plain tokens, which any text may become;
* control tokens (`<s>`, `<|im_end|>`): they never come from a text unless the caller asks with special=True,
  and they are no part of decoded text unless the caller asks with special=True;
* marker tokens (`<think>`, `<tool_call>`): as control tokens on the way in, as plain tokens on the way out.
"""

from __future__ import annotations

import codecs
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from edgeq.errors import FormatError, UsageError

BLOB_BYTES_MAX = 64 << 20
BLOB_MARKS_MAX = 1 << 22  # , : [ { in a tokenizer.json: Gemma 3's, the largest in use, has 2.6 million
TOKENS_MAX = 1 << 19  # twice the largest vocabularies in use
EOS_MAX = 1024  # ids that may end a text
RESERVED_MAX = 1 << 16  # control and marker tokens together
RESERVED_CHARS_MAX = 256  # of one's spelling
# What tokens swallow: Unicode's white space, as the libraries have it. str.strip takes U+001C to U+001F, too.
WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


@dataclass(frozen=True)
class Spec:
    """header["tokenizer"], checked: every id is a Python int in 0 … vocab_size-1."""

    kind: str
    vocab_size: int  # ids known to the tokenizer are 0 … vocab_size-1
    bos: int | None = None  # the token that begins a text
    eos: tuple[int, ...] = ()  # the tokens that end one, the chief one first
    add_bos: bool = False  # does a text begin with bos when the caller does not say
    behind: tuple[int, ...] = ()  # the tokens that end a text whose vector is asked for; `encode` adds none
    control: tuple[int, ...] = ()
    markers: tuple[int, ...] = ()
    lstrip: tuple[int, ...] = ()  # control or marker tokens that swallow the whitespace before them …
    rstrip: tuple[int, ...] = ()  # … or after them
    leading_space: bool = False  # encoding puts a space before a text, decoding takes it away
    prefix_each: bool = True  # … and encoding does so after each control token too
    byte_level: bool = False  # tokens are spelled in the byte-level alphabet, else with U+2581 for a space …
    word_pieces: bool = False  # … or as words, and what goes on with one with ## before it
    unknown: int | None = None  # the token for text that no other token spells

    @classmethod
    def from_header(cls, header: object) -> Spec:
        """Checks an untrusted header value; unknown keys are ignored. Raises FormatError."""
        if not isinstance(header, dict):
            raise FormatError(f"the header's tokenizer is a {type(header).__name__}, not an object")
        kind, vocab_size = header.get("kind"), header.get("vocab_size")
        if not isinstance(kind, str):
            raise FormatError("the header's tokenizer.kind is not a string")
        if type(vocab_size) is not int or not 0 < vocab_size <= TOKENS_MAX:
            raise FormatError(f"the header's tokenizer.vocab_size is not an integer in 1 … {TOKENS_MAX}")
        values: dict[str, object] = {"kind": kind, "vocab_size": vocab_size}
        for field in fields(cls)[2:]:
            if field.name not in header:
                continue
            value = header[field.name]
            if field.type == "bool":
                good = isinstance(value, bool)
            elif field.type == "int | None":
                good = value is None or _is_id(value, vocab_size)
            else:
                good = isinstance(value, list) and all(_is_id(id, vocab_size) for id in value)
                value = tuple(value) if good else ()
            if not good:
                raise FormatError(
                    f"the header's tokenizer.{field.name} is not a {_WORDS[str(field.type)]} "
                    f"of a vocabulary of {vocab_size}"
                )
            values[field.name] = value
        spec = cls(**values)  # type: ignore[arg-type]
        reserved = len({*spec.control, *spec.markers})
        if reserved > RESERVED_MAX:
            raise FormatError(
                f"the header's tokenizer has {reserved} control and marker tokens, more than {RESERVED_MAX}"
            )
        if len(spec.eos) > EOS_MAX:
            raise FormatError(f"the header's tokenizer.eos has {len(spec.eos)} ids, more than {EOS_MAX}")
        return spec


_WORDS = {"bool": "true or false", "int | None": "token id or null", "tuple[int, ...]": "list of token ids"}


def _is_id(value: object, vocab_size: int) -> bool:
    return type(value) is int and 0 <= value < vocab_size


class Spellings:
    """Tokens by their spelling, to be found in a text. Raises FormatError for one that is too long."""

    def __init__(self, ids: dict[str, int]) -> None:
        self._ids = {word: id for word, id in ids.items() if word}
        lengths: dict[str, set[int]] = {}
        for word, id in self._ids.items():
            if len(word) > RESERVED_CHARS_MAX:
                raise FormatError(
                    f"the control token {id} has {len(word)} characters, more than {RESERVED_CHARS_MAX}"
                )
            lengths.setdefault(word[0], set()).add(len(word))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        self._first = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

    def find(
        self, text: str, start: int, trusted: Callable[[int, int], bool] | None = None
    ) -> tuple[int, int, int] | None:
        """(start, end, id) of the leftmost, longest spelling in text[start:] that is trusted."""
        while self._first is not None and (match := self._first.search(text, start)):
            start = match.start()
            for length in self._lengths[match[0]]:
                id = self._ids.get(text[start : start + length])
                end = min(start + length, len(text))  # near the text's end a slice is shorter
                if id is not None and (trusted is None or trusted(start, end)):
                    return start, end, id
            start += 1
        return None


class Tokenizer(ABC):
    """Text to ids and back. Thread-safe: nothing changes after loading but caches of equal values."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.bos_id = spec.bos
        self.eos_ids = frozenset(spec.eos)
        self.eos_id = spec.eos[0] if spec.eos else None  # the one that templates call eos_token
        self.vocab_size = spec.vocab_size
        # the unknown token may come from text, unless it is also one that begins or ends texts
        self.unknown_id = None if spec.unknown in (spec.bos, *spec.eos) else spec.unknown
        self.control_ids = frozenset(spec.control)
        self.reserved_ids = self.control_ids | frozenset(spec.markers)  # no text becomes one of these

    # what a kind defines ---------------------------------------------------------------------------------

    @abstractmethod
    def _plain(self, text: str, first: bool) -> list[int]:
        """The ids of a text without control tokens; `first`: a space may be put before it."""

    @abstractmethod
    def spelling(self, id: int) -> str:
        """How the vocabulary spells the token (`▁Once`, `ĠOnce`, `<0x0A>`, `<s>`)."""

    @abstractmethod
    def _bytes(self, id: int) -> bytes:
        """The UTF-8 bytes that a plain token stands for; a token may hold a part of a character."""

    @abstractmethod
    def id(self, token: str) -> int | None:
        """The id of the token so spelled, None when there is none."""

    # text to ids -----------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_bos: bool | None = None, special: bool = False) -> list[int]:
        """The ids of a text.

        special=False: the text is only text, a `<|im_end|>` in it becomes the tokens of its characters.
        special=True: control and marker tokens spelled in the text become their ids.
        add_bos: begin with the bos token; None: as the model was trained.
        Raises UsageError for a text that is no valid Unicode.
        """
        return self.encode_parts(self.split(text) if special else [text], add_bos=add_bos)

    def encode_parts(self, parts: Sequence[str | int], *, add_bos: bool | None = None) -> list[int]:
        """The ids of a text whose control tokens are known: an int is an id, a str is plain text."""
        ids: list[int] = []
        first = True
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            elif part:
                _check_text(part)
                found = self._plain(part, first or self.spec.prefix_each)
                ids += self._without_reserved(found, text_limit=len(part) + 8)
            first = False
        if self.spec.add_bos if add_bos is None else add_bos:
            if self.bos_id is None:
                if add_bos:
                    raise UsageError("add_bos is true, but the tokenizer has no token that begins a text")
            elif not parts or parts[0] != self.bos_id:
                ids.insert(0, self.bos_id)
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise FormatError(f"the tokenizer made the id {max(ids)} of a vocabulary of {self.vocab_size}")
        return ids

    def continued(self, text: str) -> list[int]:
        """The ids of a text that goes on behind another: plain text, with no bos token and no space
        before."""
        if not text:
            return []
        _check_text(text)
        return self._without_reserved(self._plain(text, False), text_limit=len(text) + 8)

    def split(self, text: str, trusted: Callable[[int, int], bool] | None = None) -> list[str | int]:
        """Cuts a text at the control and marker tokens spelled in it: parts for `encode_parts`.

        The leftmost, longest spelling wins. trusted(start, end) says whether text[start:end] may be one;
        where it may not, a shorter one at the same place still may.
        """
        parts: list[str | int] = []
        begin = search = 0
        while found := self._reserved.find(text, search, trusted):
            start, end, id = found
            before = text[begin:start]
            parts += [before.rstrip(WHITE) if id in self.spec.lstrip else before, id]
            begin = search = end
            if id in self.spec.rstrip:
                begin = search = len(text) - len(text[begin:].lstrip(WHITE))
        parts.append(text[begin:])
        return [part for part in parts if part != ""]

    @cached_property
    def _reserved(self) -> Spellings:
        return Spellings({self.spelling(id): id for id in sorted(self.reserved_ids, reverse=True)})

    def _without_reserved(self, ids: list[int], text_limit: int) -> list[int]:
        """Spells reserved ids that a library found in plain text with shorter tokens."""
        if self.reserved_ids.isdisjoint(ids):
            return ids
        out: list[int] = []
        for id in ids:
            word = self.spelling(id)
            if id not in self.reserved_ids or id == self.unknown_id:
                out.append(id)
            elif 1 < len(word) <= text_limit:
                for part in (word[: len(word) // 2], word[len(word) // 2 :]):
                    out += self._without_reserved(self._plain(part, False), len(part))
            else:
                raise FormatError(f"the tokenizer makes the control token {id} from plain text")
        return out

    # ids to text -----------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of ids that begin a text; control tokens are left out unless special. Bytes that are no
        UTF-8 become U+FFFD; ids outside the vocabulary (padding rows of a model) have no text."""
        stream = self.stream(special=special, start=True)
        return "".join([*map(stream.push, ids), stream.flush()])

    def stream(self, *, special: bool = False, start: bool = False) -> StreamDecoder:
        """A decoder that takes one id at a time. start=False: the ids go on after a prompt, so that a space
        before the first of them is kept; start=True: they begin a text, as in `decode`."""
        return StreamDecoder(self, special=special, start=start)

    def token(self, id: int) -> bytes:
        """The bytes that a token stands for (a control token: its spelling); none outside the vocabulary."""
        if not 0 <= id < self.vocab_size:
            return b""
        return self.spelling(id).encode("utf-8", "replace") if id in self.reserved_ids else self._bytes(id)


class StreamDecoder:
    """Ids in, text out, never half a character: `"".join(pushes) + flush()` is the decoded whole."""

    def __init__(self, tokenizer: Tokenizer, *, special: bool, start: bool) -> None:
        self._tokenizer = tokenizer
        self._hidden = frozenset() if special else tokenizer.control_ids
        self._drop_space = start and tokenizer.spec.leading_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that became complete with this id; often empty."""
        if id in self._hidden:
            return ""
        data = self._tokenizer.token(id)
        if self._drop_space and data:
            data = data.removeprefix(b" ")
            self._drop_space = False
        return self._utf8.decode(data)

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that never became complete."""
        return self._utf8.decode(b"", final=True)


def _check_text(text: str) -> None:
    """Libraries take UTF-8 only. Raises UsageError for a lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the text holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
            "which no UTF-8 text can hold"
        ) from None
