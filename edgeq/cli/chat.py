"""edgeq chat: talk with a model; the conversation stays in the model's cache from one turn to the next."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.answer import Look
from edgeq.cli.drafting import draft_options, drafting, take_draft
from edgeq.cli.files import read_bytes, utf8, without_newline
from edgeq.cli.grammar import grammar_options, take_form
from edgeq.cli.history import OFF, History, history_path, wanted
from edgeq.cli.options import (
    engine_options,
    examples,
    generation_options,
    model_argument,
    prompt_cache_options,
    quiet_option,
    take,
    take_escape,
)
from edgeq.cli.prompt import Message, lines_of_stdin, read_message
from edgeq.cli.sampling import sampling_options, sampling_values
from edgeq.cli.session import Session
from edgeq.cli.template import template_given, template_options, words_given
from edgeq.errors import EdgeqError, UsageError, printable

if TYPE_CHECKING:
    from edgeq.chat.conversation import Conversation
    from edgeq.engine import Model


@click.command(
    "chat",
    epilog=examples(
        "edgeq chat model.edgeq",
        'edgeq chat model.edgeq -sys "Answer in one sentence." --temp 0.3',
        'echo "What is a leap year?" | edgeq chat model.edgeq -q',
    ),
)
@model_argument
@click.option("-p", "--prompt", metavar="TEXT", help="The first message; the chat goes on behind its answer.")
@click.option("-f", "--file", type=click.Path(), metavar="FILE", help="Take the first message from FILE.")
@click.option("-sys", "--system", metavar="TEXT", help="What the model is told before the conversation.")
@template_options
@generation_options
@sampling_options
@grammar_options
@draft_options
@engine_options()
@prompt_cache_options
@click.option("--no-wrap", is_flag=True, help="Break lines at the terminal's edge, also within words.")
@click.option(
    "--no-history",
    is_flag=True,
    help=f"Neither keep what is typed for other chats nor offer theirs ({OFF}=1 does the same).",
)
@quiet_option
def command(model: str, prompt: str | None, file: str | None, system: str | None, **options: Any) -> None:
    """Talk with MODEL. /help lists what can be said to edgeq itself; Ctrl-C stops an answer, Ctrl-D leaves.

    The template comes from the file; special tokens in what you type are text. Lines on stdin work too. In
    what -p, -sys and --stop give, \\n is a line end and \\\\ a backslash; --no-escape leaves it as it is.
    """
    quiet, wrap, no_history = options.pop("quiet"), not options.pop("no_wrap"), options.pop("no_history")
    escape = take_escape(options)
    first = first_message(None if prompt is None else escape(prompt), file)
    if system is not None:
        system = utf8(escape(system).encode("utf-8", "surrogateescape"), "the system prompt")
    template = template_given(options.pop("template_file"))
    words = take(options, "template_json", "think")
    form = take_form(options)
    sampling = sampling_values(options)
    guesses, alike = take_draft(options), engine.alike(options)
    history = History(history_path()) if wanted(no_history) and terminal.is_person() else None
    with (
        engine.load(model, options, quiet=quiet) as loaded,
        drafting(guesses, quiet=quiet, **alike) as draft,
        begin(loaded, template, system=system or None, draft=draft, **sampling, **options) as chat,
    ):
        session = Session(chat, Look(wordwrap=wrap, thoughts="hide" if quiet else "fold"), quiet)
        chat.chat_template_kwargs = words_given(session.template, words["template_json"], words["think"])
        chat.held = held(loaded, chat, form)
        if not quiet:
            plain = "" if template or loaded.chat_template else ", plain template"
            terminal.note(f"{loaded.file.path.name}: {loaded.context} tokens of context{plain}; /help helps")
        talk(session, history, first)


def held(model: Model, chat: Conversation, form: dict[str, Any]) -> Any:
    """What gives the mask of each answer; None where answers may be anything. Raises UsageError for a form
    that cannot be honoured."""
    if not form:
        return None
    from edgeq.generate import check_ends
    from edgeq.tools import plan_of

    check_ends("what the answer is held to", chat.stop, chat.ignore_eos)
    template, words = chat.chat_template, chat.chat_template_kwargs
    return plan_of(model, chat_template=template, chat_template_kwargs=words, **form).mask


def begin(model: Model, template: str | None = None, **options: Any) -> Conversation:
    """A conversation; a model without a template gets plain lines, unless one is given."""
    from edgeq.chat.conversation import Conversation
    from edgeq.chat.plain import PLAIN_TEMPLATE

    return Conversation(model, chat_template=template or model.chat_template or PLAIN_TEMPLATE, **options)


def first_message(prompt: str | None, file: str | None) -> Message | None:
    """What -p or -f says before anybody is asked. UsageError where it is two, none at all or no text."""
    if prompt is not None and file is not None:
        raise UsageError("a first message is given with -p and with -f: give one of them")
    if file is not None:
        prompt = without_newline(utf8(read_bytes(file), printable(file)))
    elif prompt is not None:
        prompt = utf8(prompt.encode("utf-8", "surrogateescape"), "the first message")
    if prompt is not None and not prompt.strip():
        raise UsageError("the first message is empty")
    return None if prompt is None else Message(prompt, is_line=False)


def talk(session: Session, history: History | None = None, first: Message | None = None) -> None:
    """Answer the first message, then read messages and commands until the end of input or /bye."""
    if first is not None and not terminal.is_person():
        session.obey(first)  # an error of it is the command's
        first = None
    if sys.stdin is None:  # closed by who started us
        return
    lines = lines_of_stdin(history)
    while not session.over:
        try:
            message, first = first or read_message(lines), None
            if message is None:
                return
            if message.text.strip():
                session.obey(message)
        except KeyboardInterrupt:
            if not terminal.is_person():
                raise
            terminal.note("")
        except EdgeqError as error:
            terminal.note(f"edgeq: error: {error}")
