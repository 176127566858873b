"""edgeq serve: a model behind HTTP."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import terminal
from edgeq.cli.drafting import draft_options, take_draft
from edgeq.cli.hosted import check_aliases, check_draft, opened
from edgeq.cli.options import (
    Bytes,
    combine,
    engine_options,
    examples,
    models_argument,
    parallel_option,
    prompt_cache_options,
    quiet_option,
    take,
)
from edgeq.cli.sampling import sampling_options, sampling_values
from edgeq.cli.template import template_file_option, template_given
from edgeq.errors import UsageError, size

if TYPE_CHECKING:
    from edgeq.serve.app import App
    from edgeq.serve.guard import Guard
    from edgeq.serve.server import Loaded

listening = combine(
    click.option(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="Listen here; unix:/PATH is a socket in the file system.  [default: 127.0.0.1]",
    ),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=8080, metavar="N", help="0: any.  [default: 8080]"
    ),
    click.option("--fd", type=click.IntRange(0), metavar="N", help="A socket that is open already."),
)
access = combine(
    click.option(
        "--api-key",
        "api_keys",
        multiple=True,
        metavar="KEY",
        help="Answer whoever has it alone (can be repeated); others on this machine can read it in the list "
        "of processes, so rather --api-key-file or $EDGEQ_API_KEY.",
    ),
    click.option(
        "--api-key-file",
        type=click.Path(),
        metavar="FILE",
        help="Keys, one a line, in a file that nobody else can read; SIGHUP reads it anew.",
    ),
    click.option(
        "--allowed-host",
        "hosts",
        multiple=True,
        metavar="NAME",
        help="Answer to this name too, besides addresses and localhost (can be repeated).",
    ),
    click.option(
        "--cors-origin",
        "origins",
        multiple=True,
        metavar="URL",
        help="Let pages from there ask, as http://localhost:3000 (can be repeated).",
    ),
    click.option("--insecure", is_flag=True, help="Listen beyond this machine without a key."),
)
load_options = combine(
    parallel_option(4),
    click.option(
        "--queue",
        type=click.IntRange(0, 10_000),
        default=64,
        metavar="N",
        help="Texts that wait besides; more are turned away with 429.  [default: 64]",
    ),
    click.option(
        "--queue-timeout",
        type=click.IntRange(1),
        default=600,
        metavar="S",
        help="Seconds that a request waits for its turn.  [default: 600]",
    ),
    click.option(
        "--stall",
        type=click.IntRange(1),
        default=250,
        metavar="MS",
        help="Milliseconds that a long prompt holds up others at a time.  [default: 250]",
    ),
    click.option(
        "--kv-memory",
        type=Bytes(),
        metavar="SIZE",
        help="Memory of all texts' caches.  [default: one whole context, or a quarter of what is free]",
    ),
    click.option(
        "--drain",
        type=click.IntRange(0),
        default=10,
        metavar="S",
        help="Seconds that answers have to end after SIGTERM.  [default: 10]",
    ),
)
naming = combine(
    click.option(
        "-a",
        "--alias",
        "aliases",
        multiple=True,
        metavar="NAME",
        help="What the model is called; of several once for each, in their order.  [default: its file]",
    ),
    click.option("--strict-model", is_flag=True, help="Refuse requests that name another model."),
    template_file_option,
)


@click.command(
    "serve",
    epilog=examples(
        "edgeq serve model.edgeq",
        "edgeq serve OWNER/NAME:Q4_K_M -c 4096 -np 8 --port 9000",
        "edgeq serve large.edgeq small.edgeq",
        "edgeq serve model.edgeq --host 0.0.0.0 --api-key-file keys",
        'curl localhost:8080/v1/completions -d \'{"prompt": "Once"}\'',
    ),
)
@models_argument
@listening
@access
@load_options
@naming
@sampling_options
@draft_options
@engine_options()
@prompt_cache_options
@click.option(
    "--print-systemd-unit", "unit", is_flag=True, help="Print units of systemd for this line, and end."
)
@quiet_option
def command(models: list[str], **options: Any) -> None:
    """Serve MODEL, or several, over HTTP, to programs that speak OpenAI's, Anthropic's or ollama's dialect.

    Base URL: http://127.0.0.1:8080/v1. Of several models a request names the one it means, else the first is
    meant. How tokens are drawn is the request's to say; what it does not say is
    as the options here, else as the model's file has it. SIGTERM and Ctrl-C let answers end, a second one
    does not wait. Needs the extra edgeq[serve]."""
    from edgeq.serve import check_extra

    if options.pop("unit"):
        print_units(models, options["host"], options["port"], options["drain"])
        return
    check_extra()
    from edgeq.serve import server, sockets
    from edgeq.serve.http import Limits

    quiet = options.pop("quiet")
    fd = options.pop("fd")
    fd = fd if fd is not None else sockets.handed_over()
    host, port = options.pop("host"), options.pop("port")
    guard, insecure = guard_of(host, options), options.pop("insecure")
    if fd is None:
        check_reach(host, guard, insecure)
    limits = Limits(queue_s=options.pop("queue_timeout"), drain_s=options.pop("drain"))
    template = template_given(options.pop("template_file"))
    aliases, guesses = options.pop("aliases"), take_draft(options)
    check_aliases(aliases, len(models))
    check_draft(guesses, len(models))
    if template is not None and len(models) > 1:
        raise UsageError("--chat-template is one model's, and several are served")
    running = take(options, "parallel", "queue", "stall", "kv_memory")
    strict = options.pop("strict_model")
    defaults = {name: value for name, value in sampling_values(options).items() if value is not None}
    if defaults:
        from edgeq.sampling import SamplingOptions

        SamplingOptions(**defaults)  # what is out of range is told of before anything is loaded
    if (memory := running["kv_memory"]) is not None:
        options["cache_memory"] = memory
    listener = sockets.listener(host, port, fd)
    check_reach(listener.host, guard, insecure)
    if insecure and not guard.keys and not sockets.is_local(listener.host):
        terminal.note("edgeq: warning: whoever reaches this address may ask: there is no key")
    guard.unix = listener.unix is not None
    tell = silent if quiet else terminal.note

    def ready(app: App) -> None:
        for served, _ in app.models:
            terminal.say(
                f"{served.name} is served at {listener.url}: context {served.model.context}, "
                f"{running['parallel']} at once, {running['queue']} wait, "
                f"caches up to {size(served.model.pool.limit)}"
            )

    with ExitStack() as stack:

        def load() -> list[Loaded]:
            return opened(models, aliases, options, guesses, quiet=quiet, stack=stack)

        server.run(
            server.Settings(
                load=load,
                listener=listener,
                guard=guard,
                limits=limits,
                parallel=running["parallel"],
                queue=running["queue"],
                stall=running["stall"] / 1000,
                strict=strict,
                template=template,
                defaults=defaults,
                tell=tell,
                log=tell,
                ready=ready,
            )
        )


LISTENS = ("--host", "--port", "--fd")  # which the unit of the socket says


def print_units(models: list[str], host: str, port: int, drain: float) -> None:
    """Units for the command line that this process was given."""
    from edgeq.serve.units import units

    words, left = [], deque(sys.argv[2:])
    while left:
        word = left.popleft()
        name, joined, _ = word.partition("=")
        if name in (*LISTENS, "-m", "--model"):
            if not joined and left:
                left.popleft()
        elif word not in ("--print-systemd-unit", *models):
            words.append(word)
    terminal.say(units(models, words, host, port, drain))


def silent(line: str) -> None:
    pass


def guard_of(host: str, options: dict[str, Any]) -> Guard:
    """Who may ask, out of the options. UsageError for pages that anybody could make."""
    from edgeq.serve import server
    from edgeq.serve.guard import Guard, Keys

    given = [*options.pop("api_keys"), *server.key_of_environment()]
    keys = Keys(given, options.pop("api_key_file"))
    origins = frozenset(options.pop("origins"))
    hosts = {name.lower() for name in options.pop("hosts")}
    if "*" in origins and not keys:
        raise UsageError("--cors-origin '*' lets every page of the web ask: give --api-key-file FILE too")
    for origin in origins - {"*"}:
        check_origin(origin)
    return Guard(keys, frozenset(hosts | {host.lower()}), origins)


def check_reach(host: str, guard: Guard, insecure: bool) -> None:
    """UsageError for a server that other machines could ask without a key."""
    from edgeq.serve import sockets

    if not (sockets.is_local(host) or guard.keys or insecure):
        raise UsageError(
            f"--host {host} lets other machines ask: give --api-key-file FILE, or --insecure to let "
            "everybody in"
        )


def check_origin(origin: str) -> None:
    scheme, found, rest = origin.partition("://")
    if not found or scheme not in ("http", "https") or not rest or "/" in rest:
        raise UsageError(
            f"--cors-origin {origin} is no origin: http:// or https://, a name, and perhaps a port"
        )
