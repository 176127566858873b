"""Broken and hostile .edgeq files: each is refused with one sentence, quickly, and nothing else happens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import formats
from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats.header import parse_header, parse_prelude, parse_tensors
from tests.formats.samples import forge, forge_tensors, split_file, write_sample
from tests.patience import cheap

MUTATIONS = 12_000
SECONDS_MAX = 2.0


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_sample(tmp_path_factory.mktemp("sample") / "sample.edgeq").read_bytes()


def refusal(path: Path, raw: bytes) -> str:
    """The one sentence that refuses this file."""
    path.write_bytes(raw)
    with cheap(SECONDS_MAX), pytest.raises((FormatError, UnsupportedError)) as caught:
        formats.open_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 400
    assert message.isascii() and message.isprintable()
    assert formats.verify(path) == [message]
    return message


# ---- damage ----


def test_cut_at_every_byte_of_the_header_and_every_tensor_edge(tmp_path: Path, raw: bytes) -> None:
    header, rest = split_file(raw)
    data = len(raw) - len(rest)
    cuts = set(range(data + 1)) | {len(raw) - 1}
    for row in header["tensors"]:
        start, end = row["offset"], row["offset"] + row["nbytes"]
        cuts |= {start - 1, start, start + 1, (start + end) // 2, end - 1, end}
    cuts.discard(len(raw))
    path = tmp_path / "cut.edgeq"
    for cut in cuts:
        path.write_bytes(raw[:cut])
        with pytest.raises(FormatError, match="not an .edgeq file|cut off"):
            formats.open_model(path)


def test_every_bit_of_prelude_and_header_is_protected(raw: bytes) -> None:
    """Exhaustive: flipping any one bit of the prelude or the header is noticed."""
    _, rest = split_file(raw)
    head = len(raw) - len(rest)
    for bit in range(head * 8):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, UnsupportedError)):
            check(bytes(broken))


def check(raw: bytes) -> None:
    """All checks of `open_model`, on bytes."""
    prelude = parse_prelude(raw[:64], len(raw))
    header = raw[64 : 64 + prelude.header_bytes]
    if zlib.crc32(header) != prelude.header_crc:
        raise FormatError("crc")
    parse_tensors(parse_header(header), prelude.header_bytes, len(raw))


def test_prelude_fields_with_right_checksums(tmp_path: Path, raw: bytes) -> None:
    _, rest = split_file(raw)
    header = raw[64 : len(raw) - len(rest)]
    path = tmp_path / "bad.edgeq"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"magic": b"EDGEQ\0\n\n"}, "not an .edgeq file: it starts with 45 44 47 45 51 00 0a 0a"),
        ({"magic": b"GGUF\3\0\0\0"}, "not an .edgeq file"),
        ({"read": 0}, "read version 0 and write version 1 break"),
        ({"read": 2, "write": 2}, "needs a newer edgeq"),
        ({"read": 2**32 - 1, "write": 2**32 - 1}, "needs a newer edgeq"),
        ({"write": 0}, "read version 1 and write version 0 break"),
        ({"header_bytes": len(header) - 1}, "CRC-32 does not match"),
        ({"header_bytes": len(raw)}, "only [0-9]+ follow the prelude"),
        ({"header_bytes": (16 << 20) + 1}, "more than the limit"),
        ({"header_bytes": 2**64 - 1}, "more than the limit"),
        ({"file_bytes": len(raw) + 1}, "its prelude says"),
        ({"file_bytes": 0}, "its prelude says 0"),
        ({"file_bytes": 2**64 - 1}, "its prelude says"),
        ({"header_crc": 0}, "header is damaged"),
        ({"reserved": bytes(23) + b"\1"}, "reserved bytes"),
        ({"crc": 1}, "prelude is damaged"),
    ]
    for changes, message in cases:
        assert_match(message, refusal(path, forge(header, rest, **changes)))
    assert_match("bytes after the last tensor", refusal(path, forge(header, rest + b"\0")))
    assert_match("starts with nothing", refusal(path, b""))


def assert_match(pattern: str, message: str) -> None:
    assert re.search(pattern, message), f"{message!r} does not say {pattern!r}"


# ---- hostile JSON ----

BASE = '"format":"edgeq","family":"llama","config":{},"tensors":[]'
BAD_JSON: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not JSON"),
    "a list": (b"[]", "not a JSON object"),
    "a number": (b"1", "not a JSON object"),
    "not UTF-8": (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
    "UTF-16": (json.dumps({}).encode("utf-16-le"), "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "not JSON"),
    "encoded surrogate": (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
    "trailing comma": (b'{"a":1,}', "not JSON"),
    "two values": (b"{}{}", "not JSON"),
    "NUL inside": (b'{"a":"\0"}', "not JSON"),
    "key twice": (f"{{{BASE},\"family\":\"qwen2\"}}".encode(), "key 'family' twice"),
    "key twice, deep": (f'{{{BASE},"source":{{"a":[{{"b":1,"b":1}}]}}}}'.encode(), "key 'b' twice"),
    "key twice by escape": (f'{{{BASE},"source":{{"a":1,"\\u0061":1}}}}'.encode(), "key 'a' twice"),
    "NaN": (f'{{{BASE},"source":{{"a":NaN}}}}'.encode(), "number NaN, which is not JSON"),
    "Infinity": (f'{{{BASE},"source":{{"a":-Infinity}}}}'.encode(), "number -Infinity"),
    "1e400": (f'{{{BASE},"source":{{"a":1e400}}}}'.encode(), "does not fit a float64"),
    "2^63": (f'{{{BASE},"source":{{"a":{1 << 63}}}}}'.encode(), "does not fit 64 bits"),
    "a million digits": (f'{{{BASE},"source":{{"a":{"9" * 1_000_000}}}}}'.encode(), "does not fit 64 bits"),
    "a million decimals": (f'{{{BASE},"source":{{"a":0.{"9" * 1_000_000}}}}}'.encode(), "not fit a float64"),
    "lone surrogate": (f'{{{BASE},"license":"\\ud800"}}'.encode(), "surrogate"),
    "lone surrogate key": (f'{{{BASE},"source":{{"\\udfff":1}}}}'.encode(), "surrogate"),
    "lists 33 deep": (f'{{{BASE},"source":{{"a":{"[" * 31}{"]" * 31}}}}}'.encode(), "deeper than 32"),
    "lists 100 000 deep": (b"[" * 100_000, "deeper than 32"),
    "objects 100 000 deep": (b'{"a":' * 100_000, "deeper than 32"),
    "15 million brackets": (b"[" * 15_000_000, "more than 1048576 commas"),
    "15 million quotes": (b'"' * 15_000_000, "more than 1048576 commas"),
    "open string of quotes": (b'"' + b'\\"' * 1_000_000, "not JSON"),
    "4 million values": (b"[" + b"0," * 4_000_000 + b"0]", "more than 1048576 commas"),
    "16 MiB of spaces": (b" " * (16 << 20), "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json(tmp_path: Path, name: str) -> None:
    raw, message = BAD_JSON[name]
    assert_match(message, refusal(tmp_path / "bad.edgeq", forge(raw, b"")))


def test_json_that_is_odd_but_right(tmp_path: Path) -> None:
    """Brackets in strings are text; a pair of surrogates is a character; 32 levels are allowed."""
    path = tmp_path / "odd.edgeq"
    deep = "[" * 30 + "]" * 30
    source = f'"a":{deep},"b":"\\ud83d\\ude00","c":"\\\\ud800"'
    text = f'{{{BASE},"license":"[[[{"{" * 99}\\"[","source":{{{source}}}}}'
    path.write_bytes(forge(text.encode(), b""))
    with formats.open_model(path) as file:
        assert file.header["source"]["b"] == "\U0001f600" and file.header["source"]["c"] == "\\ud800"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "gguf"}, '"format" is not "edgeq"'),
        ({"format": None}, '"format" is not "edgeq"'),
        ({"family": None}, '"family" is not 1 to 64'),
        ({"family": "../llama"}, '"family" is not 1 to 64'),
        ({"family": "llama\n"}, '"family" is not 1 to 64'),
        ({"config": None}, '"config" is not an object'),
        ({"config": []}, '"config" is not an object'),
        ({"tensors": {}}, '"tensors" is not a list'),
        ({"tokenizer": "x"}, '"tokenizer" is not an object or null'),
        ({"chat_template": {}}, '"chat_template" is not a string or null'),
        ({"generation": 1}, '"generation" is not an object or null'),
        ({"license": True}, '"license" is not a string or null'),
        ({"source": "x"}, '"source" is not an object or null'),
        ({"required": None}, '"required" is not a list'),
        ({"required": [1]}, "not a string"),
        ({"required": ["experts"]}, "requires 'experts', which this version does not know"),
    ],
)
def test_header_fields(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert_match(message, refusal(tmp_path / "bad.edgeq", forge_tensors([], 0, **change)))


@pytest.mark.parametrize("field", ["format", "family", "config", "tensors"])
def test_missing_header_fields(tmp_path: Path, field: str) -> None:
    header = json.loads("{" + BASE + "}")
    del header[field]
    assert_match(f'"{field}" is', refusal(tmp_path / "bad.edgeq", forge(json.dumps(header).encode(), b"")))


# ---- hostile tensor tables ----

ROW: dict[str, Any] = {
    "name": "a", "scheme": "f32", "layout": "plain", "shape": [16], "offset": 0, "nbytes": 64,
    "xxh3": "0" * 32,
}  # fmt: skip
DROP = object()


def tensor_file(*changes: dict[str, Any], data_bytes: int | None = None, pad: int = 0) -> bytes:
    """A file of f32 vectors of 64 bytes, right but for `changes` (offsets count from the first tensor)."""
    guess = 512
    while True:  # offsets hang on the header's length
        rows: list[Any] = []
        for number, change in enumerate(changes):
            row = ROW | {"name": f"t{number}", "offset": 64 * number} | change
            if (
                isinstance(row["offset"], int)
                and not isinstance(row["offset"], bool)
                and row["offset"] < 1 << 62
            ):
                row["offset"] += guess
            rows.append({key: value for key, value in row.items() if value is not DROP})
        raw = forge_tensors(rows, 0)
        first = -(-len(raw) // 64) * 64
        if first == guess:
            size = 64 * len(changes) if data_bytes is None else data_bytes
            return forge_tensors(rows, first - len(raw) + size + pad)
        guess = first


def test_the_tensor_file_of_these_tests_is_right_when_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "good.edgeq"
    path.write_bytes(tensor_file({}, {}, {}))
    with formats.open_model(path) as file:
        assert list(file.tensors) == ["t0", "t1", "t2"]


BAD_TENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "row is a number": (lambda: forge_tensors([1], 0), "tensor number 0 is not a JSON object"),
    "name missing": (lambda: tensor_file({"name": DROP}), "tensor number 0: name None"),
    "name a number": (lambda: tensor_file({"name": 7}), "tensor number 0: name 7"),
    "name empty": (lambda: tensor_file({"name": ""}), "name ''"),
    "name with a space": (lambda: tensor_file({"name": "a b"}), "name 'a b'"),
    "name with a line feed": (lambda: tensor_file({"name": "a\n"}), r"name 'a\\n'"),
    "name with an escape": (lambda: tensor_file({"name": "\x1b[2J"}), r"name '\\x1b\[2J'"),
    "name not ASCII": (lambda: tensor_file({"name": "\u0430"}), r"name '\\u0430'"),
    "name of 257": (lambda: tensor_file({"name": "a" * 257}), "name 'aaa"),
    "name of a million": (lambda: tensor_file({"name": "\u0430" * 1_000_000}), "name '"),
    "name twice": (lambda: tensor_file({}, {"name": "t0"}), "tensor t0 appears twice"),
    "scheme unknown": (lambda: tensor_file({"scheme": "q3"}), "tensor t0: scheme 'q3' is not one of"),
    "scheme a list": (lambda: tensor_file({"scheme": ["f32"]}), '"scheme" is not a string'),
    "scheme missing": (lambda: tensor_file({"scheme": DROP}), '"scheme" is not a string'),
    "layout unknown": (lambda: tensor_file({"layout": "lines64"}), "tensor t0: layout 'lines64' is not one"),
    "layout null": (lambda: tensor_file({"layout": None}), '"layout" is not a string'),
    "layout wrong for scheme": (lambda: tensor_file({"scheme": "q4"}), "tensor t0: scheme q4 needs layout"),
    "layout wrong for shape": (lambda: tensor_file({"layout": "lines16"}), "needs two dimensions, not 1"),
    "shape missing": (lambda: tensor_file({"shape": DROP}), '"shape" is not a list'),
    "shape a number": (lambda: tensor_file({"shape": 16}), '"shape" is not a list'),
    "shape empty": (lambda: tensor_file({"shape": []}), "shape has 0 dimensions"),
    "shape of 5": (lambda: tensor_file({"shape": [1, 1, 1, 4, 4]}), "shape has 5 dimensions"),
    "shape of a million": (lambda: tensor_file({"shape": [1] * 900_000}), "shape has 900000 dimensions"),
    "shape with 0": (lambda: tensor_file({"shape": [0]}), "shape holds 0"),
    "shape with -1": (lambda: tensor_file({"shape": [-1, -16]}), "shape holds -1"),
    "shape with true": (lambda: tensor_file({"shape": [16, True]}), "shape holds True"),
    "shape with 16.0": (lambda: tensor_file({"shape": [16.0]}), r"shape holds 16\.0"),
    "shape with a string": (lambda: tensor_file({"shape": ["16"]}), "shape holds '16'"),
    "shape with null": (lambda: tensor_file({"shape": [None]}), "shape holds None"),
    "shape with 2^31": (lambda: tensor_file({"shape": [1 << 31]}), "shape holds 2147483648"),
    "shape with 2^63 - 1": (lambda: tensor_file({"shape": [(1 << 63) - 1]}), "shape holds 92233720"),
    "shape product wraps 64 bits": (lambda: tensor_file({"shape": [1 << 30] * 4}), "needs 5316911983139663"),
    "shape product wraps to 0": (lambda: tensor_file({"shape": [16, 1 << 30, 1 << 30, 4]}), "needs 29514"),
    "shape larger than nbytes": (lambda: tensor_file({"shape": [17]}), r"is 64, but f32 \[17\] needs 68"),
    "bytes of 64 MiB and one": (
        lambda: tensor_file({"scheme": "bytes", "shape": [(64 << 20) + 1], "nbytes": (64 << 20) + 1}),
        "tensor t0: nbytes is 67108865, more than the limit of 67108864 for bytes"),
    "nbytes too small": (lambda: tensor_file({"nbytes": 60}), "nbytes is 60"),
    "nbytes negative": (lambda: tensor_file({"nbytes": -64}), '"nbytes" is not a natural number'),
    "nbytes a float": (lambda: tensor_file({"nbytes": 64.0}), '"nbytes" is not a natural number'),
    "nbytes true": (lambda: tensor_file({"nbytes": True}), '"nbytes" is not a natural number'),
    "offset missing": (lambda: tensor_file({"offset": DROP}), '"offset" is not a natural number'),
    "offset negative": (lambda: tensor_file({"offset": -100_000}), '"offset" is not a natural number'),
    "offset true": (lambda: tensor_file({"offset": True}), '"offset" is not a natural number'),
    "offset 2^63 - 1": (lambda: tensor_file({"offset": (1 << 63) - 1}), "is out of place"),
    "offset in the header": (lambda: tensor_file({"offset": -128}), "overlaps what is before it"),
    "offset not aligned": (lambda: tensor_file({"offset": 1}, pad=1), "is out of place"),
    "overlap": (lambda: tensor_file({}, {"offset": 0}), "tensor t1 at [0-9]+ overlaps"),
    "overlap by a part": (lambda: tensor_file({}, {"offset": 32}), "tensor t1 at [0-9]+ overlaps"),
    "hole": (lambda: tensor_file({}, {"offset": 128}, data_bytes=192), "tensor t1 at [0-9]+ is out of place"),
    "hole at the start": (lambda: tensor_file({"offset": 64}, data_bytes=128), "t0 at .* is out of place"),
    "order": (lambda: tensor_file({"offset": 64}, {"offset": 0}), "tensor t0 at [0-9]+ is out of place"),
    "past the end": (lambda: tensor_file({}, {}, data_bytes=127), "tensor t1 ends at byte"),
    "trailing byte": (lambda: tensor_file({}, {}, pad=1), "file has 1 bytes after the last tensor"),
    "trailing padding": (lambda: tensor_file({}, pad=64), "file has 64 bytes after the last tensor"),
    "hash missing": (lambda: tensor_file({"xxh3": DROP}), '"xxh3" is not a string'),
    "hash short": (lambda: tensor_file({"xxh3": "0" * 31}), '"xxh3" is not 32'),
    "hash upper case": (lambda: tensor_file({"xxh3": "A" * 32}), '"xxh3" is not 32'),
}  # fmt: skip


def test_a_sparse_tokenizer_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    """2 GiB of nothing on the disk must not become 2 GiB of memory."""
    size = (2 << 30) - 1
    raw = bytearray(tensor_file({"scheme": "bytes", "shape": [size], "nbytes": size}))
    raw[24:32] = (2 << 30).to_bytes(8, "little")  # the file's length
    raw[60:64] = zlib.crc32(raw[:60]).to_bytes(4, "little")
    path = tmp_path / "sparse.edgeq"
    path.write_bytes(raw)
    os.truncate(path, 2 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(
            FormatError, match="nbytes is 2147483647, more than the limit of 67108864 for bytes"
        ):
            formats.open_model(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensor_tables(tmp_path: Path, name: str) -> None:
    make, message = BAD_TENSORS[name]
    assert_match(message, refusal(tmp_path / "bad.edgeq", make()))


@pytest.mark.parametrize("scheme", [row.name for row in formats.SCHEMES.values() if row.planes])
def test_every_scheme_with_shapes_that_do_not_suit_it(tmp_path: Path, scheme: str) -> None:
    """Odd columns are padded, so they suit; dimensions, layouts and sizes that do not are told."""
    path = tmp_path / "bad.edgeq"

    def header(layout: str, *shape: int, nbytes: int = 64) -> bytes:
        return tensor_file({"scheme": scheme, "layout": layout, "shape": list(shape), "nbytes": nbytes})

    assert_match(f"tensor t0: scheme {scheme} needs layout lines16", refusal(path, header("plain", 16, 256)))
    for shape in ((256,), (1, 16, 256), (1, 1, 16, 256)):
        told = refusal(path, header("lines16", *shape))
        assert_match(f"tensor t0: layout lines16 needs two dimensions, not {len(shape)}", told)
    for rows, cols in ((1, 1), (17, 255), (16, 257), ((1 << 31) - 1, 1), ((1 << 31) - 1, (1 << 31) - 1)):
        size = formats.nbytes(scheme, "lines16", (rows, cols))
        for wrong in (size - 1, size + 1, 0):
            told = refusal(path, header("lines16", rows, cols, nbytes=wrong))
            assert_match(rf"tensor t0: nbytes is {wrong}, but {scheme} \[.*\] needs {size}", told)
        told = refusal(path, header("lines16", rows, cols, nbytes=size))
        place = "ends at byte [0-9]+, but the file at" if size < 1 << 20 else "is out of place"
        assert_match(f"tensor t0 .*{place}", told)


# ---- random mutations ----

TOKENS = [
    b"0", b"-1", b"9223372036854775807", b"9223372036854775808", b"1e999", b"NaN", b"null", b"true", b"[]",
    b"{}", b'"', b",", b":", b"[[[[", b"}}}}", b"\\ud800", b"\\u0000", b"\xff", b"\0", b'"q4"', b'"bytes"',
    b'"lines16"',
]  # fmt: skip


def mutate(random: np.random.Generator, raw: bytes) -> bytes:
    """One to four edits: a byte changed, a stretch cut or doubled, a token dropped in, a number replaced."""
    out = bytearray(raw)
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(0, len(out) + 1))
        kind = random.integers(0, 5)
        length = int(random.integers(1, 40))
        if kind == 0 and at < len(out):
            out[at] = random.integers(0, 256)
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = out[at : at + length]
        elif kind == 3:
            out[at:at] = TOKENS[random.integers(0, len(TOKENS))]
        else:
            digits = [i for i, byte in enumerate(out) if 48 <= byte <= 57] or [0]
            at = digits[random.integers(0, len(digits))]
            out[at : at + 1] = TOKENS[random.integers(0, 9)]
    return bytes(out)


def test_mutated_headers_are_refused_or_right(tmp_path: Path, raw: bytes) -> None:
    """Mutants with right checksums reach the parser; whatever it lets through must be whole and readable."""
    random = np.random.default_rng(2024)
    _, rest = split_file(raw)
    header = raw[64 : len(raw) - len(rest)]
    path = tmp_path / "mutant.edgeq"
    accepted = 0
    for number in range(MUTATIONS):
        mutant = mutate(random, header)
        # Half of the mutants keep the data where it was, or length alone would refuse nearly all.
        moved = -(64 + len(mutant)) % 64 + 64 if random.random() < 0.5 else len(rest)
        forged = forge(mutant, rest[len(rest) % 64 :].rjust(moved, b"\0"))
        refused = False
        try:
            with cheap(SECONDS_MAX):
                check(forged)
            accepted += 1
        except (FormatError, UnsupportedError) as error:
            refused = True
            assert "\n" not in str(error) and len(str(error)) < 500
        if refused and number % 16:
            continue
        path.write_bytes(forged)  # the accepted ones and some others as real files
        with contextlib.suppress(FormatError, UnsupportedError), formats.open_model(path) as file:
            for tensor in file.tensors.values():
                assert tensor.data.size == tensor.nbytes
    assert 0 < accepted < MUTATIONS // 2


def test_mutated_preludes_are_refused(raw: bytes) -> None:
    random = np.random.default_rng(7)
    for _ in range(2000):
        mutant = mutate(random, raw[:64]) + raw[64:]
        if mutant == raw:
            continue
        with pytest.raises((FormatError, UnsupportedError)):
            check(mutant)
