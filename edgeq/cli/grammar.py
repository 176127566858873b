"""The options of what an answer is held to, in llama.cpp's spellings where it has them."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli.files import read_bytes, utf8
from edgeq.cli.options import combine, take
from edgeq.errors import GrammarError, UsageError, printable, shown

JSON_BEGINS = (
    "{",
    "[",
    '"',
)  # … the text of a schema, and of what is given for one; anything else names a file
KEYWORDS = {"json_schema": "schema", "grammar": "grammar", "regex": "regex"}

grammar_options = combine(
    click.option(
        "-j",
        "--json-schema",
        metavar="SCHEMA",
        help="The answer is JSON as this schema has it: the text of one, {...}, or a file.",
    ),
    click.option("-jf", "--json-schema-file", type=click.Path(), metavar="FILE", help="The same, of a file."),
    click.option("--json-object", is_flag=True, help="The answer is a JSON object, whatever is in it."),
    click.option(
        "--grammar", metavar="GRAMMAR", help="The answer is what a grammar derives, in GBNF or Lark."
    ),
    click.option("--grammar-file", type=click.Path(), metavar="FILE", help="The same, of a file."),
    click.option("--regex", metavar="REGEX", help="The answer matches it from begin to end."),
)


def take_form(options: dict[str, Any]) -> dict[str, Any]:
    """What the answer is held to, out of a command's options: a keyword of edgeq.generate.held_to, or none.
    UsageError where two are given."""
    given = take(
        options, "json_schema", "json_schema_file", "json_object", "grammar", "grammar_file", "regex"
    )
    named = [name for name, value in given.items() if value is not None and value is not False]
    if len(named) > 1:
        one, other = (f"--{name.replace('_', '-')}" for name in named[:2])
        raise UsageError(f"{one} and {other} are given, but an answer is held to one of them")
    if not named:
        return {}
    name, value = named[0], given[named[0]]
    if name == "json_object":
        return {"schema": {"type": "object"}}
    is_file = name.endswith("_file") or (name == "json_schema" and not value.lstrip().startswith(JSON_BEGINS))
    text = _read(value) if is_file else utf8(value.encode("utf-8", "surrogateescape"), f"--{name}")
    if name == "grammar" and ":" not in text:
        raise UsageError(f"{shown(text)} is no grammar: --grammar-file takes the name of a file")
    return {KEYWORDS[name.removesuffix("_file")]: text}


def check_whole(mask: Any, finish_reason: str | None) -> None:
    """GrammarError where an answer ended, by -n or the context, before it was whole."""
    if mask is not None and finish_reason == "length" and not mask.complete:
        raise GrammarError(
            "the answer ended before it was what was asked for: -n or the context has too few tokens"
        )


def _read(file: str) -> str:
    return utf8(read_bytes(file), printable(file))
