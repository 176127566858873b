"""llama-completion's options that mean something else to `edgeq run` than to `edgeq chat`."""

from __future__ import annotations

from edgeq.cli.foreign.rows import Table, refused, same

TALK = "`edgeq chat MODEL` talks with a model"

RUN = (
    same("-p --prompt", "sing"),
    same("-f --file", "FILE"),
    same("-no-cnv --no-conversation", becomes="", words="`edgeq run` continues a text"),
    same("--no-display-prompt", becomes="", words="the prompt is never printed"),
    refused("--display-prompt", "", "print the prompt yourself: the answer alone goes to stdout"),
    refused("-cnv --conversation", "", TALK),
    refused("-st --single-turn", "", "`echo TEXT | edgeq chat MODEL` asks once and ends"),
    refused("-i --interactive", "", TALK),
    refused("-if --interactive-first", "", TALK),
    refused("-mli --multiline-input", "", TALK),
    refused("-sys --system-prompt", "TEXT", "`edgeq chat MODEL -sys TEXT` has a system prompt"),
    refused(
        "-sysf --system-prompt-file", "FILE", '`edgeq chat MODEL -sys "$(cat FILE)"` has a system prompt'
    ),
    refused("--chat-template", "chatml", TALK),
    refused("--chat-template-file", "FILE", TALK),
    refused("--chat-template-kwargs", "{}", TALK),
    refused("-rea --reasoning", "[on|off|auto]", TALK),
    refused("--reasoning-format", "none", TALK),
    refused("--reasoning-budget", "0", TALK),
    refused("--context-shift", "", "an answer ends with the context: -c makes it longer"),
    same("--no-context-shift", becomes="", words="an answer ends with the context"),
    same("--show-timings", becomes="", words="a line of timings goes to stderr"),
    refused("--no-show-timings", "", "-q leaves the line of timings out"),
)

TABLE = Table("llama-cli and llama-completion, a prompt", ("run",), RUN)
