"""edgeq show: what a model file holds, read from its header alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import click

from edgeq.cli import terminal
from edgeq.cli.facts import Facts, directory_facts, edgeq_facts, gguf_facts
from edgeq.cli.options import json_option, model_argument
from edgeq.errors import UsageError
from edgeq.library.find import kind

SHORT = 120  # characters of a value in the overview
COUNT = re.compile(r"\[(\d{1,18}) values\]")  # how facts of a GGUF file tell of an array
ITEMS = 8  # of a list in it
CONTEXTS = (2048, 8192)  # tokens, for which the overview says what the cache takes
READERS = {"edgeq": edgeq_facts, "gguf": gguf_facts, "directory": directory_facts}
KINDS = {"edgeq": "an .edgeq file", "gguf": "a GGUF file", "directory": "a checkpoint's directory"}


@click.command("show")
@model_argument
@click.option("--tensors", is_flag=True, help="Every tensor: scheme, layout, shape, bytes.")
@click.option("--template", is_flag=True, help="The chat template and nothing else.")
@json_option
def command(model: str, tensors: bool, template: bool, as_json: bool) -> None:
    """Show what MODEL, an .edgeq file, a .gguf file or a checkpoint's directory, holds, and what is in the
    way where edgeq cannot run it. Nothing is converted and nothing of the file is run."""
    facts = READERS[kind(model)](model)
    if template:
        if facts["chat_template"] is None:
            raise UsageError(f"{model} has no chat template: `edgeq chat` talks with it in plain lines")
        if as_json:
            terminal.say_json({"chat_template": facts["chat_template"]})
        else:
            terminal.say(facts["chat_template"])
    elif as_json:
        terminal.say_json(
            facts if tensors else {name: value for name, value in facts.items() if name != "tensors"}
        )
    else:
        terminal.say(overview(facts))
        if tensors:
            rows = [
                (t["name"], t["scheme"], t["layout"], "×".join(map(str, t["shape"])), t["bytes"])
                for t in facts["tensors"]
            ]
            terminal.say(
                "\n" + terminal.table(("tensor", "scheme", "layout", "shape", "bytes"), rows, left=3)
            )


def overview(facts: Facts) -> str:
    """The facts as lines for a person; every value of the file is one line, cleaned and shortened."""
    lines = [f"{name:11} {words}" for name, words in head(facts) if words]
    for name in ("source", "quantization", "generation", "pooling", "other", "config"):
        values = facts[name]
        if isinstance(values, dict) and values:
            lines += ["", f"{name}:"] + [f"  {key}: {short(value)}" for key, value in values.items()]
    text = "\n".join(map(terminal.one_line_kept, lines))
    rows = [
        (
            row["scheme"],
            row["tensors"],
            f"{row['weights']:,}",
            row["bytes"],
            f"{8 * row['bytes'] / row['weights']:.2f}",
        )
        for row in facts["schemes"]
        if row["weights"]
    ]
    columns = ("scheme", "tensors", "weights", "bytes", "bits/weight")
    return f"{text}\n\n{terminal.table(columns, rows)}" if rows else text


def head(facts: Facts) -> Iterator[tuple[str, str]]:
    """(name, words) of the first lines; no words where there is nothing to say."""
    weights = sum(row["weights"] for row in facts["schemes"] if row["scheme"] != "bytes")
    count = terminal.counted(len(facts["tensors"]), "tensor")
    tokenizer, template, license = facts["tokenizer"], facts["chat_template"], facts["license"]
    generation, cache, kept = facts["generation"], facts["cache"], facts.get("bytes_kept")
    named = tokenizer.get("kind") if isinstance(tokenizer, dict) else None
    greedy = isinstance(generation, dict) and generation.get("do_sample") is False
    yield "file", facts["file"]
    yield "kind", KINDS[facts["kind"]]
    yield "size", f"{terminal.size(facts['bytes'])}, {count}, {terminal.counted(weights, 'weight')}"
    yield "family", short(facts["family"]) if facts["family"] else "not named"
    yield "in the way", facts["refused"] or ""
    yield "context", f"{cache['tokens_max']:,} tokens" if cache else ""
    yield "cache", cache_line(**cache) if cache else ""
    yield "tokenizer", short(named) if named else "none"
    yield "template", f"{len(template):,} characters (--template shows it)" if template else "none"
    yield (
        "sampling",
        "none: the likeliest token (do_sample is false), unless --temp is given" if greedy else "",
    )
    yield "license", short(license) if license else "not given"
    yield "kept", f"{terminal.size(kept)} as an .edgeq file (--scheme keep)" if kept else ""


def cache_line(bytes_per_token: dict[str, int], tokens_max: int, kind: str, state_bytes: int = 0) -> str:
    """What the context costs: a token, contexts that the model can have, what does not grow with it, and a
    token in other kinds.
    """
    size = bytes_per_token.get(kind)
    if size is None:
        return f"{short(kind)}, which this version does not know"
    known = sorted({min(tokens, tokens_max) for tokens in CONTEXTS})
    contexts = ", ".join(f"{terminal.size(size * tokens)} for {tokens:,}" for tokens in known)
    states = f", and {terminal.size(state_bytes)} of states" if state_bytes else ""
    others = (f"{name} {terminal.size(n)}" for name, n in bytes_per_token.items() if name != kind)
    return f"{kind}, {terminal.size(size)} a token: {contexts}{states}; in {', '.join(others)}"


def short(value: Any) -> str:
    """A value of a file in words, on one line."""
    text = terminal.one_line(words(value))
    return text if len(text) <= SHORT else text[:SHORT] + "…"


def words(value: Any) -> str:
    """A JSON value for a person: no quotes, braces or words of a programming language."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {words(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        more = f" and {len(value) - ITEMS} more" if len(value) > ITEMS else ""
        return (", ".join(map(words, value[:ITEMS])) or "none") + more
    if isinstance(value, str) and (many := COUNT.fullmatch(value)):
        return terminal.counted(int(many[1]), "value")
    return str(value)
