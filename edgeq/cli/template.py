"""What the options of `edgeq chat` say of the chat template: a file in its place, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import combine
from edgeq.cli.transcript import read_text
from edgeq.errors import FormatError, UsageError, quote, shown

template_file_option = click.option(
    "--chat-template",
    "--chat-template-file",
    "template_file",
    type=click.Path(),
    metavar="FILE",
    help="A Jinja template in place of the model's.",
)
template_options = combine(
    template_file_option,
    click.option(
        "--chat-template-kwargs",
        "template_json",
        metavar="JSON",
        help="What the template is told besides: '{\"enable_thinking\": false}'.",
    ),
    click.option(
        "--think/--no-think",
        default=None,
        help="Whether the model thinks before it answers, where its template knows that.",
    ),
)


def template_given(file: str | None) -> str | None:
    """The template in a file, compiled to see that it can be. UsageError, UnsupportedError."""
    if file is None:
        return None
    from edgeq.chat.sandbox import compiled

    text = read_text(Path(file))
    compiled(text)
    return text


def words_given(template: str, json: str | None, think: bool | None) -> dict[str, Any]:
    """What a template is told by --chat-template-kwargs and --think. UsageError for what it does not know."""
    words = {} if json is None else _object(json)
    if unknown := sorted(set(words) - _known(template)):
        raise UsageError(
            f"--chat-template-kwargs gives {quote(unknown[0])}, which the chat template does not ask for"
        )
    if think is not None:
        name = think_switch(template)
        if name in words:
            raise UsageError(f"{name} is given twice, in --chat-template-kwargs and as --think or --no-think")
        words[name] = think
    return words


def think_switch(template: str) -> str:
    """The template's variable for thinking; UsageError where it has none."""
    from edgeq.chat.thoughts import SWITCHES, switch

    name = switch(template)
    if name is None:
        raise UsageError(
            f"the chat template has no switch for thinking ({' or '.join(SWITCHES)}), so it cannot be set"
        )
    return name


def _known(template: str) -> frozenset[str]:
    from edgeq.chat.sandbox import variables

    return variables(template)


def _object(json: str) -> dict[str, Any]:
    from edgeq.formats.strictjson import parse

    try:
        value = parse(json.encode("utf-8", "surrogateescape"), "--chat-template-kwargs", depth_max=16)
    except FormatError as error:
        raise UsageError(str(error)) from None
    if not isinstance(value, Mapping):
        raise UsageError(f'--chat-template-kwargs is {shown(value)}, but must be an object: {{"a": 1}}')
    return dict(value)
