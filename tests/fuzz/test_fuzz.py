"""A short run of the fuzzer over every parser: the corpus, and mutants of one seed."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from edgeq.errors import EdgeqError, FormatError
from edgeq.formats import verify
from tests.conftest import ROOT
from tests.fuzz import edgeq_files, gguf_files, mutate, vocabularies, worker
from tests.fuzz.parsers import PARSERS, Parser
from tests.fuzz.sparse import parts, sparse, write

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the fuzzer watches its workers by Linux's means"
)


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_every_parser_takes_or_refuses(tmp_path: Path) -> None:
    ended = fuzz("--json", "--jobs", str(min(4, os.cpu_count() or 1)), "--faults", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    for name, parser in PARSERS.items():
        assert told[name]["inputs"] >= parser.count, name
        assert told[name]["accepted"] > 0, (
            f"no mutant of {name} gets through, so the deep checks are not reached"
        )
        assert name == "tuned" or told[name]["outcomes"] > 3, name
    assert not list(tmp_path.iterdir())


def fed(read: object, count: int = 3) -> worker.Tally:
    """What a worker says of a parser that is this function."""
    parser = Parser("made", lambda: [b"seed"], lambda random, one, other: b"mutant", read, count)  # type: ignore[arg-type]
    return worker.run(parser, count, "0", kept=False)


def crash(data: bytes, folder: Path) -> None:
    if data == b"mutant":
        os.kill(os.getpid(), signal.SIGKILL)


def hang(data: bytes, folder: Path) -> None:
    while data == b"mutant":
        pass


def hoard(data: bytes, folder: Path) -> None:
    if data == b"mutant":
        bytearray(300 << 20)


def wander(data: bytes, folder: Path) -> None:
    json.loads("{}")[data.decode()]


def shout(data: bytes, folder: Path) -> None:
    if data == b"mutant":
        os.write(2, b"panicked")


def ramble(data: bytes, folder: Path) -> None:
    raise EdgeqError("two\nlines")


@pytest.mark.parametrize(
    ("read", "words", "data"),
    [
        (crash, "ends the process: SIGKILL", b"mutant"),
        (hang, "takes more than", b"mutant"),
        (hoard, " MiB", b"mutant"),
        (wander, "raises KeyError", b"seed"),
        (shout, "makes a library write to stderr: 'panicked'", b"mutant"),
        (ramble, "is refused with more than one printable line", b"seed"),
    ],
)
def test_what_breaks_the_rule_is_found(
    read: object, words: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if read is hang:
        monkeypatch.setattr(worker, "CPU_SECONDS_KILLED", 0.5)
    monkeypatch.setattr(worker, "FAULTS_MAX", 2)
    found = fed(read, count=1).faults
    assert found and words in found[0].what and found[0].data == data


def test_mutants_are_laid_out_right(tmp_path: Path) -> None:
    """Seeds survive being laid out anew, and most mutants have the size that they say."""
    random = Random(5)
    for seed in (edgeq_files.model_bytes("llama"), edgeq_files.model_bytes("qwen2", "q8", True)):
        header, data = edgeq_files.split(seed)
        moved = {**header, "license": "x" * 1000, "tensors": header["tensors"][::-1]}
        write(tmp_path / "a.edgeq", edgeq_files.laid_out(moved, data))
        assert all(
            "checksum" in p or "XXH3" in p or "finite" in p or "padding" in p
            for p in verify(tmp_path / "a.edgeq")
        )
    for seed in gguf_files.seeds():
        file = gguf_files.parsed(seed)
        assert file is not None and file.encoded() == seed and file.laid_out().encoded() == seed
    whole = {edgeq_files.mutant(random, seed, seed) for seed in edgeq_files.seeds() for _ in range(50)}
    right = 0
    for data in whole:
        size = write(tmp_path / "b.edgeq", data)
        raw, zeros = parts(data)
        assert size == len(raw) + zeros
        right += len(raw) > 64 and struct.unpack_from("<Q", raw, 24)[0] == size
    assert right > len(whole) * 0.8


def test_sparse_inputs() -> None:
    assert parts(sparse(b"abc", 0)) == (b"abc", 0) and parts(sparse(b"abc", 7)) == (b"abc", 7)


def test_mutations_are_those_of_the_seed_and_change_no_value() -> None:
    value = {"a": [1, {"b": 2.5}], "c": "text"}
    before = json.dumps(value)
    first, second = (
        [mutate.of_json(random, value, value) for _ in range(200)] for random in (Random(1), Random(1))
    )
    assert json.dumps(first) == json.dumps(second) and json.dumps(value) == before
    assert len({json.dumps(each) for each in first}) > 50


def test_what_the_fuzzer_found(tmp_path: Path) -> None:
    """Inputs that raised something of another library, or made it write to stderr."""
    made = json.loads(vocabularies.tokenizer_jsons()[1])
    for change in ({"type": "TemplateProcessing"}, {}):
        post = (
            {key: made["post_processor"][key] for key in ("single", "pair")} | {"special_tokens": {}} | change
        )
        with pytest.raises(FormatError, match="names the token '<s>', which is not in its special_tokens"):
            PARSERS["tokenizer-json"].read(json.dumps({**made, "post_processor": post}).encode(), tmp_path)
    words = gguf_files.vocabulary("llama")
    pairs = [pair for pair in gguf_files.pairs_of(words) if not pair[0].endswith(b"scores")]
    scores = (b"tokenizer.ggml.scores", (gguf_files.ARRAY, (12, [1e300] * len(vocabularies.WORDS))))
    with pytest.raises(FormatError, match="1e\\+300, not a finite number of 32 bits"):
        PARSERS["gguf-vocabulary"].read(gguf_files.File(3, (*pairs, scores)).encoded(), tmp_path)
    with pytest.raises(FormatError, match="added_tokens.json holds half of a surrogate pair"):
        PARSERS["added-tokens"].read(b'{"<|\\ud800": 17}', tmp_path)
