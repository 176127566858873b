"""What a reader does with specs and blobs from anywhere, and the stream decoder."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.converters import tokenizers as converter
from edgeq.errors import EdgeqError, FormatError, UnsupportedError, UsageError
from edgeq.tokenizer import BLOB_BYTES_MAX, Spec, Tokenizer, load, modelproto
from edgeq.tokenizer.tokenizer_json import byte_alphabet


@pytest.fixture(scope="module")
def stored(demo_checkpoint: Path) -> tuple[dict[str, Any], bytes]:
    found = converter.from_directory(demo_checkpoint)
    assert found is not None
    return found


def test_streaming_never_prints_half_a_character(demo: Tokenizer) -> None:
    ids = demo.encode("🦙 naïve", add_bos=False)
    stream, out = demo.stream(start=True), []
    for id in ids:
        out.append(stream.push(id))
        assert "\ufffd" not in out[-1]
    assert "".join(out) + stream.flush() == "🦙 naïve"
    assert out[0] == "" and "🦙" in out  # the space before the text, then four bytes of which three wait


def test_a_stream_that_ends_inside_a_character(demo: Tokenizer) -> None:
    cut = demo.encode("🦙", add_bos=False)[:-1]
    stream = demo.stream()
    assert "".join(map(stream.push, cut)).strip() == "" and stream.flush() == "\ufffd"
    assert demo.decode([*cut, *demo.encode("a", add_bos=False)]) == "\ufffd a"


def test_the_space_before_a_text_and_before_an_answer(demo: Tokenizer) -> None:
    once = demo.encode("Once", add_bos=False)
    assert demo.decode(once) == demo.decode([1, *once]) == "Once"
    answer = demo.stream()  # it goes on after a prompt
    assert "".join(map(answer.push, once)) == " Once"
    begin = demo.stream(start=True)
    assert "".join(map(begin.push, [1, *once])) == "Once"


def test_ids_without_text(demo: Tokenizer) -> None:
    assert demo.decode([512, 100_000, -1]) == "" and demo.token(512) == demo.token(-1) == b""


def test_text_that_is_no_unicode(demo: Tokenizer, small: Tokenizer) -> None:
    for tokenizer in (demo, small):
        with pytest.raises(UsageError, match=r"U\+D800 at character 1"):
            tokenizer.encode("a\ud800")


def test_add_bos_without_a_bos_token(small: Tokenizer) -> None:
    assert small.bos_id is None and small.encode("hello", add_bos=False) == small.encode("hello")
    with pytest.raises(UsageError, match="no token that begins a text"):
        small.encode("hello", add_bos=True)


def test_byte_alphabet_is_a_bijection() -> None:
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert byte_alphabet()["Ġ"] == 0x20 and byte_alphabet()["Ċ"] == 0x0A and byte_alphabet()["a"] == 0x61


@pytest.mark.parametrize(
    "change",
    [
        *[
            {"kind": None},
            {"kind": 3},
            {"add_bos": 1},
            {"control": None},
            {"control": [1 << 70]},
            {"unknown": []},
        ],
        *[{"vocab_size": 0}, {"vocab_size": True}, {"vocab_size": 1 << 40}, {"vocab_size": "512"}],
        *[{"vocab_size": 511}, {"vocab_size": 513}, {"control": [300]}, {"prefix_each": "yes"}],
        *[{"bos": 512}, {"bos": -1}, {"bos": 1.0}, {"bos": True}],
        *[{"eos": 2}, {"eos": [512]}, {"eos": ["2"]}, {"eos": [2] * 5000}],
    ],
)
def test_broken_specs(stored: tuple[dict[str, Any], bytes], change: dict[str, Any]) -> None:
    spec, blob = stored
    with pytest.raises(FormatError) as caught:
        load({**spec, **change}, blob)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_unknown_keys_are_ignored_and_unknown_kinds_refused(stored: tuple[dict[str, Any], bytes]) -> None:
    spec, blob = stored
    assert load({**spec, "later": 1}, blob).encode("Once") == [1, 403]
    with pytest.raises(
        UnsupportedError, match="'other' is not known; known are sentencepiece, tokenizer.json"
    ):
        load({**spec, "kind": "other"}, blob)
    wrongs: list[object] = [None, [], "x"]
    for wrong in wrongs:
        with pytest.raises(FormatError, match="not an object"):
            load(wrong, blob)


def test_sizes(stored: tuple[dict[str, Any], bytes]) -> None:
    spec, blob = stored
    with pytest.raises(FormatError, match="0 bytes"):
        load(spec, b"")
    with pytest.raises(FormatError, match=str(BLOB_BYTES_MAX)):
        load(spec, bytes(BLOB_BYTES_MAX + 1))
    with pytest.raises(FormatError, match="more than the 511 rows"):
        load(spec, blob, vocab_size=511)
    assert load(spec, blob, vocab_size=512).vocab_size == 512


def test_a_text_token_cannot_be_called_control(small: Tokenizer) -> None:
    spec = dataclasses.asdict(small.spec)
    header = {key: list(value) if isinstance(value, tuple) else value for key, value in spec.items()}
    blob: bytes = small._document.to_bytes()  # type: ignore[attr-defined]
    with pytest.raises(FormatError, match="token 265 is a control token"):
        load({**header, "control": [265]}, blob)
    tokenizer = load({**header, "control": [259]}, blob)  # "hello", a word of the vocabulary
    assert 259 not in tokenizer.encode("hello") and tokenizer.decode(tokenizer.encode("hello")) == "hello"


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizer.json"])
def test_broken_blobs(stored: tuple[dict[str, Any], bytes], small: Tokenizer, kind: str) -> None:
    """Cut, flipped and random bytes: a sentence, or a tokenizer that works."""
    spec, blob = stored
    if kind == "tokenizer.json":
        fields = dataclasses.asdict(small.spec)
        spec = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
        blob = small._document.to_bytes()  # type: ignore[attr-defined]
    draw = random.Random(1)
    mutants = [blob[: draw.randrange(len(blob))] for _ in range(60)]
    for _ in range(240):
        changed = bytearray(blob)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        mutants.append(bytes(changed))
    refused = 0
    for mutant in [*mutants, b"\0", b"{}", b"null", draw.randbytes(1000)]:
        try:
            tokenizer = load(spec, mutant)
            assert all(0 <= id < tokenizer.vocab_size for id in tokenizer.encode("Once upon <s> a 🦙"))
            tokenizer.decode(range(tokenizer.vocab_size))
        except EdgeqError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused >= 60


def test_model_protos_are_read_as_they_are_written() -> None:
    pieces = [
        modelproto.Piece("<unk>", 0.0, modelproto.UNKNOWN),
        modelproto.Piece("▁a", -1.5, modelproto.NORMAL),
        modelproto.Piece("<s>", 0.0, modelproto.CONTROL),
        modelproto.Piece("é" * 100, -2.0, modelproto.USER_DEFINED),
    ]
    model = modelproto.write_model(pieces, unknown=0, prefix=True)
    assert modelproto.read_pieces(model) == pieces
    assert modelproto.read_flag(model, 3, 3, default=False) is True
    assert modelproto.read_flag(model + modelproto.PREFIX[False], 3, 3, default=True) is False
    shorter = modelproto.replace_pieces(model, pieces[:2])
    assert (
        modelproto.read_pieces(shorter) == pieces[:2]
        and modelproto.read_flag(shorter, 3, 4, default=True) is False
    )


@pytest.mark.parametrize(
    "data",
    [
        *[b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x7f", b"\x0a\x02\x0a", b"\x0b\x00", b"\x08\x01", b"\xff" * 20],
        *[
            b"\x0a\x03\x0a\x01\xff",
            b"\x0a\x08\x0a\x01a\x15\x00\x00\xc0\x7f",
            b"\x0a\x05\x0a\x01a\x18\x09",
            b"\x02\x00",
        ],
    ],
)
def test_broken_model_protos(data: bytes) -> None:
    with pytest.raises(FormatError):
        modelproto.read_pieces(data)


def test_spec_round_trip() -> None:
    spec = Spec("sentencepiece", 10, bos=1, eos=(2, 3), control=(1, 2, 3), unknown=0)
    header = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(spec).items()
    }
    assert Spec.from_header(header) == spec


WORDS = [
    "<|end|>",
    "<|start|>",
    "<think>",
    "<s>",
    "</s>",
    "<unk>",
    "<0x41>",
    "<|",
    "|>",
    "hello",
    " ",
    "\n",
    "🦙",
]
TEXTS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=12).map("".join)


@settings(max_examples=300)
@given(text=TEXTS.filter(lambda text: "\u2581" not in text))
def test_any_text(small: Tokenizer, demo: Tokenizer, text: str) -> None:
    """No reserved id comes from a text; a byte-level vocabulary gives it back; streaming is decoding."""
    for tokenizer in (small, demo):
        ids = tokenizer.encode(text, add_bos=False)
        assert tokenizer.reserved_ids.isdisjoint(ids)
        stream = tokenizer.stream(start=True)
        assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)
        parts = tokenizer.split(text)
        spelled = [part if isinstance(part, str) else tokenizer.spelling(part) for part in parts]
        assert "".join(spelled) == text
        found = [
            id for id in tokenizer.encode(text, special=True, add_bos=False) if id in tokenizer.reserved_ids
        ]
        assert found == [part for part in parts if isinstance(part, int)]
    assert small.decode(small.encode(text)) == text


@settings(max_examples=200)
@given(ids=st.lists(st.integers(0, 511), max_size=40), special=st.booleans())
def test_any_ids(small: Tokenizer, demo: Tokenizer, ids: list[int], special: bool) -> None:
    """Whatever a model says has a text, and the stream's is the same."""
    for tokenizer in (small, demo):
        stream = tokenizer.stream(start=True, special=special)
        out = [*map(stream.push, ids), stream.flush()]
        assert "".join(out) == tokenizer.decode(ids, special=special)
        data = b"".join(tokenizer.token(id) for id in ids if special or id not in tokenizer.control_ids)
        whole = data.decode("utf-8", "replace")
        assert "".join(out) in (whole, whole.removeprefix(" "))
