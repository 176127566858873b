"""Which published model fits on a board, and with how long a context: computed from shapes, nothing loaded.

usage: python -m bench.memory [--scheme q4] [--kv q8]

A model takes its file's pages, the cache of a sequence, RUNTIME and its tokenizer. It fits where these are no
more than SHARE of the board's memory, and leave SYSTEM of it: the rest is for the system and for other
programs. The output is a table of docs/raspberry-pi.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from bench.known import KNOWN
from edgeq import models
from edgeq.cache import KINDS, Plan, kind_of
from edgeq.converters.pipeline import planned
from edgeq.converters.recipe import CHOICES, choose
from edgeq.kernels.catalog import CHUNK

BOARDS_GB = (0.5, 1, 2, 4, 8, 16)
SHARE = 0.75
SYSTEM = 250_000_000  # bytes of any board: the firmware's, and those of a system without a desktop
RUNTIME = 80_000_000  # bytes of Python, its libraries and a pass's buffers: see bench/LOG.md
PIECE = 650  # bytes that the tokenizer takes for each entry of the vocabulary: see there
STEP = CHUNK  # tokens: a cache grows by so many


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes."""

    file: int
    read: int  # of the file, for each generated token: all but an embedding that is not the head
    runtime: int  # what else it takes, pages of the cache that stay near among it
    token: int  # of the cache, for each token of context
    tokens_max: int  # that the model was made for

    @classmethod
    def of(cls, words: dict[str, Any], scheme: str, kv: str) -> Need:
        """For the words of a checkpoint's config.json. The tokenizer's bytes in the file are not counted."""
        family = models.family_of(words)
        c = models.family(family).Config.from_hf(words)
        cache = Plan.of(kind_of(kv), c.max_position_embeddings, c.cache_layers())
        sizes = {tensor.name: tensor.nbytes for tensor in planned(family, c, choose(scheme=scheme))}
        file = sum(sizes.values())
        skipped = sizes["embed"] if "output" in sizes else 0
        runtime = RUNTIME + PIECE * c.vocab_size + cache.near_bytes
        return cls(file, file - skipped, runtime, cache.token_bytes, c.max_position_embeddings)

    def context(self, memory_gb: float) -> int:
        """The longest context that fits on a board with so much memory; 0 where the model does not."""
        left = room(memory_gb) - self.runtime - self.file
        return min(max(0, left // (self.token * STEP) * STEP), self.tokens_max)


def room(memory_gb: float) -> int:
    """Bytes that a model may take of a board's memory, given in units of 2^30."""
    memory = int(memory_gb * (1 << 30))
    return min(int(SHARE * memory), memory - SYSTEM)


def named(memory_gb: float) -> str:
    return f"{memory_gb} GB" if memory_gb >= 1 else f"{int(memory_gb * 1024)} MB"


def by_size(scheme: str, kv: str) -> dict[str, Need]:
    """All known models, smallest file first."""
    needs = {name: Need.of(words, scheme, kv) for name, (words, _) in KNOWN.items()}
    return dict(sorted(needs.items(), key=lambda item: item[1].file))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def table(scheme: str = "q4", kv: str = "q8") -> str:
    """Markdown, smallest file first."""
    head = ["model", f"file, {scheme}", "cache, 1000 tokens", *map(named, BOARDS_GB)]
    rows = []
    for name, need in by_size(scheme, kv).items():
        fits = [need.context(size) for size in BOARDS_GB]
        cells = [f"{tokens:,}".replace(",", " ") if tokens else "–" for tokens in fits]
        rows.append([name, f"{need.file / 1e6:.0f} MB", f"{need.token / 1e3:.0f} MB", *cells])
    return markdown(head, rows)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__, formatter_class=raw)
    parser.add_argument("--scheme", default="q4", choices=CHOICES)
    parser.add_argument("--kv", default="q8", choices=list(KINDS))
    print(table(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
