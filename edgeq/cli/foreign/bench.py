"""llama-bench's options: `edgeq bench`. Each of them takes a value there, 0 or 1 for a switch."""

from __future__ import annotations

from edgeq.cli.foreign.machine import CPU, MAPPED, PINNED
from edgeq.cli.foreign.rows import Table, ignored, other, refused, same

PRINTS = "a table, or one JSON object with --json, goes to stdout"

BENCH = (
    same("-p --n-prompt", "8", "one number, no list"),
    same("-n --n-gen", "3", "one number, no list"),
    same("-d --n-depth", "4", "one number, no list"),
    same("-r --repetitions", "1"),
    same("-t --threads", "1,2"),
    refused("-pg", "8,3", "-p and -n are measured one after the other: give both"),
    other("-o --output", "json", None, PRINTS, values={"json": "--json", "md": ""}),
    ignored("-oe --output-err", "md", PRINTS),
    ignored("-fa --flash-attn", "1", "attention never holds all scores at once"),
    ignored("-nkvo --no-kv-offload", "1", CPU),
    ignored("-nopo --no-op-offload", "1", CPU),
    ignored("--no-host", "1", CPU),
    ignored("--repack", "1", "the file has the order that the kernels read"),
    ignored("-mmp --mmap", "1", MAPPED),
    ignored("-dio --direct-io", "0", MAPPED),
    refused("-embd --embeddings", "1", "edgeq measures prompts and answers", off="0"),
    ignored("--delay", "1", "turns follow one another"),
    ignored("--progress", "", "a terminal shows how far it is"),
    ignored("--no-warmup", "", "a first turn that does not count is part of the measure"),
    ignored("--cpu-strict", "1", PINNED),
)

TABLE = Table("llama-bench", ("bench",), BENCH)
