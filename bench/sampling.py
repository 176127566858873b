"""What one draw takes with each sampler, in milliseconds a row, beside the limit.

usage: python -m bench.sampling [--vocab 152000] [--repeat 31] [--json]

Rows are random: `peaked`, as a model's (a few tokens hold most of the probability), and `flat`, normal
logits of deviation 1, where a nucleus of 0.95 holds most of the vocabulary. Of each the median of the draws
and the quickest are told, which agree on a machine that does nothing else. The last line of stdout is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.sampling import Sampler, SamplingOptions, all_but, largest, log_sum_exp, only

LIMIT_MS = 0.5
PLAIN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
HISTORY = 8000  # tokens
PENALTIES = {"repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "repeat_last_n": -1}
DRY = {"dry_multiplier": 0.8, "dry_penalty_last_n": -1}
USUAL = {"top_k": 100_000, "top_p": 0.95, "min_p": 1e-4, "temperature": 0.7}

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "temperature 1, no filter": PLAIN,
    "temperature 0.7, no filter": {**PLAIN, "temperature": 0.7},
    "temperature 0 and penalties": {"temperature": 0.0, "repeat_penalty": 1.1},
    "top-k 40": {**PLAIN, "top_k": 40},
    "top-k 1000": {**PLAIN, "top_k": 1000},
    "top-k 50000": {**PLAIN, "top_k": 50000},
    "top-p 0.95": {**PLAIN, "top_p": 0.95},
    "top-p 0.5": {**PLAIN, "top_p": 0.5},
    "min-p 0.05": {**PLAIN, "min_p": 0.05},
    "top-p 0.95, min-p 0.01, temperature 0.7": {**PLAIN, "top_p": 0.95, "min_p": 0.01, "temperature": 0.7},
    "top-n-sigma 1": {**PLAIN, "top_n_sigma": 1.0},
    "typical-p 0.9": {**PLAIN, "typical_p": 0.9},
    "typical-p 0.9, temperature 0.7": {**PLAIN, "typical_p": 0.9, "temperature": 0.7},
    "typical-p 0.9, top-p 0.95, temperature 0.7": {
        **PLAIN,
        **{"typical_p": 0.9, "top_p": 0.95, "temperature": 0.7},
    },
    "XTC each time": {**PLAIN, "xtc_probability": 1.0, "xtc_threshold": 0.01},
    "penalties, last 64": {**PLAIN, "repeat_penalty": 1.1, "presence_penalty": 0.1},
    "penalties, all 8000": {**PLAIN, **PENALTIES},
    "DRY, all 8000": {**PLAIN, **DRY},
    "penalties and DRY, all 8000": {**PLAIN, **PENALTIES, **DRY},
    "logit bias, 300 tokens": {**PLAIN, "logit_bias": {7 * n: 1.0 for n in range(300)}},
    "dynamic temperature": {**PLAIN, "dynatemp_range": 0.5},
    "mirostat 1": {"mirostat": 1, "temperature": 1.0},
    "mirostat 2": {"mirostat": 2, "temperature": 1.0},
    "adaptive-p": {**PLAIN, "adaptive_target": 0.3},
    "penalties, top-k, top-p, min-p, temperature": {**PENALTIES, **USUAL},
    "these, typical-p and DRY": {**PENALTIES, **USUAL, "typical_p": 0.9, **DRY},
    "adaptive-p, min-p 0.05": {**PLAIN, "adaptive_target": 0.3, "min_p": 0.05},
}


def rows(vocab: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    peaked = 2.5 * rng.standard_normal(vocab)
    peaked[rng.choice(vocab, 30, replace=False)] += np.linspace(14, 6, 30)
    return {"peaked": peaked.astype(np.float32), "flat": rng.standard_normal(vocab).astype(np.float32)}


def milliseconds(work: Callable[[], object], repeat: int) -> tuple[float, float]:
    """The median of `repeat` calls and the quickest, after one that is not counted."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return round(statistics.median(times[1:]), 3), round(min(times[1:]), 3)


def works(row: np.ndarray[Any, Any], history: list[int]) -> dict[str, Callable[[], object]]:
    """What is timed, by its name."""
    vocab = len(row)
    found: dict[str, Callable[[], object]] = {}
    for name, options in OPTIONS.items():
        sampler = Sampler(SamplingOptions(**options, seed=1))
        found[name] = lambda sampler=sampler: sampler(row, history)  # type: ignore[misc]
    plain = Sampler(SamplingOptions(**PLAIN, seed=1))
    few, most = only(range(5, vocab, 50), vocab), all_but({2, 3}, vocab)
    found["mask of one in 50, temperature 1"] = lambda: plain(row, history, mask=few)
    found["mask of all but two, temperature 1"] = lambda: plain(row, history, mask=most)
    found["log-sum-exp"] = lambda: log_sum_exp(row)
    found["the 20 best"] = lambda: largest(row, 20)
    return found


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m bench.sampling", description=__doc__, formatter_class=raw
    )
    parser.add_argument("--vocab", type=int, default=152_000)
    parser.add_argument("--repeat", type=int, default=31)
    parser.add_argument("--json", action="store_true", help="only the JSON object")
    arguments = parser.parse_args()
    history = np.random.default_rng(1).integers(0, arguments.vocab, HISTORY).tolist()
    taken: dict[str, dict[str, tuple[float, float]]] = {}
    for kind, row in rows(arguments.vocab).items():
        for name, work in works(row, history).items():
            taken.setdefault(name, {})[kind] = milliseconds(work, arguments.repeat)
    if not arguments.json:
        print(f"ms a row of {arguments.vocab} logits, limit {LIMIT_MS}\n")
        print(f"{'':44}{'peaked':>8}{'best':>8}{'flat':>8}{'best':>8}")
        for name, each in taken.items():
            over = "  over" if max(middle for middle, _ in each.values()) > LIMIT_MS else ""
            print(f"{name:44}" + "".join(f"{ms:8.3f}" for pair in each.values() for ms in pair) + over)
        print()
    print(json.dumps({"vocab": arguments.vocab, "limit_ms": LIMIT_MS, "median_and_best_ms": taken}))


if __name__ == "__main__":
    main()
