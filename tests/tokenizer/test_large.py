"""Large and hostile vocabularies: read in time or refused; control tokens found exactly."""

from __future__ import annotations

import random
import re

import pytest

from edgeq.errors import FormatError
from edgeq.tokenizer import Spec, load, modelproto
from edgeq.tokenizer.base import RESERVED_CHARS_MAX, RESERVED_MAX, Spellings
from edgeq.tokenizer.modelproto import CONTROL, NORMAL, UNKNOWN, Piece
from tests.patience import cheap

SECONDS_MAX = 2.0


def model(pieces: list[Piece]) -> bytes:
    return modelproto.write_model([Piece("<unk>", 0.0, UNKNOWN), *pieces], unknown=0, prefix=False)


def header(size: int, **more: object) -> dict[str, object]:
    return {"kind": "sentencepiece", "vocab_size": size, **more}


def test_a_vocabulary_of_the_largest_size() -> None:
    size = modelproto.PIECES_MAX
    blob = model([Piece(f"w{i:x}", float(-i), NORMAL) for i in range(size - 1)])
    with cheap(SECONDS_MAX):
        tokenizer = load(header(size), blob)
    assert tokenizer.spelling(size - 1) == f"w{size - 2:x}"
    with pytest.raises(FormatError, match=f"more than {size} pieces"):
        modelproto.read_columns(blob + modelproto.write_piece(Piece("x", 0.0, NORMAL)))


def test_many_control_tokens() -> None:
    count = RESERVED_MAX
    pieces = [Piece(f"<c{i:x}>", 0.0, CONTROL) for i in range(count)]
    blob, spec = model([*pieces, Piece("a", 0.0, NORMAL)]), header(count + 2, control=[*range(1, count + 1)])
    with cheap(SECONDS_MAX):
        tokenizer = load(spec, blob)
        assert tokenizer.split("a<cff><c0>b<cffffff>") == ["a", 256, 1, "b<cffffff>"]
        assert tokenizer.split("<" * 200_000) == ["<" * 200_000]
    spec["control"] = [*range(1, count + 2)]
    with pytest.raises(FormatError, match="65537 control and marker tokens, more than 65536"):
        Spec.from_header(spec)


def test_a_control_token_that_is_too_long() -> None:
    tokenizer = load(header(2, control=[1]), model([Piece("<" * (RESERVED_CHARS_MAX + 1), 0.0, CONTROL)]))
    with pytest.raises(FormatError, match="the control token 1 has 257 characters, more than 256"):
        tokenizer.encode("<", special=True)


def test_spellings_are_found_as_an_alternation_finds_them() -> None:
    source = random.Random(3)

    def word(most: int) -> str:
        return "".join(source.choice("<>|a^]-\\é") for _ in range(source.randrange(most + 1)))

    for _ in range(300):
        words = {word(5) for _ in range(source.randrange(8))} - {""}
        ids = {text: id for id, text in enumerate(sorted(words))}
        found = Spellings({**ids, "": 99})
        pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)")
        for _ in range(20):
            text, start = word(30), source.randrange(6)
            match = pattern.search(text, start)
            assert found.find(text, start) == (match and (*match.span(), ids[match[0]]))


@pytest.mark.parametrize(
    "blob",
    [
        b"\n\x03\n\x01a" * (1 << 20),
        b"\x20\x00" * (1 << 20),
        modelproto.write_message(1, b"\x20\x00" * (1 << 20)),
        b"\n\x03\n\x01a" + modelproto.write_message(1, b"\x20\x00" * (1 << 14)) * 1000,
    ],
    ids=["no scores", "numbers", "one piece", "large pieces"],
)
def test_models_that_no_writer_makes(blob: bytes) -> None:
    with cheap(SECONDS_MAX), pytest.raises(FormatError, match="sentencepiece model"):
        modelproto.read_pieces(blob)


def test_a_message_of_too_many_fields() -> None:
    blob = modelproto.write_message(3, b"\x20\x00" * (2 << 20))
    with cheap(SECONDS_MAX), pytest.raises(FormatError, match="a message of more than"):
        modelproto.read_flag(blob, 3, 3, default=True)
