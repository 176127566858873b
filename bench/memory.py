"""Which published model fits on a board, and with how long a context: computed from shapes, nothing loaded.

usage: python -m bench.memory [--scheme q4] [--kv q8]

A model takes its file's pages, the cache of a sequence, RUNTIME and its tokenizer. It fits where these are no
more than SHARE of the board's memory: the rest is left to the system and to other programs. The output is the
table of docs/raspberry-pi.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from bench.known import KNOWN
from edgeq import models
from edgeq.cache import KINDS, CacheShape
from edgeq.converters.pipeline import planned
from edgeq.converters.recipe import CHOICES, choose

BOARDS_GB = (1, 2, 4, 8)
SHARE = 0.75
RUNTIME = 80_000_000  # bytes of Python, its libraries and a pass's buffers: see bench/LOG.md
PIECE = 650  # bytes that the tokenizer takes for each entry of the vocabulary: see there
STEP = 256  # tokens: a cache grows by so many


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes."""

    file: int
    runtime: int
    token: int  # of the cache, for each token of context
    tokens_max: int  # that the model was made for

    @classmethod
    def of(cls, words: dict[str, Any], scheme: str, kv: str) -> Need:
        """For the words of a checkpoint's config.json. The tokenizer's bytes in the file are not counted."""
        family = models.family_of(words)
        c = models.family(family).Config.from_hf(words)
        cache = CacheShape.of(kv, c.num_hidden_layers, c.num_key_value_heads, c.head_dim, STEP)
        file = sum(tensor.nbytes for tensor in planned(family, c, choose(scheme=scheme)))
        runtime = RUNTIME + PIECE * c.vocab_size
        return cls(file, runtime, cache.nbytes // STEP, c.max_position_embeddings)

    def context(self, memory_gb: int) -> int:
        """The longest context that fits on a board with so much memory; 0 where the model does not."""
        left = int(SHARE * (memory_gb << 30)) - self.runtime - self.file
        return min(max(0, left // (self.token * STEP) * STEP), self.tokens_max)


def table(scheme: str = "q4", kv: str = "q8") -> str:
    """Markdown, smallest file first."""
    needs = {name: Need.of(words, scheme, kv) for name, (words, _) in KNOWN.items()}
    head = ["model", f"file, {scheme}", "cache, 1000 tokens", *(f"{size} GB" for size in BOARDS_GB)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, need in sorted(needs.items(), key=lambda item: item[1].file):
        fits = [need.context(size) for size in BOARDS_GB]
        cells = [f"{tokens:,}".replace(",", " ") if tokens else "–" for tokens in fits]
        sizes = [f"{need.file / 1e6:.0f} MB", f"{need.token / 1e3:.0f} MB"]
        lines.append(f"| {' | '.join([name, *sizes, *cells])} |")
    return "\n".join(lines)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__, formatter_class=raw)
    parser.add_argument("--scheme", default="q4", choices=CHOICES)
    parser.add_argument("--kv", default="q8", choices=list(KINDS))
    print(table(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
