"""edgeq run: where the prompt comes from, what goes to stdout and stderr, JSON, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import fakes
from tests.cli.conftest import Call
from tests.cli.fakes import BOS, SONG
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parents[2]


def test_text_goes_to_stdout_and_timings_to_stderr(call: Call, model: str) -> None:
    result = call("run", model, "-p", "sing")
    assert (result.code, result.out) == (0, SONG + "\n")
    assert "prompt 5 tokens" in result.err and f"generated {len(SONG)} tokens" in result.err
    assert result.err.count("\n") == 1


def test_quiet(call: Call, model: str) -> None:
    assert call("run", model, "-p", "sing", "-q").err == ""


def test_json(call: Call, model: str) -> None:
    result = call("run", "-m", model, "-p", "ab", "--json", "-q", "--temp", "0", "-n", "3", "--seed", "7")
    answer = json.loads(result.out)
    assert answer["text"] == SONG[:3]
    assert answer["ids"] == list(SONG[:3].encode())
    assert answer["prompt_ids"] == [BOS, *b"ab"]
    assert answer["finish_reason"] == "length"
    assert answer["seed"] == 7
    assert answer["model"] == model
    assert answer["timings"]["prompt_tokens"] == 3 and answer["timings"]["generated_tokens"] == 3


def test_the_prompt_cache_is_the_engines(call: Call, model: str) -> None:
    """What is given reaches `edgeq.load`, and what is not leaves it as it is."""
    words = ["--prompt-cache", "here", "--prompt-cache-size", "1.5G", "--prompt-cache-ro"]
    for command in ("run", "chat"):
        plain, told = (call(command, model, *more, stdin=b"sing\n").models[-1] for more in ([], words))
        given = {name: value for name, value in told.options.items() if name not in plain.options}
        assert given == {
            "prompt_cache": "here",
            "prompt_cache_size": 1_500_000_000,
            "prompt_cache_ro": True,
        }
    wrong = call("run", model, "-p", "x", "--prompt-cache-size", "much")
    assert wrong.code == 2 and "'much' is no size such as 700M, 1.5G or 2GiB" in wrong.err


@pytest.mark.parametrize("data", [b"hi \xc3\xa9", b"hi \xc3\xa9\n"])
def test_prompt_from_file_and_stdin(call: Call, model: str, tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(data)
    wanted = [BOS, *"hi é".encode()]
    for arguments, stdin in ((["-f", str(file)], b""), ([], data), (["-f", "-"], data)):
        assert json.loads(call("run", model, *arguments, "--json", stdin=stdin).out)["prompt_ids"] == wanted


def test_a_prompt_must_be_utf8_and_given_once(call: Call, model: str, tmp_path: Path) -> None:
    result = call("run", model, stdin=b"ab\xff")
    assert result.code == 2 and "stdin is not UTF-8 text: byte 2 is 0xff" in result.err
    assert "give one of them" in call("run", model, "-p", "a", "-f", "b").err
    missing = call("run", model, "-f", str(tmp_path / "none"))
    assert missing.code == 2 and f"there is no file {tmp_path / 'none'}" in missing.err


@pytest.mark.parametrize("word", ["-n", "--predict", "--n-predict", "--max-tokens"])
def test_llama_cpp_spellings(call: Call, model: str, word: str) -> None:
    result = call(
        "run",
        "-m",
        model,
        "-p",
        "x",
        word,
        "2",
        "-c",
        "64",
        "-t",
        "1",
        "-ngl",
        "99",
        "-s",
        "-1",
        "--temperature",
        "0.5",
        "--top-k",
        "40",
        "--top-p",
        "0.9",
        "--min-p",
        "0.1",
        "--repeat-penalty",
        "1.1",
        "--repeat-last-n",
        "32",
        "--presence-penalty",
        "0.1",
        "--frequency-penalty",
        "0.1",
        "--ignore-eos",
    )
    assert result.code == 0 and len(result.out) == 3
    assert result.err.count("-ngl is ignored") == 1
    assert result.models[0].options == {"context": 64, "threads": 1, "kv": None, "act": "int8"}


def test_engine_options_reach_the_engine(call: Call, model: str) -> None:
    call("run", model, "-p", "x", "--ctx-size", "99", "--threads", "2", "--kv", "f16", "--act", "f32")
    call("run", model, "-p", "x")
    given = [made.options for made in call("run", model, "-p", "x").models[:2]]
    assert given == [
        {"context": 99, "threads": 2, "kv": "f16", "act": "f32"},
        {"context": None, "threads": None, "kv": None, "act": "int8"},
    ]


def test_stop_strings(call: Call, model: str) -> None:
    result = call("run", model, "-p", "x", "--stop", ", th", "--stop", "zzz", "--json")
    assert json.loads(result.out)["text"] == "one, two"
    assert json.loads(result.out)["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("flag", "value", "word"),
    [
        ("--top-p", "1.5", "top_p"),
        ("--temp", "-1", "temperature"),
        ("--repeat-penalty", "0", "repeat_penalty"),
    ],
)
def test_values_out_of_range(call: Call, model: str, flag: str, value: str, word: str) -> None:
    result = call("run", model, "-p", "x", flag, value)
    assert result.code == 2 and word in result.err and result.out == ""


# The halting model reads stdin itself, so the prompt does not wait for what comes there.
LEAVE_STDIN = "import edgeq.cli.piped; edgeq.cli.piped.WAIT_S = 0\n"


def child(*arguments: str, first: str = "") -> subprocess.Popen[str]:
    """The command in a process of its own, with the fake model that halts, after the code `first`."""
    code = LEAVE_STDIN + first + fakes.program("halting", *arguments)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_it_at_once(model: str, number: signal.Signals, code: int) -> None:
    with child("run", model, "-p", "x") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(3) == "one"
        process.send_signal(number)
        assert process.wait(STUCK_S) == code
        assert "Traceback" not in process.stderr.read()


def test_a_closed_pipe_is_silent(model: str) -> None:
    with child("run", model, "-p", "x", "-q") as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        assert process.stdout.read(3) == "one"
        process.stdout.close()
        process.stdin.close()  # it goes on
        assert process.wait(STUCK_S) == 141
        assert process.stderr.read() == ""


def test_nohup_is_respected(model: str) -> None:
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with child("run", model, "-p", "x", first=ignore) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.read(3) == "one"
        process.send_signal(signal.SIGHUP)
        process.stdin.close()  # it goes on
        assert process.stdout.read() == SONG[3:] + "\n"
        assert process.wait(STUCK_S) == 0


PERSON = (
    '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], '
    '"additionalProperties": false}'
)


@pytest.fixture
def held() -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["-j", PERSON], r'\{"a": [12]\}'),
        (["--json-schema", "schema.json"], r'\{"a": [12]\}'),
        (["-jf", "schema.json"], r'\{"a": [12]\}'),
        (["--json-schema-file", "schema.json"], r'\{"a": [12]\}'),
        (["--grammar", 'root ::= "x" [0-9] "\\n"?'], r"x[0-9]\n?"),
        (["--grammar-file", "grammar.gbnf"], r"x[0-9]\n?"),
        (["--grammar", 'start: "x" /[0-9]/'], "x[0-9]"),
        (["--regex", "[a-c]{2,4}\\."], r"[a-c]{2,4}\."),
    ],
)
def test_an_answer_is_held(
    call: Call,
    model: str,
    held: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    wanted: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.json").write_text(PERSON)
    (tmp_path / "grammar.gbnf").write_text('root ::= "x" [0-9] "\\n"?\n')
    result = call("run", model, "-p", "x", "-s", "1", "--temp", "2", *words, "--json")
    assert result.code == 0, result.err
    assert re.fullmatch(wanted, json.loads(result.out)["text"])


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["-j", PERSON, "--regex", "a"], 2, "--json-schema and --regex are given"),
        (["--json-object", "--stop", "x"], 2, "stop is given, but the schema says where"),
        (["--json-object", "--ignore-eos"], 2, "ignore_eos is given"),
        (["-j", '{"not": {}}'], 2, "not at / cannot be honoured"),
        (["-j", "none.json"], 2, "there is no file none.json"),
        (["-j", "[]"], 2, "must be an object"),
        (["--regex", "("], 2, "the regular expression is refused"),
        (["--grammar", "root ::= a"], 2, "no rule 'a'"),
        (["--grammar", "list.gbnf"], 2, "--grammar-file takes the name of a file"),
        (["--regex", "a{9}", "-n", "3"], 1, "the answer ended before it was what was asked for"),
    ],
)
def test_what_an_answer_cannot_be_held_to(
    call: Call, model: str, held: None, words: list[str], code: int, told: str
) -> None:
    result = call("run", model, "-p", "x", *words)
    assert result.code == code and told in result.err
