"""The command line: a table of commands, each a module of this package that is imported when it is called.

A command's module edgeq/cli/NAME.py holds a click command named `command`; its line in --help stands here, so
that `edgeq --help` imports click and nothing else. Errors leave as one line `edgeq: error: ...` and an exit
code: 0 done, 1 failed, 2 wrong usage, 3 bad or unsupported model file, 4 out of memory, 5 no network, 130
interrupted, 141 nobody reads (edgeq/ends.py)."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType

import click

from edgeq.cli import terminal
from edgeq.cli.common import QUIET, dressed
from edgeq.cli.spelling import renamed, understood
from edgeq.ends import EXIT_FAILED, EXIT_MODEL, complain, ended
from edgeq.errors import near

__all__ = ["COMMANDS", "EXIT_FAILED", "EXIT_MODEL", "cli", "prepare_process", "run_command", "warned"]

COMMANDS = {
    "pull": "Fetch a model from the Hugging Face hub, and convert it.",
    "convert": "Convert a checkpoint (directory, GGUF file or hub name) into one .edgeq file.",
    "quantize": "Make a small .edgeq file that stays close to a model, by calibration.",
    "run": "Continue a prompt.",
    "chat": "Talk with a model.",
    "serve": "Serve a model over HTTP, as OpenAI, Anthropic and ollama do.",
    "batch": "Answer a file of requests.",
    "embed": "Make vectors of texts.",
    "rerank": "Order documents by how well they answer a query.",
    "bench": "Measure tokens per second and memory.",
    "list": "List the converted models that are kept, and what they take.",
    "rm": "Remove converted models.",
    "show": "Show what a model file holds.",
    "verify": "Check every byte of a model file.",
    "eval": "Measure quality: perplexity, divergence from a reference, multiple choice.",
    "compare": "Compare the numbers of two model files, tensor by tensor.",
    "sensitivity": "Measure what rounding each matrix of a model costs.",
    "calibrate": "Keep what a model's products are given over a text, for quantize --stats.",
    "calibration": "Make the text that quantization is calibrated on, and show what it covers.",
    "schemes": "List the schemes that weights are stored in, and what rounding to them costs.",
    "dtypes": "List the formats of numbers that schemes are made of.",
    "kernels": "Build, list and remove packs of compiled kernels.",
    "doctor": "Show what edgeq finds on this machine and whether it is well.",
    "demo": "Convert a tiny bundled model and let it tell a story.",
}

MODULES = {"list": "listed", "rm": "remove"}  # where a command's name is Python's, or says too little


class LazyGroup(click.Group):
    """A group whose commands are the rows of COMMANDS; a command's module is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return dressed(importlib.import_module(f"edgeq.cli.{MODULES.get(cmd_name, cmd_name)}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if ctx.resilient_parsing:  # a shell completes the words
            return super().resolve_command(ctx, args)
        if args[0] not in COMMANDS:
            args = [*renamed(args[0]), *args[1:]]
        name, command, rest = self.command_of(ctx, args)
        if name is None or command is None:
            return name, command, rest
        return name, command, understood(command, name, rest, ctx, terminal.note)

    def command_of(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words begin with; what is none is told with the nearest that there is."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:  # click tells near names of options, but not of lazy commands
            hint = near(args[0], COMMANDS)
            if "No such command" not in error.message or not hint:
                raise
            raise click.UsageError(error.message.rstrip(".") + hint, ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from edgeq import __version__

        click.echo(f"edgeq {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version.",
)
def cli() -> None:
    """Run block-quantized language models on CPUs: one file, and kernels compiled on this machine.

    MODEL is an .edgeq file; a .gguf file, a directory with a Hugging Face checkpoint or a model on the
    Hugging Face hub (OWNER/NAME, OWNER/NAME:Q4_K_M) is converted on the way, once, into the cache.
    """


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (sys.argv when `arguments` is None) and return its exit code.

    A wrong call, a bad file, Ctrl-C, a closed pipe and whatever else happens are exit codes, not exceptions.
    """
    try:
        with cli.make_context("edgeq", list(sys.argv[1:] if arguments is None else arguments)) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        complain(message_of(error))
        return error.exit_code
    except click.Abort:
        return ended(KeyboardInterrupt())
    except SystemExit:  # of a signal
        raise
    except BaseException as error:  # a library's panic is no Exception
        return ended(error)
    return 0


def prepare_process() -> None:
    """What the process of the command needs beyond `run`: signals, safe output streams, completion."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup's stay ignored
            # leave through the context managers, so that nothing half-written stays
            signal.signal(number, stopped)
    warnings.showwarning = warned
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if "_EDGEQ_COMPLETE" in os.environ:  # a shell asks for completions
        cli.main(prog_name="edgeq")


def warned(message: Warning | str, *_: object, **__: object) -> None:
    """A warning, of the library's or a command's own, as one line; none for -q."""
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(QUIET):
        return
    terminal.note(f"edgeq: warning: {message}")


def stopped(number: int, _: FrameType | None) -> None:
    """A signal that asks to end, as an exception."""
    raise SystemExit(128 + number)


def message_of(error: click.ClickException) -> str:
    """What a wrong call is told."""
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message = f"{message} (try '{error.ctx.command_path} --help')"
    return message
