"""Options that several commands share, in llama.cpp's spellings, so that a pasted line works."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import click

from edgeq.cli.common import QUIET_HELP
from edgeq.cli.kv import Kind, one_kind
from edgeq.errors import shown
from edgeq.sizes import bytes_in

Function = Callable[..., Any]


def combine(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """One decorator from several, in the order in which --help shows them."""

    def decorate(function: Function) -> Function:
        for each in reversed(decorators):
            function = each(function)
        return function

    return decorate


model_option = click.option(
    "-m",
    "--model",
    "model_option",
    type=click.Path(),
    metavar="MODEL",
    help="The model, instead of the argument.",
)


def examples(*lines: str) -> str:
    """The end of a command's help: lines to type."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def model_argument(function: Function) -> Function:
    """MODEL as the argument or as -m: the function gets `model`, a string."""

    @click.argument("model", required=False, type=click.Path())
    @model_option
    @functools.wraps(function)
    def wrapper(model: str | None, model_option: str | None, **rest: Any) -> Any:
        return function(model=one_model(model, model_option), **rest)

    return wrapper


def models_argument(function: Function) -> Function:
    """MODEL... as arguments, or one as -m: the function gets `models`, strings."""

    @click.argument("models", nargs=-1, metavar="MODEL...", type=click.Path())
    @model_option
    @functools.wraps(function)
    def wrapper(models: tuple[str, ...], model_option: str | None, **rest: Any) -> Any:
        given = models[0] if models else None
        return function(models=[one_model(given, model_option), *models[1:]], **rest)

    return wrapper


def one_model(argument: str | None, option: str | None) -> str:
    """The model that is named. UsageError where there is none, or two."""
    if argument is not None and option is not None:
        raise click.UsageError(f"two models are given, {argument} and -m {option}: give one of them")
    given = argument if argument is not None else option
    if given is None:
        raise click.UsageError(
            "no model is given: name an .edgeq file, a .gguf file or a checkpoint's directory"
        )
    return given


def model_and_prompt(function: Function) -> Function:
    """MODEL and PROMPT as arguments, or as -m and -p: the function gets `model`, and `prompt` or None.

    Beside -m a lone argument is the prompt.
    """

    @click.argument("model", required=False, type=click.Path())
    @click.argument("text", required=False, metavar="[PROMPT]")
    @model_option
    @click.option("-p", "--prompt", metavar="TEXT", help="The prompt, instead of the argument.")
    @functools.wraps(function)
    def wrapper(
        model: str | None, text: str | None, model_option: str | None, prompt: str | None, **rest: Any
    ) -> Any:
        lone = text is None and prompt is None and rest["file"] in (None, "-")
        if model_option is not None and lone:
            model, text = None, model
        if text is not None and prompt is not None:
            raise click.UsageError(
                f"two prompts are given, {shown(text)} and -p {shown(prompt)}: give one of them, in quotes"
            )
        named = one_model(model, model_option)
        return function(model=named, prompt=text if prompt is None else prompt, **rest)

    return wrapper


def model_and_words(name: str) -> Callable[[Function], Function]:
    """MODEL and any number of words as arguments; beside -m all arguments are words. The function gets
    `model`, and the words as `words`.
    """

    def decorate(function: Function) -> Function:
        @click.argument("model", required=False, type=click.Path())
        @click.argument("words", nargs=-1, metavar=name)
        @model_option
        @functools.wraps(function)
        def wrapper(model: str | None, words: tuple[str, ...], model_option: str | None, **rest: Any) -> Any:
            given = words if model is None else (model, *words)
            if model_option is None:
                return function(model=one_model(model, None), words=given[1:], **rest)
            return function(model=model_option, words=given, **rest)

        return wrapper

    return decorate


class Numbers(click.ParamType):
    """Positive whole numbers separated by commas: 1,2,4."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and 0 < int(word) <= 4096 for word in words):
            self.fail(
                f"{value!r} is no list of whole numbers above 0 with commas between, such as 1,2", param, ctx
            )
        return [int(word) for word in words]


class Bytes(click.ParamType):
    """A number of bytes: 700M, 1.5G, 2GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        count = bytes_in(str(value))
        if count is None:
            self.fail(f"{value!r} is no size such as 700M, 1.5G or 2GiB", param, ctx)
        return count


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
force_option = click.option("--force", is_flag=True, help="Replace FILE if it exists.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help=QUIET_HELP)

threads_option = click.option(
    "-t",
    "--threads",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Threads.  [default: this process's physical cores]",
)


def context_option(words: str) -> Callable[[Function], Function]:
    """-c, with what it means to a command."""
    return click.option(
        "-c",
        "--ctx-size",
        "--context",
        "context",
        type=click.IntRange(0),
        metavar="N",
        help=words,
    )


models_context = context_option(
    "Tokens of context; 0 takes all the model has.  [default: the model's, at most 8192]"
)


def engine_options(
    threads: Callable[[Function], Function] = threads_option,
    context: Callable[[Function], Function] = models_context,
) -> Callable[[Function], Function]:
    """The options of edgeq.load: `context`, `threads`, `kv`, `act`."""
    return combine(
        context,
        threads,
        click.option(
            "--kv",
            type=Kind(),
            multiple=True,
            callback=one_kind,
            metavar="[q8|k8v4|q4|q2|f16|f32]",
            help="Numbers in the KV cache.  [default: the model's, else q8]",
        ),
        click.option(
            "--act",
            type=click.Choice(["int8", "f32"]),
            default="int8",
            show_default=True,
            help="Activations in the products.",
        ),
    )


def parallel_option(default: int) -> Callable[[Function], Function]:
    return click.option(
        "-np",
        "--parallel",
        type=click.IntRange(1, 256),
        default=default,
        metavar="N",
        help=f"Texts that are computed at once.  [default: {default}]",
    )


# Of edgeq.load, too, for the commands that go on where another process was.
prompt_cache_options = combine(
    click.option(
        "--prompt-cache",
        type=click.Path(),
        metavar="DIR",
        help="Keep what was computed in DIR, and compute what is new; DIR is made.",
    ),
    click.option(
        "--prompt-cache-size",
        type=Bytes(),
        metavar="SIZE",
        help="Bytes of DIR at the most; what was unused for longest goes.  [default: 1G]",
    ),
    click.option("--prompt-cache-ro", is_flag=True, help="Read DIR, and write nothing there."),
)


generation_options = combine(
    click.option(
        "-n",
        "--predict",
        "--n-predict",
        "--max-tokens",
        "max_tokens",
        type=click.IntRange(-1),
        metavar="N",
        default=-1,
        help="Tokens to generate; -1 goes on to the end token or the context's end.  [default: -1]",
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text (can be repeated)."),
    click.option("--ignore-eos", is_flag=True, help="Go on after the end token."),
    click.option(
        "-e",
        "--escape/--no-escape",
        default=True,
        help="Read \\n, \\t, \\xHH and so on in texts given as options.  [default: escape]",
    ),
)

ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"'": b"'", b'"': b'"', b"\\": b"\\"}


def unescaped(text: str) -> str:
    """A text with llama.cpp's escapes read: \\n \\r \\t \\' \\" \\\\ and \\xHH, which is a byte of UTF-8.

    A backslash before anything else is itself. Bytes that are no UTF-8 are as in sys.argv (surrogateescape).
    """

    def byte(match: re.Match[bytes]) -> bytes:
        return ESCAPES.get(match[1]) or bytes([int(match[1][1:], 16)])

    data = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\([nrt'\"\\]|x[0-9a-fA-F]{2})", byte, data).decode("utf-8", "surrogateescape")


def take_escape(options: dict[str, Any]) -> Callable[[str], str]:
    """What is to be done with the texts of a command's options; done already with those that may be repeated,
    its stop strings and sequence breakers."""
    read = unescaped if options.pop("escape") else str
    for name in ("stop", "dry_sequence_breakers"):
        options[name] = tuple(map(read, options[name]))
    return read


def take(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Move the named entries out of a command's options into a dict of their own."""
    return {name: options.pop(name) for name in names}
