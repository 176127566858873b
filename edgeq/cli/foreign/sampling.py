"""llama.cpp's options for how much is generated and how a token is drawn: `edgeq run` and `edgeq chat`."""

from __future__ import annotations

from edgeq.cli.foreign.rows import Table, ignored, other, refused, same

NONE = "edgeq has no such sampler"
GRAMMAR = "edgeq holds an answer to no grammar"

SAMPLING = (
    same("-c --ctx-size", "64"),
    same("-n --predict --n-predict", "3"),
    same("-s --seed", "7"),
    same("-e --escape", becomes=""),
    same("--no-escape"),
    same("--ignore-eos"),
    same("--temp --temperature", "0.5"),
    same("--top-k", "7"),
    same("--top-p", "0.5"),
    same("--min-p", "0.5"),
    same("--repeat-last-n", "7"),
    same("--repeat-penalty", "1.5"),
    same("--presence-penalty", "0.5"),
    same("--frequency-penalty", "0.5"),
    other("-r --reverse-prompt", "three", "--stop {}", "the text itself is not printed"),
    refused("--samplers", "top_k;temperature", "samplers run in llama.cpp's order: see docs/usage.md"),
    refused("--sampler-seq --sampling-seq", "kt", "samplers run in llama.cpp's order: see docs/usage.md"),
    refused("--top-nsigma --top-n-sigma", "1.5", NONE, off="-1"),
    refused("--xtc-probability", "0.5", NONE, off="0"),
    ignored("--xtc-threshold", "0.1", "it is nothing without --xtc-probability"),
    refused("--typical --typical-p", "0.5", NONE, off="1"),
    refused("--dry-multiplier", "0.8", NONE, off="0"),
    ignored("--dry-base", "1.75", "it is nothing without --dry-multiplier"),
    ignored("--dry-allowed-length", "2", "it is nothing without --dry-multiplier"),
    ignored("--dry-penalty-last-n", "-1", "it is nothing without --dry-multiplier"),
    ignored("--dry-sequence-breaker", "none", "it is nothing without --dry-multiplier"),
    refused("--adaptive-target", "0.5", NONE, off="-1"),
    ignored("--adaptive-decay", "0.9", "it is nothing without --adaptive-target"),
    refused("--dynatemp-range", "0.5", NONE, off="0"),
    ignored("--dynatemp-exp", "1", "it is nothing without --dynatemp-range"),
    refused("--mirostat", "2", NONE, off="0"),
    ignored("--mirostat-lr", "0.1", "it is nothing without --mirostat"),
    ignored("--mirostat-ent", "5", "it is nothing without --mirostat"),
    refused(
        "-l --logit-bias", "15043+1", "edgeq changes no token's logit; in Python Sequence.step gives logits"
    ),
    refused("--grammar", "GRAMMAR", GRAMMAR),
    refused("--grammar-file", "FILE", GRAMMAR),
    refused("-j --json-schema", "SCHEMA", GRAMMAR),
    refused("-jf --json-schema-file", "FILE", GRAMMAR),
    ignored("-bs --backend-sampling", "", "tokens are drawn on the CPU"),
    refused("--keep", "64", "no tokens are shifted out of a full context", off="0"),
    same("--perf", becomes="", words="a line of timings goes to stderr"),
    other("--no-perf", "", "-q"),
    ignored("--warmup --no-warmup", "", "nothing is run before the prompt"),
    ignored("--simple-io", "", "output is plain where it goes to no terminal"),
    ignored("-co --color", "[on|off|auto]", "the model's text is printed as it is"),
    ignored("--verbose-prompt", "", "`edgeq run --json` tells the prompt's tokens"),
    refused("-bf --binary-file", "FILE", "-f FILE takes UTF-8 text"),
    refused("--in-prefix --in-suffix", "TEXT", "write it into the prompt, or let the chat template do it"),
    refused("--in-prefix-bos", "", "the chat template says where the BOS token stands"),
    refused("--no-jinja", "", "chat templates are always Jinja, rendered in a sandbox"),
    same("--jinja", becomes="", words="chat templates are always Jinja, rendered in a sandbox"),
    same("--prompt-cache", "DIR", "a folder, which is made, for any number of prompts and models"),
    same("--prompt-cache-all", becomes="", words="answers are kept, too"),
    same("--prompt-cache-ro"),
    same("--cache-prompt", becomes="", words="what was computed is found again, exact to the token"),
    ignored("--no-cache-prompt", "", "what is found again has the same bits as what is computed"),
    ignored("--cache-reuse", "256", "nothing is shifted: what is found again is the beginning of a prompt"),
    ignored("-ctxcp --ctx-checkpoints --swa-checkpoints", "8", "a conversation stays in its cache"),
    ignored("-cram --cache-ram", "8192", "prefixes take a quarter of the free memory, 2 GiB at the most"),
    ignored("-ptc --print-token-count", "8", "-q tells nothing, else timings are told at the end"),
    refused("-sp", "", "the names of special tokens are never printed"),
)

TABLE = Table("llama-cli and llama-completion, the answer", ("run", "chat"), SAMPLING)
