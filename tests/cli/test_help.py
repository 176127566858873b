"""What help says: lines that fit, defaults that are true, -q for every command, examples that parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from edgeq import cli
from edgeq.cli.sampling import NUMBERS
from tests.cli.conftest import Call


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        elif command is not None:
            yield f"{before}{name}", command


ALL = dict(commands(cli.cli))
OPTIONS = {
    (name, param.opts[0]): param
    for name, command in ALL.items()
    for param in command.params
    if isinstance(param, click.Option) and not param.hidden
}


def said(option: click.Option) -> str | None:
    """The default that the help of an option tells."""
    record = option.get_help_record(click.Context(click.Command("x")))
    assert record is not None
    found: list[str] = re.findall(r"\[default: ([^\]]*)\]", record[1])
    assert len(found) <= 1, record
    return found[0].split(";  ")[0] if found else None


def own_default(name: str, option: click.Option) -> Any:
    """The default that the option itself has, None for none."""
    default = option.get_default(click.Context(ALL[name]))
    return default if isinstance(default, str | int | float | tuple) and default != () else None


# where the default is not the option's but that of what it is given to: the words, and what they come from
CORES = "this process's physical cores"
EIGHT = "8 bits, or --scheme if that is keep or float"
ELSEWHERE = {
    ("convert", "-o"): "the source's name with .edgeq",
    ("convert", "--scheme"): "keep for a quantized .gguf or MXFP4, t2 for a ternary checkpoint, else q4",
    ("convert", "--embed-scheme"): EIGHT,
    ("convert", "--output-scheme"): EIGHT,
    ("convert", "--follow-links"): "nowhere outside",
    ("convert", "--kv"): "q8, or what keys with biases or norms turn out to need",
    ("quantize", "-o"): "the model's name with .edgeq",
    ("quantize", "--scheme"): "e4",
    ("quantize", "--embed-scheme"): "8 bits, or --scheme if float",
    ("quantize", "--output-scheme"): "8 bits, or --scheme if float",
    ("quantize", "--tokens"): "32768; with best 65536",
    ("quantize", "--max-ram"): "no limit",
    ("sensitivity", "--tokens"): "32768",
    ("calibrate", "--tokens"): "32768",
    ("bench", "-c"): "those that are measured",
    ("embed", "--pooling"): "the model's",
    ("embed", "--dimensions"): "all",
    ("rerank", "--instruction"): "the model's words",
    ("rerank", "--top"): "all",
    ("eval ppl", "-c"): "512, or 2048 for gptq",
    ("eval kld", "-c"): "512, or 2048 for gptq",
    ("eval ppl", "--chars"): "all",
    ("eval kld", "--chars"): "all",
    ("eval choice", "--limit"): "all",
    ("calibration build", "--bytes"): "all",
    ("calibration build", "--default"): "only where no FILES are given",
    ("kernels build", "-j"): "as cores and memory allow",
    ("serve", "--kv-memory"): "one whole context, or a quarter of what is free",
    ("serve", "-a"): "its file",
    **{
        (name, "-t"): CORES
        for name in ("run", "chat", "serve", "batch", "bench", "eval ppl", "eval kld", "eval choice")
    },
    **{(name, "-t"): CORES for name in ("quantize", "sensitivity", "calibrate", "embed", "rerank")},
    **{(name, "-f"): "edgeq's own" for name in ("quantize", "sensitivity", "calibrate")},
    **{
        (name, "-c"): "the model's, at most 8192" for name in ("run", "chat", "serve", "batch", "eval choice")
    },
    **{(name, "-c"): "the model's, at most 8192" for name in ("embed", "rerank")},
    **{(name, "--prompt-cache-size"): "1G" for name in ("run", "chat", "serve", "batch")},
    **{
        (name, "--kv"): "the model's, else q8"
        for name in ("run", "chat", "serve", "batch", "bench", "embed", "rerank")
    },
    **{(f"eval {name}", "--kv"): "the model's, else q8" for name in ("ppl", "kld", "choice")},
}
# options without which something is not done or not given at all
ABSENT = {
    "-m", "-p", "-f", "--draft", "-sys", "--stop", "--chat-template", "--chat-template-kwargs",
    "--recipe", "--target-bpw", "--target-size", "--method", "--preset",
    "--transform", "--stats", "--gate", "--against", "--save-reference", "--merge", "--tokenizer", "--tier",
    "--cpu", "--samplers", "--sampler-seq", "-l", "--dry-sequence-breaker", "--prompt-cache", "--npy",
    "--prompt", "-j", "-jf", "--grammar", "--grammar-file", "--regex", "--fd", "--api-key", "--api-key-file",
    "--allowed-host", "--cors-origin", "--workers", "--workers-key-file",
}  # fmt: skip
ABSENT_THERE = {("sensitivity", "-o"), ("kernels build", "-o"), ("kernels build", "--cpu")}


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_the_default_that_help_tells_is_true(name: str, option: str) -> None:
    param = OPTIONS[name, option]
    told = said(param)
    if name in ("run", "chat", "serve") and param.name in (*NUMBERS, "seed"):
        return  # below
    if (name, option) in ELSEWHERE:
        assert told == ELSEWHERE[name, option]
        assert own_default(name, param) is None
        return
    default = own_default(name, param)
    if param.secondary_opts and default is None:
        assert told is None  # neither is asked for
    elif param.secondary_opts:
        assert told in (*param.opts, *param.secondary_opts) or f"--{told}" in param.opts
        assert default == (f"--{told}" in param.opts)
    elif param.is_flag:
        assert told is None and default is False
    elif default is None:
        assert told is None and (param.required or option in ABSENT or (name, option) in ABSENT_THERE)
    else:
        assert told == " ".join(map(str, default)) if isinstance(default, tuple) else told == str(default)


def test_the_defaults_of_sampling() -> None:
    from edgeq.sampling import SamplingOptions

    plain: Any = SamplingOptions()
    for name in ("run", "chat", "serve"):
        told = {param.name: said(param) for (of, _), param in OPTIONS.items() if of == name}
        assert told.pop("seed") == "-1" and plain.seed is None
        for field in NUMBERS:
            words = told[field]
            assert words is not None and float(words.removeprefix("the model's, else ")) == getattr(
                plain, field
            )


def test_the_defaults_of_what_options_are_given_to(
    call: Call, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures in ELSEWHERE, where they stand in the code."""
    import inspect

    from edgeq.converters.recipe import choose
    from edgeq.defaults import CONTEXT_DEFAULT
    from edgeq.evaluate.windows import PROTOCOLS
    from edgeq.prefix.folder import LIMIT
    from edgeq.quantize.pipeline import keep_statistics, measure
    from edgeq.quantize.quality import QUALITIES

    assert choose().name == "q4" and CONTEXT_DEFAULT == 8192 and LIMIT == 10**9
    assert {row.tokens for row in QUALITIES.values()} == {0, 32768, 65536}
    assert QUALITIES["good"].tokens == 32768 and QUALITIES["best"].tokens == 65536
    for function in (measure, keep_statistics):
        assert '"good"' in inspect.getsource(function)
    assert {name: row.context for name, row in PROTOCOLS.items()} == {"llama.cpp": 512, "gptq": 2048}
    asked: dict[str, Any] = {}

    def throughput(load: Any, **options: Any) -> list[Any]:
        asked.update(options)
        load(None)
        return []

    monkeypatch.setattr("edgeq.evaluate.throughput", throughput)
    result = call("bench", model, "-p", "30", "-n", "7", "-d", "5")
    assert asked["threads"] == (None,) and result.models[0].options["context"] == 35


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("name", ["", *ALL])
def test_lines_are_whole(call: Call, monkeypatch: pytest.MonkeyPatch, name: str, columns: int) -> None:
    """None is too long or ends in a hyphen, and a default that fits into one line stands in one."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = call(*name.split(), "--help").out.splitlines()
    assert max(map(len, lines)) <= columns
    assert all(line == line.rstrip() and not line.endswith("-") for line in lines)
    for (of, _), option in OPTIONS.items():
        told = f"[default: {said(option)}]"
        if of == name and said(option) and len(told) <= 44:
            assert any(told in line for line in lines), told


def test_every_command_can_be_quiet(call: Call) -> None:
    for name, command in ALL.items():
        (quiet,) = [param for param in command.params if "-q" in param.opts]
        assert "--quiet" in quiet.opts, name
    assert call("dtypes", "-q").code == 0 and call("list", "--quiet").err == ""


def test_quiet_leaves_warnings_out(call: Call, monkeypatch: pytest.MonkeyPatch, story: Path) -> None:
    import warnings

    def warn(*_: object, **__: object) -> None:
        cli.warned("a warning")

    monkeypatch.setattr(warnings, "showwarning", cli.warned)
    monkeypatch.setattr("edgeq.formats.open_model", lambda path: warn())
    assert "edgeq: warning: a warning" in call("show", str(story)).err
    assert "a warning" not in call("show", str(story), "-q").err


@pytest.mark.parametrize("name", ["run", "chat", "convert", "embed", "rerank"])
def test_examples_at_the_end_parse(name: str) -> None:
    epilog = ALL[name].epilog or ""
    lines = [line.strip() for line in epilog.splitlines() if line.startswith("  ")]
    assert len(lines) >= 3
    for line in lines:
        (step,) = [part.strip() for part in line.split(" | ") if f"edgeq {name}" in part]
        words = shlex.split(step.split(" < ")[0])
        assert words[:2] == ["edgeq", name]
        ALL[name].make_context(name, words[2:])
