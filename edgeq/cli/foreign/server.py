"""llama-server's own options: what `edgeq serve` makes of each, and that no other command is a server."""

from __future__ import annotations

from edgeq.cli.foreign.rows import Row, Table, ignored, other, refused, same

ELSEWHERE = "`edgeq serve` is the server"
NAMED = "the models that a server is started with are all there: edgeq serve MODEL MODEL"
PROXY = "let a reverse proxy do it"
VECTORS = "/v1/embeddings is always there; vectors are made as the model's file says"
RANKS = "`edgeq rerank` does it without a server"
PAGE = "the page is always there, at /, and nothing of it is set"
PREFIXES = "prefixes are kept by their tokens, and there are no slots"

OWN: tuple[Row, ...] = (
    same("--host", "127.0.0.2"),
    same("--port", "8081"),
    same("-a --alias", "NAME"),
    same("-np --parallel", "3"),
    same("--api-key", "KEY"),
    same("--api-key-file", "FILE"),
    same("-c --ctx-size", "64", "of each text; it is not divided among those that run at once"),
    same("--chat-template-file", "FILE"),
    other("--cors-origins", "http://localhost:3000", "--cors-origin {}", "one page; repeat it for others"),
    same("-cb --cont-batching", becomes="", words="texts that run together share their passes"),
    refused("-nocb --no-cont-batching", "", "-np 1 computes one text after the other"),
    same("--metrics", becomes="", words="/metrics is always there"),
    same("--props", becomes="", words="/props can be read; nothing can be set"),
    same("--jinja", becomes="", words="chat templates are always Jinja, rendered in a sandbox"),
    refused("--no-jinja", "", "chat templates are always Jinja, rendered in a sandbox"),
    same("--cache-prompt", becomes="", words="what was computed is found again, exact to the token"),
    ignored("--no-cache-prompt", "", "a request says it: cache_prompt false"),
    ignored("--cache-reuse", "256", "nothing is shifted: what is found again is the beginning of a prompt"),
    ignored("-cram --cache-ram", "8192", "prefixes take what --kv-memory leaves"),
    ignored("--cache-idle-slots --no-cache-idle-slots", "", PREFIXES),
    ignored("-sps --slot-prompt-similarity", "0.5", PREFIXES),
    ignored("-cms --checkpoint-min-step", "256", PREFIXES),
    ignored("--slots --no-slots", "", PREFIXES),
    refused("--slot-save-path", "DIR", "--prompt-cache DIR keeps what was computed"),
    ignored("-to --timeout", "600", "a client that leaves is no longer computed for"),
    ignored("--threads-http", "2", "one thread reads and writes for all connections"),
    ignored("--sse-ping-interval", "30", "a stream in which nothing comes has a comment each 15 s"),
    ignored("--warmup --no-warmup", "", "kernels are made ready before the first request"),
    ignored("--reasoning-format", "deepseek", "thoughts come as reasoning_content"),
    ignored("--prefill-assistant --no-prefill-assistant", "", "a request says it: continue_final_message"),
    refused("-n --predict --n-predict", "3", "a request says it: max_tokens"),
    refused("--reuse-port", "", "a socket that outlives the server is handed over with --fd"),
    refused("--path", "DIR", "the server gives out no files"),
    refused("--api-prefix", "/llm", PROXY),
    refused("--ssl-key-file", "FILE", PROXY),
    refused("--ssl-cert-file", "FILE", PROXY),
    refused("--tags", "NAME", NAMED),
    refused("--models-dir", "DIR", NAMED),
    refused("--models-preset", "FILE", NAMED),
    refused("--models-max", "4", NAMED),
    refused("--models-autoload --no-models-autoload", "", NAMED),
    refused("--embedding --embeddings", "", VECTORS),
    refused("--rerank --reranking", "", RANKS),
    refused("--pooling", "mean", VECTORS),
    refused("--embd-normalize", "2", VECTORS),
    refused("--media-path", "DIR", "the server reads no file that a request names"),
    refused("--tools", "all", "the server runs no tool"),
    refused("--ui --webui --no-ui --no-webui", "", PAGE),
    refused("--ui-config --webui-config", "{}", PAGE),
    refused("--skip-chat-parsing --no-skip-chat-parsing", "", "thoughts come as reasoning_content"),
    refused("--lora-init-without-apply", "", "merge the adapter into the checkpoint before it is converted"),
    refused("--sleep-idle-seconds", "60", "a file is mapped: what is not read takes no memory"),
    refused("--spm-infill", "", "a request says where the text is to be filled in"),
    refused("-lcs --lookup-cache-static", "FILE", "nothing is guessed"),
    refused("-lcd --lookup-cache-dynamic", "FILE", "nothing is guessed"),
)

# the same names elsewhere, but for those that other tables have
SHARED = {"-c", "-n", "--jinja", "--no-jinja", "--cache-prompt", "--no-cache-prompt", "--cache-reuse"}
SHARED |= {"-cram", "--warmup", "--reasoning-format", "--chat-template-file"}
ABROAD: tuple[Row, ...] = tuple(
    refused(" ".join(row.names), row.value, ELSEWHERE) for row in OWN if row.names[0] not in SHARED
)

TABLE = Table("llama-server", ("serve",), OWN)
NOT_HERE = Table("llama-server, in other commands", ("run", "chat"), ABROAD)
