"""Lines of llama.cpp and ollama: each row of the tables is run, and the page that shows them is theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from edgeq import cli
from edgeq.cli.foreign import IGNORED, OTHER, REFUSED, SAME, Row, find, tables
from edgeq.cli.foreign.ollama import COMMANDS, PARAMETERS
from tests.cli import options_page
from tests.cli.conftest import Call, Result
from tests.cli.fakes import SONG

ROWS = [
    (command, name, row)
    for table in tables()
    for command in table.commands
    for row in table.rows
    for name in row.names
    if find(command, name) is row  # and not one of a table before
]
GROUPS = sorted({(command, row.what) for command, _, row in ROWS})
NEEDED = {
    "eval ppl": ["-f", "text"],
    "eval kld": ["-f", "text", "--reference", "other"],
    "eval choice": ["-f", "text"],
}  # what a command does not do without

# what answers are held to: tests/cli/test_run.py runs these, where their library is installed
HELD = {"--grammar", "--grammar-file", "-j", "-jf", "--format"}

Parse = Callable[..., tuple[Result, dict[str, Any]]]


@pytest.fixture
def parse(call: Call, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """parse(words) runs a command line up to the command's function; what that would be given."""
    invoke, seen = click.Command.invoke, dict[str, Any]()

    def record(command: click.Command, context: click.Context) -> Any:
        if isinstance(command, click.Group):
            return invoke(command, context)
        seen.update(context.params)

    def parse(*words: str) -> tuple[Result, dict[str, Any]]:
        seen.clear()
        with monkeypatch.context() as patch:
            patch.setattr(click.Command, "invoke", record)
            result = call(*words)
        return result, dict(seen)

    return parse


def line(command: str, *words: str) -> list[str]:
    """A command line with what the command needs."""
    named = any("MODEL" in word for word in words)
    return [*command.split(), *([] if named else ["MODEL"]), *NEEDED.get(command, []), *words]


def spellings(name: str, row: Row) -> Iterator[tuple[list[str], str]]:
    """(words, value) for each way to give an option."""
    if row.choices:
        yield [name], ""
    if not row.value:
        yield [name], ""
        return
    for value in row.choices or (row.value,):
        yield [name, value], value
    if name.startswith("--"):
        yield [f"{name}={value}"], value


def wrong(parse: Parse, command: str, name: str, row: Row) -> Iterator[str]:
    """What does not happen as the row says."""
    plain = parse(*line(command))[1]
    for words, value in spellings(name, row):
        result, found = parse(*line(command, *words))
        if row.what == REFUSED:
            expected = f"edgeq: error: {name} is no option of `edgeq {command}`: {row.words} (try"
            if result.code != 2 or not result.err.startswith(expected) or result.err.count("\n") != 1:
                yield f"{words} is not refused: {result.err}"
        elif row.what == IGNORED:
            if result.code or found != plain:
                yield f"{words} is not ignored: {result.err or found}"
            if result.err != f"edgeq: warning: {name} is ignored: {row.words}\n":
                yield f"{words} is not told in one line: {result.err}"
            if parse(*line(command, *words, "-q"))[0].err:
                yield f"{words} is told in spite of -q"
        else:
            yield from misunderstood(parse, command, words, value, row, plain)
    for value, becomes in row.values.items():
        result, found = parse(*line(command, name, value))
        if result.code or result.err or found != parse(*line(command, *becomes.split()))[1]:
            yield f"{name} {value} is not {becomes!r}: {result.err or found}"


def misunderstood(
    parse: Parse, command: str, words: list[str], value: str, row: Row, plain: dict[str, Any]
) -> Iterator[str]:
    """What is wrong with words that should be taken."""
    result, found = parse(*line(command, *words))
    if result.code or result.err:
        yield f"{words} is not taken: {result.err}"
    becomes = row.fate(value)
    if becomes is not None:
        own = [word.replace("{}", value) for word in becomes.split()]
        told, meant = parse(*line(command, *own))
        if found != meant or result.out != told.out:
            yield f"{words} is not {own}: {found}"
    if (found == plain and not result.out) != (becomes == ""):
        yield f"{words} {'changes nothing' if found == plain else 'changes something'}: {found}"


@pytest.mark.parametrize(("command", "what"), GROUPS)
def test_each_row_is_true(parse: Parse, command: str, what: str) -> None:
    rows = [(name, row) for of, name, row in ROWS if of == command and row.what == what]
    assert not [fault for name, row in rows for fault in wrong(parse, command, name, row)]


@pytest.mark.parametrize("command", ["run", "chat"])
def test_what_is_taken_runs(call: Call, model: str, tmp_path: Path, command: str) -> None:
    """With all that is behind the command line: the model answers, and ignored options change nothing."""
    (tmp_path / "text").write_text("sing")
    files = {"FILE": str(tmp_path / "text"), "MODEL": model, "DRAFT": model}
    taken = {row.names[0]: row for of, _, row in ROWS if of == command and row.what in (SAME, OTHER)}
    for name, row in taken.items():
        if name in HELD:
            continue
        words = [name, files.get(row.value, row.value)] if row.value and not row.choices else [name]
        named = [] if row.value == "MODEL" else [model]
        result = call(command, *named, *words, "-q", stdin=b"sing\n")
        assert result.code == 0 and result.out, (name, result.err)
    left = [(name, row.value) for of, name, row in ROWS if of == command and row.what == IGNORED]
    words = [word for pair in left for word in pair if word and not word.startswith("[")]
    plain, result = (call(command, model, "-q", *more, stdin=b"sing\n") for more in ([], words))
    assert result.code == 0 and result.out == plain.out and SONG in result.out


LLAMA_BENCH = [
    "-p", "8", "-n", "3", "-r", "1", "-t", "1,2", "-ngl", "0", "-fa", "1", "-mmp", "0", "-ctk", "f16",
    "-o", "json",
]  # fmt: skip


def test_bench_takes_a_line_of_llama_bench(call: Call, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("edgeq.evaluate.throughput", lambda *_, **options: asked.update(options) or [])
    result = call("bench", "-m", model, *LLAMA_BENCH)
    assert result.code == 0 and '"kv": "f16"' in result.out
    assert asked["prefill"] == 8 and asked["decode"] == 3 and asked["threads"] == [1, 2]
    assert result.err.count("is ignored") == 3 and result.err.count("\n") == 1


# letters behind a short option ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-pHello"], "there is no option -pHello: options of one letter stand alone, as in -p Hello"),
        (["-qe"], "there is no option -qe: options of one letter stand alone, as in -q -e"),
        (["-tba", "4"], "there is no option -tba"),
        (["-xyz"], "No such option '-xyz'"),
        (["--nosuch"], "No such option '--nosuch'"),
        (["-ctk"], "-ctk is given without a value, such as -ctk f16"),
        (
            ["-ctk", "f16", "-ctv", "q8_0"],
            "no KV cache has f16 keys and q8 values: both are of one kind",
        ),
        (["--kv", "f16", "--kv", "k=q8"], "one kind of KV cache is needed, but f16 and q8 are given"),
        (["-ctk", "q5_0"], "'q5_0' is not one of q8 (or q8_0), k8v4, q4 (or q4_0, q4_1), q2, f16, f32: q8"),
        (["--kv", "bf16"], "q4 (or q4_0, q4_1), q2, f16, f32: f32 holds every bf16 number"),
    ],
)
def test_letters_are_not_cut_off(call: Call, model: str, words: list[str], told: str) -> None:
    result = call("run", model, "-p", "x", *words)
    assert result.code == 2 and told in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([], None), (["--kv", "q8_0"], "q8"), (["--kv", "F16"], "f16"), (["-ctk", "f32"], "f32"),
        (["-ctk", "q8_0", "-ctv", "q8_0"], "q8"), (["-ctk", "q8_0", "-ctv", "q4_0"], "k8v4"),
        (["-ctk", "q4_1", "-ctv", "q4_0"], "q4"), (["--kv", "q4"], "q4"), (["--kv", "v=q2"], "q2"),
        (["--kv", "f16", "--kv", "k8v4"], "k8v4"), (["--cache-type-k=f16", "-ctv", "f16"], "f16"),
    ],
)  # fmt: skip
def test_kinds_of_cache(call: Call, model: str, words: list[str], kind: str | None) -> None:
    assert call("run", model, "-p", "x", *words).models[0].options["kv"] == kind


def test_numbers_may_be_joined_and_values_are_values(parse: Parse) -> None:
    assert parse("run", "m", "-t4", "-n-1", "-c64")[1]["threads"] == 4
    assert parse("run", "m", "-p", "-ctk")[1]["prompt"] == "-ctk"
    assert parse("run", "-q", "m", "--", "-ngl")[1]["text"] == "-ngl"
    found = parse("run", "m", "-fa", "a text")[1]  # -fa's value may be left out
    assert found["text"] == "a text"


def test_all_that_is_ignored_is_one_line(call: Call, model: str) -> None:
    result = call("run", model, "-p", "x", "-ngl", "99", "-fa", "on", "-tb", "4", "--mlock")
    (told, timings) = result.err.splitlines()
    assert told.count(" is ignored: ") == 4 and "total" in timings


# commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.names[0])
def test_each_command_of_ollama(call: Call, row: Row) -> None:
    (name,) = row.names
    if row.what == SAME:
        assert name in cli.COMMANDS
    elif row.what == REFUSED:
        result = call(name, "x")
        assert result.code == 2 and result.err == f"edgeq: error: there is no command {name}: {row.words}\n"
        assert name not in cli.COMMANDS
    else:
        words = [row.becomes or "", "--help"]
        assert row.what == OTHER and call(name, "--help").out == call(*words).out != ""


def test_parameters_of_a_modelfile_are_options_of_run() -> None:
    command = cli.cli.get_command(click.Context(cli.cli), "run")
    assert command is not None
    options = {name for param in command.params for name in param.opts}
    assert {option for _, option, _ in PARAMETERS if option} <= options
    assert all(bool(option) != bool(words) for _, option, words in PARAMETERS)


# the page ------------------------------------------------------------------------------------------------


def test_the_page_is_that_of_the_tables() -> None:
    assert options_page.PAGE.read_text(encoding="utf-8") == options_page.page(), (
        "write it again: python -m tests.cli.options_page"
    )


def test_the_tables_are_long_enough() -> None:
    """llama.cpp's 120 commonest options, each once for a command, and ollama's commands."""
    llama = {row.names for table in tables() if "llama" in table.program for row in table.rows}
    assert len(llama) >= 120 and len(COMMANDS) >= 15
    for table in tables():
        names = [name for row in table.rows for name in row.names]
        assert len(names) == len(set(names)), table.program
