"""Tokens a second that a Raspberry Pi's memory allows, for each published model: computed, nothing was run.

usage: python -m bench.boards [--scheme q4] [--kv q8] [--filled 1000]

To generate a token the cores read every weight once (of an embedding that is not the head too, one row) and
the cache of all tokens before it, so no board does more tokens a second than the bytes that its cores read in
a second, divided by these. What they read was measured by others; the source stands with each board. The
output are two tables of docs/raspberry-pi.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from bench.memory import Need, by_size, markdown, named
from edgeq.converters.recipe import CHOICES
from edgeq.formats import SCHEMES
from edgeq.kvkinds import KINDS

FILLED = 1000  # tokens in the cache
CORES = 4
BUS_BYTES = 4  # all these boards have one channel of 32 bits
CLOCKS = (
    "https://github.com/raspberrypi/documentation/blob/"
    "09e9186d4280a39583d3132826355a9ad5b30443/documentation/asciidoc/computers/config_txt/overclocking.adoc"
)  # arm_freq and sdram_freq of each board


@dataclass(frozen=True)
class Board:
    """A board of four cores, and how fast its memory is."""

    name: str
    core: str
    ghz: float
    macs: float  # multiply-adds of q4 weights in a cycle of a core, for one token: bench.static counted them
    sizes_gb: tuple[float, ...]
    memory: str
    transfers: float  # millions a second, of BUS_BYTES
    read: float  # GB a second that its cores were measured to move
    how: str
    source: str

    @property
    def peak(self) -> float:
        """GB a second that the bus carries: a limit that nothing reaches."""
        return self.transfers * BUS_BYTES / 1000

    @property
    def units(self) -> float:
        """GB a second of q4 weights that the integer units would take, were they in the cache."""
        return CORES * self.ghz * self.macs * SCHEMES["q4"].bits_per_weight / 8


BOARDS = (
    Board(
        "Zero 2 W", "Cortex-A53", 1.0, 1.4, (0.5,), "LPDDR2", 2 * 450,
        2.6, "tinymembench copies 1.30 GB/s, read and written",
        "https://github.com/ThomasKaiser/Knowledge/blob/master/articles/Quick_Review_of_RPi_Zero_2_W.md",
    ),
    Board(
        "Pi 3B+", "Cortex-A53", 1.4, 1.4, (1,), "LPDDR2", 2 * 500,
        2.3, "tinymembench copies 1.13 GB/s, read and written",
        "https://github.com/ThomasKaiser/sbc-bench/blob/master/Results.md",
    ),
    Board(
        "Pi 4", "Cortex-A72", 1.8, 6.6, (1, 2, 4, 8), "LPDDR4", 3200,
        5.5, "STREAM's copy, read and written, one thread",
        "https://www.sci-pi.org.uk/bench/stream.html",
    ),
    Board(
        "Pi 5", "Cortex-A76", 2.4, 11.1, (1, 2, 4, 8, 16), "LPDDR4X", 4267,
        11.6, "read only, four threads; two read 13.2",
        "https://github.com/ggml-org/llama.cpp/issues/26484",
    ),
)  # fmt: skip


def rate(board: Board, need: Need, filled: int = FILLED) -> float | None:
    """Tokens a second with so many in the cache; None where no variant of the board has room for that."""
    if need.context(max(board.sizes_gb)) < filled:
        return None
    return board.read * 1e9 / (need.read + filled * need.token)


def shown(tokens: float | None) -> str:
    """Two digits: the bandwidths are not known better."""
    if tokens is None:
        return "–"
    return f"{tokens:.0f}" if tokens >= 9.95 else f"{tokens:.1f}"


def table_of_boards() -> str:
    """Markdown, a row for each board."""
    head = ["board", "cores", "memory", "bus, GB/s", "measured, GB/s", "how, by whom", "units, GB/s of q4"]
    rows = []
    for board in BOARDS:
        sizes = ", ".join(map(named, board.sizes_gb)).replace(" GB,", ",")
        cells = [f"{CORES} x {board.core}, {board.ghz} GHz", f"{sizes} {board.memory}", f"{board.peak:.1f}"]
        how = f"{board.how} ([source]({board.source}))"
        rows.append([board.name, *cells, f"{board.read:.1f}", how, f"{board.units:.1f}"])
    return markdown(head, rows)


def table_of_rates(scheme: str = "q4", kv: str = "q8", filled: int = FILLED) -> str:
    """Markdown, a row for each model that one of the boards has room for, smallest file first."""
    head = ["model", "MB a token", *(board.name for board in BOARDS)]
    rows = []
    for name, need in by_size(scheme, kv).items():
        rates = [rate(board, need, filled) for board in BOARDS]
        if any(rates):
            rows.append([name, f"{(need.read + filled * need.token) / 1e6:.0f}", *map(shown, rates)])
    return markdown(head, rows)


TABLES: tuple[Callable[[], str], ...] = (table_of_boards, table_of_rates)  # as docs/raspberry-pi.md has them


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.boards", description=__doc__, formatter_class=raw)
    parser.add_argument("--scheme", default="q4", choices=CHOICES)
    parser.add_argument("--kv", default="q8", choices=list(KINDS))
    parser.add_argument("--filled", type=int, default=FILLED, help=f"tokens in the cache  [{FILLED}]")
    given = parser.parse_args()
    print(table_of_boards(), table_of_rates(given.scheme, given.kv, given.filled), sep="\n\n")


if __name__ == "__main__":
    main()
