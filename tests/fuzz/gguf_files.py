"""Mutants of GGUF files: keys, values and tensors changed, and the file built anew around them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any

from edgeq import models
from edgeq.converters import pipeline
from edgeq.converters.gguf import open_file
from edgeq.converters.gguf_words import WORDS as CONFIG_WORDS
from edgeq.converters.recipe import choose
from edgeq.converters.tokenizers import from_gguf
from edgeq.formats import verify
from edgeq.formats.ggml import NUMBERED
from edgeq.formats.gguf import open_gguf
from edgeq.tokenizer import load
from tests.fuzz import mutate, vocabularies
from tests.fuzz.edgeq_files import CONFIG
from tests.fuzz.sparse import parts, sparse, write

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
BOOL, STRING, ARRAY = 7, 8, 9
CONVERTED_BYTES_MAX = 1 << 17


@dataclass(frozen=True)
class Row:
    """A tensor: what the header says, and where its data are."""

    name: bytes
    dims: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class File:
    """A GGUF file in parts. Values are (type, content); an array's content is (element type, [contents])."""

    version: int = 3
    pairs: tuple[tuple[bytes, tuple[int, Any]], ...] = ()
    rows: tuple[Row, ...] = ()
    data: bytes = b""
    data_bytes: int = 0  # with the zeros after `data`

    @property
    def alignment(self) -> int:
        for key, (kind, content) in self.pairs:
            right = key == b"general.alignment" and kind == 4 and type(content) is int
            if right and 0 < content < 1 << 32 and not content & (content - 1):
                return min(content, 1 << 16)
        return 32

    def encoded(self) -> bytes:
        out = bytearray(b"GGUF" + struct.pack("<IQQ", self.version, len(self.rows), len(self.pairs)))
        for key, (kind, content) in self.pairs:
            out += struct.pack("<Q", len(key)) + key + struct.pack("<I", kind & 0xFFFFFFFF)
            _put(out, kind, content)
        for row in self.rows:
            out += struct.pack("<Q", len(row.name)) + row.name + struct.pack("<I", len(row.dims))
            out += struct.pack(f"<{len(row.dims)}QIQ", *row.dims, row.type & 0xFFFFFFFF, row.offset)
        if self.rows:
            out += bytes(-len(out) % self.alignment)
        return sparse(bytes(out) + self.data, self.data_bytes - len(self.data))

    def laid_out(self) -> File:
        """The same with every tensor at its place, one after another."""
        position, rows = 0, []
        for row in self.rows:
            rows.append(replace(row, offset=position & ((1 << 64) - 1)))
            kind = NUMBERED.get(row.type)
            values, nbytes = (kind.columns, kind.nbytes) if kind else (1, 1)
            size = nbytes
            for n in row.dims:
                size *= n
            position += -(-size // values // self.alignment) * self.alignment
        return replace(self, rows=tuple(rows), data=self.data[:position], data_bytes=min(position, 1 << 62))


def _put(out: bytearray, kind: int, content: Any) -> None:
    """Append a value; content that a mutation left without its type is written as nothing."""
    wanted = bytes if kind == STRING else tuple if kind == ARRAY else (int, float)
    if not isinstance(content, wanted):
        content = b"" if kind == STRING else (4, []) if kind == ARRAY else 0
    if kind == STRING:
        out += struct.pack("<Q", len(content)) + content
    elif kind == ARRAY:
        inner, elements = content
        out += struct.pack("<IQ", inner & 0xFFFFFFFF, len(elements))
        for element in elements:
            _put(out, inner, element)
    elif kind in SCALARS:
        out += packed(SCALARS[kind], content)


def packed(code: str, value: Any) -> bytes:
    """A number in a width that may be too small for it."""
    if code in "fd":
        try:
            return struct.pack("<" + code, float(value))
        except (OverflowError, ValueError):
            return struct.pack("<" + code, float("inf"))
    width = struct.calcsize(code)
    value = value if math.isfinite(value) else 0
    return (int(value) & ((1 << 8 * width) - 1)).to_bytes(width, "little")


class Cut(Exception):
    """What is no GGUF file to be taken apart."""


@lru_cache(256)
def parsed(raw: bytes) -> File | None:
    """The parts of a file that is nearly sound; None for others, which are gone on with as bytes."""
    plain, zeros = parts(raw)
    at = 4

    def take(code: str) -> Any:
        nonlocal at
        value = struct.unpack_from("<" + code, plain, at)[0]
        at += struct.calcsize("<" + code)
        return value

    def text() -> bytes:
        nonlocal at
        length = take("Q")
        if length > len(plain) - at:
            raise Cut
        at += length
        return plain[at - length : at]

    def content(kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return text()
        if kind == ARRAY and depth < 5:
            inner, count = take("I"), take("Q")
            if count > len(plain):
                raise Cut
            return inner, [content(inner, depth + 1) for _ in range(count)]
        if kind not in SCALARS:
            raise Cut
        return take(SCALARS[kind])

    try:
        version, rows, pairs = take("I"), take("Q"), take("Q")
        if plain[:4] != b"GGUF" or rows + pairs > 4096:
            raise Cut
        found = []
        for _ in range(pairs):
            key, kind = text(), take("I")
            found.append((key, (kind, content(kind))))
        tensors = []
        for _ in range(rows):
            name, count = text(), take("I")
            if count > 64:
                raise Cut
            tensors.append(Row(name, tuple(take("Q") for _ in range(count)), take("I"), take("Q")))
    except (Cut, struct.error):
        return None
    file = File(version, tuple(found), tuple(tensors))
    start = -(-at // file.alignment) * file.alignment if rows else at
    return replace(file, data=plain[start:], data_bytes=max(len(plain) - start, 0) + zeros)


# ---- seeds ----


def value(content: Any) -> tuple[int, Any]:
    """A Python value as GGUF writers write it."""
    if isinstance(content, bool):
        return BOOL, int(content)
    if isinstance(content, int):
        return (4 if content >= 0 else 5), content
    if isinstance(content, float):
        return 6, content
    if isinstance(content, str):
        return STRING, content.encode()
    return ARRAY, (value(content[0])[0] if content else 4, [value(element)[1] for element in content])


def pairs_of(words: dict[str, Any]) -> tuple[tuple[bytes, tuple[int, Any]], ...]:
    return tuple((key.encode(), value(content)) for key, content in words.items())


def vocabulary(kind: str) -> dict[str, Any]:
    words: dict[str, Any] = {"tokenizer.ggml.model": kind, "tokenizer.ggml.bos_token_id": 1,
                             "tokenizer.ggml.eos_token_id": 2,
                             "tokenizer.ggml.add_bos_token": True}  # fmt: skip
    if kind == "llama":
        return words | {
            "tokenizer.ggml.tokens": vocabularies.WORDS, "tokenizer.ggml.token_type": vocabularies.TYPES,
            "tokenizer.ggml.scores": [-float(i) for i in range(len(vocabularies.WORDS))],
            "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_space_prefix": True,
        }  # fmt: skip
    byte_level = vocabularies.byte_level()["model"]
    tokens = [*byte_level["vocab"], "<|im_end|>", "<think>"]
    return words | {
        "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 2) + [3, 4],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in byte_level["merges"]],
        "tokenizer.ggml.eot_token_id": len(tokens) - 2,
    }  # fmt: skip


@cache
def model(family: str, type: int, kind: str) -> bytes:
    """A whole tiny model."""
    tokens = vocabulary(kind)
    raw = {**CONFIG, "vocab_size": max(len(tokens["tokenizer.ggml.tokens"]), CONFIG["vocab_size"] or 0)}
    config = models.family(family).Config.from_header(raw)
    words: dict[str, Any] = {"general.architecture": family, "general.name": "x", "general.license": "mit"}
    words |= {f"{family}.{key}": raw[word] for key, word in CONFIG_WORDS.items() if raw.get(word) is not None}
    words |= {f"{family}.rope.dimension_count": CONFIG["head_dim"], **tokens}
    rows = []
    for want in models.expected(family, config):
        if want.gguf_name:
            dims = tuple(reversed(want.shape))
            rows.append(Row(want.gguf_name.encode(), dims, type if want.role == "matrix" else 0, 0))
    return (
        File(3, pairs_of(words | {"tokenizer.chat_template": "{{ messages }}"}), tuple(rows))
        .laid_out()
        .encoded()
    )


def seeds() -> list[bytes]:
    mixed = {"a.u8": 255, "a.f": 0.5, "a.list": [1, 2, 3], "a.texts": ["x", "", "é"], "a.bools": [True,
             False],
             "general.alignment": 64, "a.empty": []}  # fmt: skip
    nested = (b"a.nested", (ARRAY, (ARRAY, [(5, [1, 2]), (STRING, [b"x"])])))
    rows = (
        Row(b"v", (3,), 0, 0),
        Row(b"q4", (64, 3), 2, 0),
        Row(b"k", (256, 2), 12, 0),
        Row(b"?", (5,), 99, 0),
    )
    # types of blocks of 32 hold no rows of 48 values, so those matrices are floats
    return [
        File(3, (*pairs_of(mixed), nested), rows).laid_out().encoded(),
        model("llama", 1, "llama"), model("qwen2", 0, "gpt2"), model("qwen3", 30, "gpt2"),
    ]  # fmt: skip


def vocabulary_seeds() -> list[bytes]:
    """Vocabularies without tensors, as tokenizer.ggml.* alone."""
    gemma = {**vocabulary("llama"), "tokenizer.ggml.model": "gemma4",
             "tokenizer.ggml.add_space_prefix": False,
             "tokenizer.ggml.merges": ["▁ a", "▁ t", "e x"]}  # fmt: skip
    kinds = (vocabulary("llama"), vocabulary("gpt2"), gemma)
    return [File(3, pairs_of(words)).encoded() for words in kinds]


# ---- mutants ----


def mutant(random: Random, one: bytes, other: bytes) -> bytes:
    file, lent = parsed(one), parsed(other)
    if file is None or mutate.chance(random, 0.1):
        plain, zeros = parts(one)
        return sparse(mutate.of_bytes(random, plain, other), zeros)
    for _ in range(1 << random.randrange(3)):
        file = (
            _changed_pairs(random, file, lent)
            if mutate.chance(random, 0.6)
            else _changed_rows(random, file, lent)
        )
    if mutate.chance(random, 0.03):
        file = replace(file, version=random.choice((0, 1, 2, 3, 4, 1 << 24)))
    if mutate.chance(random, 0.5):
        file = file.laid_out()
    return file.encoded()


def _changed_pairs(random: Random, file: File, lent: File | None) -> File:
    pairs = list(file.pairs)
    if not pairs:
        return file
    at = random.randrange(len(pairs))
    key, (kind, content) = pairs[at]
    choice = random.random()
    if choice < 0.55:
        pairs[at] = key, _changed_value(random, kind, content)
    elif choice < 0.65:
        del pairs[at]
    elif choice < 0.72:
        pairs.insert(at, (key, (kind, content)))
    elif choice < 0.8:
        pairs[at] = mutate.of_bytes(random, key, b"general.architecture"), (kind, content)
    elif choice < 0.9 and lent and lent.pairs:
        pairs.insert(at, random.choice(lent.pairs))
    else:
        pairs[at] = (
            key,
            value(random.choice((mutate.integer(random) & 0xFFFFFFFF, 0.5, "text", True, [1], ["a"], []))),
        )
    return replace(file, pairs=tuple(pairs))


def _changed_value(random: Random, kind: int, content: Any) -> tuple[int, Any]:
    if mutate.chance(random, 0.08):
        return random.randrange(15), content
    if kind == STRING:
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else ""
        return kind, mutate.of_text(random, text).encode("utf-8", "surrogatepass")
    if kind == ARRAY and isinstance(content, tuple):
        inner, elements = content
        elements = list(elements)
        choice = random.random()
        at = random.randrange(len(elements)) if elements else 0
        if choice < 0.5 and elements:
            elements[at] = _changed_value(random, inner, elements[at])[1]
        elif choice < 0.65:
            del elements[at : at + random.choice((1, 1, 100))]
        elif choice < 0.85 and elements:
            elements[at:at] = [elements[at]] * random.choice((1, 2, 300))
        elif inner in SCALARS and mutate.chance(random, 0.5):
            inner = random.choice(list(SCALARS))
        return kind, (inner, elements)
    if kind == BOOL:
        return kind, random.choice((0, 1, 2, 255))
    number = (
        random.choice(mutate.FLOATS)
        if kind in (6, 12)
        else mutate.integer(random, content if isinstance(content, int) else 0)
    )
    return kind, number


def _changed_rows(random: Random, file: File, lent: File | None) -> File:
    rows = list(file.rows)
    if not rows:
        return file
    at = random.randrange(len(rows))
    row = rows[at]
    choice = random.random()
    if choice < 0.3:
        dims = list(row.dims) or [1]
        dims[random.randrange(len(dims))] = mutate.integer(random, dims[0]) & ((1 << 64) - 1)
        rows[at] = replace(row, dims=tuple(dims))
    elif choice < 0.4:
        rows[at] = replace(
            row, dims=random.choice((row.dims[::-1], (*row.dims, 1), row.dims[:-1], (1, *row.dims)))
        )
    elif choice < 0.55:
        rows[at] = replace(row, type=random.choice((*NUMBERED, 4, 99, 1 << 31)))
    elif choice < 0.7:
        rows[at] = replace(row, offset=mutate.integer(random, row.offset) & ((1 << 64) - 1))
    elif choice < 0.8:
        del rows[at]
    elif choice < 0.85:
        rows.insert(at, row)
    elif choice < 0.95:
        rows[at] = replace(row, name=mutate.of_bytes(random, row.name, b"output.weight"))
    elif lent and lent.rows:
        rows.insert(at, random.choice(lent.rows))
    return replace(file, rows=tuple(rows))


# ---- parsers ----


def read(data: bytes, folder: Path) -> None:
    """The container, then as a checkpoint; a small one that is taken is converted and checked."""
    path = folder / "fuzz.gguf"
    size = write(path, data)
    with open_gguf(path) as file:
        for tensor in file.tensors.values():
            if tensor.type_number in NUMBERED:
                assert len(tensor.data) == tensor.nbytes
    source = open_file(path)
    if size > CONVERTED_BYTES_MAX or sum(t.data.size for t in source.tensors.values()) > CONVERTED_BYTES_MAX:
        return
    target = folder / "fuzz-converted.edgeq"
    pipeline.write(source, target, choose(), None)
    problems = verify(target)
    assert not problems, f"a conversion made a file that is not sound: {problems[0]}"


def read_vocabulary(data: bytes, folder: Path) -> None:
    """The vocabulary of a GGUF file, loaded, and a text through it."""
    path = folder / "vocabulary.gguf"
    write(path, data)
    with open_gguf(path) as file:
        made = from_gguf(file.metadata)
    if made is not None:
        loaded = load(*made)
        loaded.decode(loaded.encode("A text <|im_end|> 12\n"))
        loaded.decode(range(loaded.vocab_size), special=True)
