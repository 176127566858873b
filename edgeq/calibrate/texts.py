"""Calibration text: read, cleared of repetitions, mixed, and told what it covers.

    documents = deduplicate([*default_texts(), *read(["mine.txt", "chats.jsonl"])])
    print(coverage(mix(documents, bytes=500_000, seed=1)).to_json())

Everything is the same on every machine: order comes from SHA-256, not from a generator of random numbers.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.arguments import is_int, whole
from edgeq.calibrate.documents import Document, Message, default_texts, encoded, read, write
from edgeq.errors import UsageError, shown

if TYPE_CHECKING:
    from edgeq.tokenizer import Tokenizer

__all__ = [
    "Coverage",
    "Document",
    "Message",
    "Part",
    "coverage",
    "deduplicate",
    "default_texts",
    "encoded",
    "mix",
    "read",
    "text_sha256",
    "write",
]


# ---- mixing ----
def mix(documents: Sequence[Document], bytes: int | None = None, seed: int = 0) -> list[Document]:
    """Documents of all domains in turn, up to so many bytes of text; None takes all.

    The next document is of the domain that has the fewest bytes so far, so every beginning of the result is
    balanced, and a domain that has no more leaves its part to the others. Within a domain the order follows
    from the seed and from what the documents say, whatever order they come in. None is cut: one that does not
    fit in what is left is passed over. UsageError where none fits, and for numbers out of range.
    """
    if not is_int(seed):
        raise UsageError(f"seed is {shown(seed)}, but a whole number is needed.")
    left = sum(document.nbytes for document in documents) if bytes is None else whole("bytes", bytes)
    waiting: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda document: _rank(document, int(seed)), reverse=True):
        waiting.setdefault(document.domain, []).append(document)
    taken = dict.fromkeys(waiting, 0)
    mixed = []
    while waiting:
        domain = min(waiting, key=lambda name: (taken[name], name))
        document = waiting[domain].pop()
        if document.nbytes <= left:
            left -= document.nbytes
            taken[domain] += document.nbytes
            mixed.append(document)
        if not waiting[domain]:
            del waiting[domain]
    if documents and not mixed:
        least = min(document.nbytes for document in documents)
        raise UsageError(f"no document fits in {bytes} bytes: the smallest has {least}")
    return mixed


def _rank(document: Document, seed: int) -> bytes:
    """The place of a document in its domain."""
    return hashlib.sha256(f"{seed}\n".encode() + encoded([document])).digest()


# ---- repetitions ----
SHINGLE = 16  # letters and digits in a row
SAMPLED = 8  # one shingle of so many is looked at
SHINGLES_MIN = 8  # looked at, below which only the same text is a repetition
REPEATED = 0.6  # share of a document's shingles that earlier ones have
_MULTIPLIERS = [pow(0x9E3779B97F4A7C15, power, 1 << 64) for power in range(1, SHINGLE + 1)]


def deduplicate(documents: Sequence[Document]) -> list[Document]:
    """The documents without those that repeat earlier ones, in their order.

    A repetition says the same but for case, space and punctuation, or has at least 0.6 of its runs of 16
    letters in documents kept before (of the runs a sample is looked at, chosen by their hash).
    """
    kept, texts = [], set()
    seen: set[int] = set()
    for document in documents:
        letters = re.sub(r"[\W_]+", "", document.plain.casefold()) or document.plain
        same = hashlib.sha256(letters.encode()).digest()
        runs = _shingles(letters)
        if same in texts or (
            len(runs) >= SHINGLES_MIN and sum(run in seen for run in runs) >= REPEATED * len(runs)
        ):
            continue
        texts.add(same)
        seen.update(runs)
        kept.append(document)
    return kept


def _shingles(letters: str) -> list[int]:
    """The sampled hashes of all runs of SHINGLE characters, each once."""
    points: NDArray[np.uint64] = np.frombuffer(letters.encode("utf-32-le"), "<u4").astype(np.uint64)
    count = len(points) - SHINGLE + 1
    if count < 1:
        return []
    hashes = np.zeros(count, np.uint64)
    for at, multiplier in enumerate(_MULTIPLIERS):
        hashes += points[at : at + count] * np.uint64(multiplier)
    hashes ^= hashes >> np.uint64(29)  # wraps modulo 2^64, the same everywhere
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    found: list[int] = np.unique(hashes[hashes % np.uint64(SAMPLED) == 0]).tolist()
    return found


# ---- coverage ----
SCRIPTS = {  # a script by the word that names of its characters begin with
    word: word.capitalize()
    for word in (
        "LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN", "HEBREW", "ARABIC", "ETHIOPIC", "DEVANAGARI",
        "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA",
        "THAI", "LAO", "TIBETAN", "MYANMAR", "KHMER", "MONGOLIAN", "HANGUL", "HIRAGANA", "KATAKANA",
    )
} | {"CJK": "Han"}  # fmt: skip
_CODE = re.compile(
    r"""(?:
        [})\]]+[;,)]* | [<]/?\w+[^<>]*>.* | .*[{};\\] | .*[(\[,] | [^(]*\w\(.*\)[:;]?
      | (?:\#include|\#define|\#!|//|/\*|\*/|--\ |@\w).*
      | .*(?:\s|\b)(?:[-+*/|&]?=|==|!=|=>|->|:=|&&|\|\|)(?:\s.*|)
      | (?:def|class|for|while|if|elif|with|except|match|fn|func|case)\b.*:
      | (?:return|import|raise|let|const|var)\ [^.!?]*
      | (?:from\ \S+\ import|else|try|do|then|fi|done|end|pass|break|continue)\b.*
      | (?:"[\w.-]+"|[\w.-]+)\s*:\s*\S{1,30} | -\ [\w.-]+:\s.* | [\w./%-]+:
      | .*\$[({\w].* | .*\s-{1,2}[a-z].*
    )""",
    re.VERBOSE,
)
CODE_SHARE = 0.5  # share of a document that is in such lines, from which it counts as code
CODE_CHARS = 160  # of a line, above which it is none of code


@dataclass(frozen=True)
class Part:
    """A domain's part of a text."""

    domain: str
    documents: int
    bytes: int  # of UTF-8
    characters: int


@dataclass(frozen=True)
class Coverage:
    """What a text consists of."""

    documents: int
    chats: int  # documents that are dialogues
    bytes: int  # of the texts in UTF-8, of a dialogue of what its messages say
    characters: int
    parts: tuple[Part, ...]  # by domain
    scripts: dict[str, int]  # letters and marks of each writing system, most first
    code_share: float  # of the bytes, in documents of which most lines look like code
    text_sha256: str
    tokens: int | None = None  # None without a tokenizer
    vocabulary: int | None = None  # ids of the tokenizer
    vocabulary_share: float | None = None  # of these, how many occur

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def coverage(documents: Sequence[Document], tokenizer: Tokenizer | None = None) -> Coverage:
    """What the documents consist of, and with a tokenizer what they are in its tokens (without a chat
    template and BOS). UsageError where there are none.
    """
    if not documents:
        raise UsageError("there are no documents to tell of.")
    domains: dict[str, list[Document]] = {}
    for document in documents:
        domains.setdefault(document.domain, []).append(document)
    parts = tuple(
        Part(name, len(of), sum(each.nbytes for each in of), sum(len(each.plain) for each in of))
        for name, of in sorted(domains.items())
    )
    characters: Counter[str] = Counter()
    code = tokens = 0
    ids: set[int] = set()
    for document in documents:
        plain = document.plain
        characters.update(plain)
        code += document.nbytes if looks_like_code(plain) else 0
        if tokenizer is not None:
            found = tokenizer.encode(plain, add_bos=False)
            tokens += len(found)
            ids.update(found)
    total = sum(part.bytes for part in parts)
    told = Coverage(
        documents=len(documents),
        chats=sum(bool(document.messages) for document in documents),
        bytes=total,
        characters=sum(part.characters for part in parts),
        parts=parts,
        scripts=_scripts(characters),
        code_share=code / total,
        text_sha256=text_sha256(documents),
    )
    if tokenizer is None:
        return told
    vocabulary = tokenizer.vocab_size
    return replace(told, tokens=tokens, vocabulary=vocabulary, vocabulary_share=len(ids) / vocabulary)


def text_sha256(documents: Sequence[Document]) -> str:
    """The SHA-256, in hexadecimal, of the file that `write` makes of the documents."""
    return hashlib.sha256(encoded(documents)).hexdigest()


def looks_like_code(text: str) -> bool:
    """Whether most of it is in lines that end, begin or read as those of programs and of their data do."""
    lines = [line.strip() for line in text.split("\n")]
    code = sum(len(line) for line in lines if len(line) <= CODE_CHARS and _CODE.fullmatch(line))
    return code >= CODE_SHARE * max(1, sum(map(len, lines)))


def _scripts(characters: Counter[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for character, count in characters.items():
        if unicodedata.category(character)[0] in "LM":
            words = re.split(r"[ -]", unicodedata.name(character, "")) + [""]
            word = words[words[0] in ("FULLWIDTH", "HALFWIDTH")]
            found[SCRIPTS.get(word, "Other")] += count
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
