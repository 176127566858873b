"""What a person waits for at first, and how long that may take: rows for `bench.start`.

The model is the bundled one of 260 000 parameters, converted to `q4` (embedding and head are `q8`), so that
what is measured is the program: its start, and the compiling of the kernels that any `q4` model of its family
needs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import middle, once

EDGEQ = (sys.executable, "-m", "edgeq")
ANSWER = ("-p", "Once upon a time", "-c", "256", "--temp", "0", "-n", "1")
CPU, FIRST = "cpu_s", "first_s"  # what `processes.once` gives: processor time, time to the first byte


@dataclass(frozen=True)
class Bar:
    """A command, and how many seconds of what it may take."""

    name: str
    limit_s: float
    words: Sequence[str] = ()  # of the command line; MODEL stands for the model
    figure: str = CPU
    variables: Mapping[str, str] = field(default_factory=dict)
    cold: bool = False  # with an empty cache each time


def completion(words: str) -> dict[str, str]:
    """The variables by which bash asks what may follow these words."""
    count = str(len(words.split(" ")) - 1)
    return {"_EDGEQ_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}


BARS = (
    Bar("edgeq --help", 0.15, ["--help"]),
    Bar("completion of a command", 0.2, variables=completion("edgeq ")),
    Bar("completion of an option", 0.2, variables=completion("edgeq run --")),
    Bar("first token, warm", 0.3, ["run", "MODEL", *ANSWER], FIRST),
    Bar("first run ever, q4", 7.0, ["run", "MODEL", *ANSWER], cold=True),
)
COLD_TURNS = 3  # at the most


def measured(turns: int) -> list[dict[str, Any]]:
    """Each bar with the medians of so many turns."""
    from edgeq.converters import convert
    from edgeq.demo import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "story.edgeq")
        convert(checkpoint(), model, scheme="q4")
        return [row(bar, model, min(turns, COLD_TURNS) if bar.cold else turns) for bar in BARS]


def row(bar: Bar, model: Path, turns: int) -> dict[str, Any]:
    command = [*EDGEQ, *(str(model) if word == "MODEL" else word for word in bar.words)]
    runs: list[dict[str, float]] = []
    if not bar.cold:
        once(command, bar.variables)  # kernels compiled, pages read
    for turn in range(turns):
        cache = {"XDG_CACHE_HOME": str(model.parent / f"cache{turn}")} if bar.cold else {}
        runs.append(once(command, {**bar.variables, **cache}))
    figures = middle(runs)
    del figures["peak_rss_mb"]  # which begins with what this process holds
    return {"bar": bar.name, "figure": bar.figure, "limit_s": bar.limit_s, **figures}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """For people: what was measured beside what it may be."""
    lines = [f"{'':26}{'held to':>10}{'limit s':>9}{'':6}{'CPU s':>8}{'first byte s':>14}"]
    for one in rows:
        over = "over" if one[one["figure"]] > one["limit_s"] else ""
        lines.append(
            f"{one['bar']:26}{one['figure']:>10}{one['limit_s']:9.2f}{over:>6}{one['cpu_s']:8.3f}"
            f"{one['first_s']:14.3f}"
        )
    return "\n".join(lines)
