"""llama-cli's options that mean something else to `edgeq chat` than to `edgeq run`."""

from __future__ import annotations

from edgeq.cli.foreign.rows import Table, ignored, other, refused, same

THINK = {"on": "--think", "off": "--no-think", "auto": ""}

CHAT = (
    same("-cnv --conversation", becomes="", words="`edgeq chat` is one"),
    same("-i --interactive", becomes="", words="`edgeq chat` is"),
    same("-if --interactive-first", becomes="", words="`edgeq chat` is"),
    refused("-no-cnv --no-conversation", "", "`edgeq run MODEL` continues a text"),
    refused("-st --single-turn", "", "`echo TEXT | edgeq chat MODEL` asks once and ends"),
    same("-sys", "be brief"),
    other("--system-prompt", "be brief", "--system {}"),
    refused("-sysf --system-prompt-file", "FILE", 'give its text: -sys "$(cat FILE)"'),
    ignored("-mli --multiline-input", "", 'a message of several lines stands between two """'),
    same("-p --prompt", "hello", "the first message"),
    same("-f --file", "FILE", "the first message"),
    same("--chat-template-file", "FILE"),
    same("--chat-template-kwargs", "{}"),
    other("-rea --reasoning", "auto", None, "where the template knows it", values=THINK),
    ignored("--reasoning-format", "none", "the answer is shown as the model gives it"),
    refused("--reasoning-budget", "0", "-n limits an answer", off="-1"),
    same("--context-shift", becomes="", words="a full context forgets the oldest exchange"),
    refused("--no-context-shift", "", "a full context forgets the oldest exchange"),
    ignored("--display-prompt --no-display-prompt", "", "what is typed is on the screen"),
    ignored("--show-timings --no-show-timings", "", "/stats tells what the last answer took"),
)

TABLE = Table("llama-cli, a conversation", ("chat",), CHAT)
