"""edgeq calibration: the text that quantization is calibrated on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import terminal
from edgeq.cli.options import combine, force_option, json_option, quiet_option
from edgeq.errors import UsageError
from edgeq.library.find import kind

if TYPE_CHECKING:
    from edgeq.calibrate.texts import Coverage, Document
    from edgeq.tokenizer import Tokenizer

common_options = combine(
    click.argument("files", nargs=-1, type=click.Path(), metavar="[FILES]..."),
    click.option(
        "--tokenizer",
        type=click.Path(),
        metavar="MODEL",
        help="Count in this model's tokens, too: an .edgeq file, a .gguf file or a checkpoint's directory.",
    ),
    json_option,
)


@click.group("calibration")
def command() -> None:
    """The text that quantization is calibrated on: make it of files, see what it covers.

    FILES are UTF-8 texts, JSON lines (.jsonl) or lists (.json) of strings, of objects with "text", or with
    "messages" of a dialogue. Without any it is the text that comes with edgeq: prose, stories, dialogues,
    code, mathematics and thirty languages.
    """


@command.command("build")
@common_options
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    required=True,
    help="The file to write, JSON lines: its name ends with .jsonl.",
)
@click.option(
    "--bytes",
    "nbytes",
    type=click.IntRange(1),
    metavar="N",
    help="Take at most N bytes, of all domains alike.  [default: all]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Another seed takes another choice."
)
@click.option(
    "--default/--no-default",
    "shipped",
    default=None,
    help="Take edgeq's own text, too.  [default: only where no FILES are given]",
)
@force_option
@quiet_option
def build(
    files: tuple[str, ...],
    tokenizer: str | None,
    output: Path,
    nbytes: int | None,
    seed: int,
    shipped: bool | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Mix FILES into one text, and print what it covers.

    What repeats something else is left out. A domain is the name of a file, or what its lines say; all get
    the same number of bytes as long as they have them, also in every beginning of FILE. The same files and
    seed give the same FILE on every machine.
    """
    from edgeq.calibrate.texts import coverage, deduplicate, default_texts, mix, read, write

    if output.exists() and not force:
        raise UsageError(f"{output} exists: name another file with -o, or replace it with --force")
    if shipped is False and not files:
        raise UsageError("--no-default without FILES leaves no text: name files")
    counted_in = None if tokenizer is None else tokenizer_of(tokenizer)
    given = [*(default_texts() if shipped or not files else []), *read(files)]
    kept = deduplicate(given)
    mixed = mix(kept, nbytes, seed)
    told = coverage(mixed, counted_in)
    write(output, mixed)
    if as_json:
        more = {"file": str(output), "seed": seed, "repetitions": len(given) - len(kept)}
        terminal.say_json(told.to_json() | more)
        return
    tell(told)
    if not quiet:
        left = f"{len(given) - len(kept)} repetitions and {len(kept) - len(mixed)} for want of room"
        terminal.note(f"{output}: {told.documents} of {len(given)} documents; left out {left}")


@command.command("show")
@common_options
def show(files: tuple[str, ...], tokenizer: str | None, as_json: bool) -> None:
    """Print what FILES cover, or edgeq's own text."""
    from edgeq.calibrate.texts import coverage, default_texts, read

    counted_in = None if tokenizer is None else tokenizer_of(tokenizer)
    documents: list[Document] = read(files) if files else default_texts()
    told = coverage(documents, counted_in)
    if as_json:
        terminal.say_json(told.to_json())
    else:
        tell(told)


def tokenizer_of(model: str) -> Tokenizer:
    """The tokenizer of MODEL, without its weights. UsageError where it has none."""
    from edgeq import tokenizer

    header: object
    match kind(model):
        case "edgeq":
            from edgeq.formats import open_model

            with open_model(model) as file:
                header = file.header.get("tokenizer")
                blob = b"" if header is None else bytes(file.tensors[file.header["tokenizer"]["tensor"]].data)
        case "gguf":
            from edgeq.converters.tokenizers import from_gguf
            from edgeq.formats.gguf import open_gguf

            header, blob = from_gguf(dict(open_gguf(model).metadata)) or (None, b"")
        case _:
            from edgeq.converters.tokenizers import from_directory

            header, blob = from_directory(Path(model)) or (None, b"")
    if header is None:
        raise UsageError(f"{model} has no tokenizer")
    return tokenizer.load(header, blob)


def tell(told: Coverage) -> None:
    """For a person: a table of the domains, a table of the scripts, and what is said of the whole."""
    rows = [
        (
            part.domain,
            part.documents,
            f"{part.bytes:,}",
            f"{part.characters:,}",
            f"{part.bytes / told.bytes:.1%}",
        )
        for part in told.parts
    ]
    rows.append(("all", told.documents, f"{told.bytes:,}", f"{told.characters:,}", f"{1:.1%}"))
    terminal.say(terminal.table(("domain", "documents", "bytes", "characters", "share"), rows) + "\n")
    letters = sum(told.scripts.values())
    scripts = [(name, f"{count:,}", f"{count / letters:.1%}") for name, count in told.scripts.items()]
    terminal.say(terminal.table(("script", "letters", "share"), scripts) + "\n")
    lines = [f"dialogues: {told.chats} documents", f"code: {told.code_share:.1%} of the bytes, by its looks"]
    if told.tokens is not None and told.vocabulary_share is not None:
        lines.append(f"tokens: {told.tokens:,}, {told.vocabulary_share:.1%} of {told.vocabulary:,} ids occur")
    terminal.say("\n".join([*lines, f"text: SHA-256 {told.text_sha256[:16]}"]))
