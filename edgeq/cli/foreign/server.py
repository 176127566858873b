"""llama-server's own options. edgeq has no server yet, so each is refused by its name."""

from __future__ import annotations

from edgeq.cli.foreign.rows import Row, Table, refused

SERVES = "edgeq has no server yet; examples/service answers on a socket"

# option, and a value where it takes one
OPTIONS = (
    ("--host", "127.0.0.1"),
    ("--port", "8080"),
    ("--reuse-port", ""),
    ("--path", "DIR"),
    ("--api-prefix", "/llm"),
    ("-a --alias", "NAME"),
    ("--tags", "NAME"),
    ("-np --parallel", "4"),
    ("-cb --cont-batching -nocb --no-cont-batching", ""),
    ("-to --timeout", "600"),
    ("--threads-http", "2"),
    ("--api-key", "KEY"),
    ("--api-key-file", "FILE"),
    ("--ssl-key-file", "FILE"),
    ("--ssl-cert-file", "FILE"),
    ("--cors-origins", "*"),
    ("--embedding --embeddings", ""),
    ("--rerank --reranking", ""),
    ("--pooling", "mean"),
    ("--embd-normalize", "2"),
    ("--cache-idle-slots --no-cache-idle-slots", ""),
    ("-cms --checkpoint-min-step", "256"),
    ("--metrics", ""),
    ("--props", ""),
    ("--slots --no-slots", ""),
    ("--slot-save-path", "DIR"),
    ("-sps --slot-prompt-similarity", "0.5"),
    ("--media-path", "DIR"),
    ("--models-dir", "DIR"),
    ("--models-preset", "FILE"),
    ("--models-max", "4"),
    ("--models-autoload --no-models-autoload", ""),
    ("--ui --webui --no-ui --no-webui", ""),
    ("--ui-config --webui-config", "{}"),
    ("--tools", "all"),
    ("--prefill-assistant --no-prefill-assistant", ""),
    ("--skip-chat-parsing --no-skip-chat-parsing", ""),
    ("--lora-init-without-apply", ""),
    ("--sleep-idle-seconds", "60"),
    ("--sse-ping-interval", "30"),
    ("--spm-infill", ""),
    ("-lcs --lookup-cache-static", "FILE"),
    ("-lcd --lookup-cache-dynamic", "FILE"),
)

SERVER: tuple[Row, ...] = tuple(refused(names, value, SERVES) for names, value in OPTIONS)

TABLE = Table("llama-server", ("run", "chat"), SERVER)
