"""Tokens per second of prefill and decode, the bytes behind them, and the memory it took."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import UsageError
from edgeq.generate import LanguageModel, TokenSequence

WARM_UP_TOKENS = 16  # enough to reach every kernel of prefill


@dataclass(frozen=True)
class Rate:
    """Tokens per second over the repetitions."""

    median: float
    min: float
    max: float


@dataclass(frozen=True)
class Throughput:
    """One row of a bench. Tokens are pseudo-random, logits are computed and not sampled from.

    `prefill` feeds `prefill_tokens` at once, `decode` feeds `decode_tokens` one by one, both after `depth`
    tokens that are in the cache already; None where 0 tokens were asked for. `weight_bytes` are read for
    every decoded token, so `decode_gbps` is decode's median times that, in 10^9 bytes per second.
    `peak_rss_bytes` is the highest memory of the whole process so far, mapped file pages included; None where
    the system does not tell.
    """

    threads: int | None
    prefill_tokens: int
    decode_tokens: int
    depth: int
    repetitions: int
    prefill: Rate | None
    decode: Rate | None
    weight_bytes: int
    decode_gbps: float | None
    load_seconds: float | None
    peak_rss_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Progress = Callable[[str, int, int], object]


def throughput(
    load: Callable[[int | None], AbstractContextManager[LanguageModel]],
    *,
    threads: Sequence[int | None] = (None,),
    prefill: int = 256,
    decode: int = 64,
    depth: int = 0,
    repetitions: int = 3,
    progress: Progress | None = None,
) -> list[Throughput]:
    """`measure` once for each thread count; `load(threads)` gives the model, timed as `load_seconds`."""
    rows = []
    for count in threads:
        start = time.perf_counter()
        with load(count) as model:
            took = time.perf_counter() - start
            row = measure(
                model, prefill=prefill, decode=decode, depth=depth, repetitions=repetitions,
                load_seconds=took, progress=progress,
            )  # fmt: skip
        rows.append(row)
    return rows


def measure(
    model: LanguageModel,
    *,
    prefill: int = 256,
    decode: int = 64,
    depth: int = 0,
    repetitions: int = 3,
    load_seconds: float | None = None,
    progress: Progress | None = None,
) -> Throughput:
    """Time `repetitions` of each, in turn, after a warm-up that is not counted.

    progress: called with (what was timed, repetitions done, repetitions in all).
    Raises UsageError when a count is negative or the model's context does not hold the tokens.
    """
    check_counts(model, prefill, decode, depth, repetitions)
    ids = np.random.default_rng(1).integers(0, model.vocab_size, depth + max(prefill, decode, 1)).tolist()
    held, fresh = ids[:depth], ids[depth:]
    prefill_seconds, decode_seconds = [], []
    sequence = model.sequence()
    try:
        for warm_up in (ids[:WARM_UP_TOKENS], ids[:1]):
            sequence.feed(warm_up)
            sequence.truncate(0)
        if held:
            sequence.feed(held)
        for repetition in range(1, repetitions + 1):
            if prefill:
                prefill_seconds.append(seconds(sequence, [fresh[:prefill]], held))
                if progress is not None:
                    progress("prefill", repetition, repetitions)
            if decode:
                decode_seconds.append(seconds(sequence, [[id] for id in fresh[:decode]], held))
                if progress is not None:
                    progress("decode", repetition, repetitions)
    finally:
        sequence.close()
    rate = rates(decode, decode_seconds)
    weights = weight_bytes(model)
    return Throughput(
        threads=getattr(model, "threads", None),
        prefill_tokens=prefill,
        decode_tokens=decode,
        depth=depth,
        repetitions=repetitions,
        prefill=rates(prefill, prefill_seconds),
        decode=rate,
        weight_bytes=weights,
        decode_gbps=weights * rate.median / 1e9 if rate else None,
        load_seconds=load_seconds,
        peak_rss_bytes=peak_rss_bytes(),
    )


def check_counts(model: LanguageModel, prefill: int, decode: int, depth: int, repetitions: int) -> None:
    """Raise UsageError when a count is too small or the tokens do not fit the context."""
    for name, value, low in (
        ("prefill", prefill, 0), ("decode", decode, 0), ("depth", depth, 0), ("repetitions", repetitions, 1),
    ):  # fmt: skip
        if value < low:
            raise UsageError(f"{name} is {value}, but must be at least {low}")
    if depth + max(prefill, decode, 1) > model.context:
        raise UsageError(
            f"the bench needs {max(prefill, decode, 1)} tokens after {depth}, "
            f"but the context holds {model.context}"
        )


def seconds(sequence: TokenSequence, pieces: list[list[int]], held: list[int]) -> float:
    """The time to feed `pieces` one after another; `sequence` holds `held` before and after."""
    start = time.perf_counter()
    for piece in pieces:
        sequence.feed(piece)
    took = time.perf_counter() - start
    kept = sequence.truncate(len(held))
    if kept < len(held):  # of windows and states less is left than was asked for
        sequence.feed(held[kept:])
    return took


def rates(tokens: int, times: list[float]) -> Rate | None:
    """Tokens per second for each of the times in seconds; None without any."""
    if not times:
        return None
    each = [tokens / max(took, 1e-9) for took in times]
    return Rate(statistics.median(each), min(each), max(each))


def weight_bytes(model: LanguageModel) -> int:
    """Bytes of the model file that one decoded token reads: all tensors, except the tokenizer's, and
    embeddings that are not the output head too (of them, one row is read).
    """
    tensors = model.file.tensors
    rows = {name for name in tensors if name.startswith("embed")}
    skipped = {"tokenizer"} | (rows if "output" in tensors else rows - {"embed"})
    return sum(tensor.nbytes for name, tensor in tensors.items() if name not in skipped)


def peak_rss_bytes() -> int | None:
    """The highest resident memory of this process so far.

    Linux keeps it for the program that runs now; getrusage there still counts what the parent had before
    exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
