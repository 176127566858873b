"""From one row of logits to one token id.

The order and the meaning of the steps are llama.cpp's: penalties, top-k, top-p, min-p, temperature, draw.
Every filter keeps a prefix of the tokens sorted by falling logit (equal logits by rising id), so the answer
does not depend on how the vocabulary is ordered in memory. This module knows nothing of models, text or
caches.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import FormatError, UsageError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

BLOCKS = 64  # the partial selection looks at the largest logit of every BLOCKS-th before it looks at all


@dataclass(frozen=True)
class SamplingOptions:
    """How a token is drawn. Raises UsageError when a value is outside its range.

    - temperature: 0 is greedy (the largest logit, the lowest id among equals); else logits are divided by it.
    - top_k: keep the k largest; 0 and -1 keep all.
    - top_p: keep the shortest prefix of the sorted tokens whose probability reaches p; 1 keeps all.
    - min_p: keep tokens at least p times as probable as the best; 0 keeps all.
    - repeat_penalty: logits of tokens among the last `repeat_last_n` are divided by it when positive and
      multiplied by it otherwise. repeat_last_n: -1 is all, 0 is none; prompt tokens count.
    - frequency_penalty is subtracted once for each occurrence there, presence_penalty once for a token.
    - seed: None takes one from the operating system.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check_option(field.name, getattr(self, field.name))

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def penalizes(self) -> bool:
        return self.repeat_last_n != 0 and (
            self.repeat_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        )


# name → (whole numbers only, smallest, largest, whether the smallest itself is allowed)
RANGES: dict[str, tuple[bool, float, float, bool]] = {
    "temperature": (False, 0.0, 1e6, True),
    "top_k": (True, -1, 2**31 - 1, True),
    "top_p": (False, 0.0, 1.0, True),
    "min_p": (False, 0.0, 1.0, True),
    "repeat_penalty": (False, 0.0, 1e6, False),
    "repeat_last_n": (True, -1, 2**31 - 1, True),
    "presence_penalty": (False, -1e6, 1e6, True),
    "frequency_penalty": (False, -1e6, 1e6, True),
    "seed": (True, 0, 2**64 - 1, True),
}


def check_option(name: str, value: object) -> None:
    """Raise UsageError unless `value` is in the range of the option `name`."""
    if name == "seed" and value is None:
        return
    whole, low, high, closed = RANGES[name]
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    good = isinstance(value, kinds) and not isinstance(value, bool)
    # A comparison with NaN is false, so NaN is refused here too.
    if good and (low <= value <= high if closed else low < value <= high):  # type: ignore[operator]
        return
    kind, start = ("a whole number" if whole else "a number"), ("of at least" if closed else "above")
    raise UsageError(
        f"{name} is {ascii(value):.40}, but must be {kind} {start} {low:.20g} and at most {high:.20g}"
    )


def check_logits(logits: NDArray[np.floating]) -> None:
    """Raise FormatError when a logit is NaN or infinite, which a sound model file cannot produce."""
    if not np.isfinite(logits).all():
        raise FormatError(
            "the model computed logits that are not finite numbers, so its file is probably damaged: "
            "`edgeq verify` tells which tensor"
        )


def penalized(logits: Floats, history: Sequence[int], options: SamplingOptions) -> Floats:
    """A copy of `logits` [vocab] with the penalties for the last `repeat_last_n` tokens of `history`."""
    window = history if options.repeat_last_n < 0 else history[max(0, len(history) - options.repeat_last_n) :]
    ids, counts = np.unique(np.asarray(window, dtype=np.int64), return_counts=True)
    if not len(ids):
        return logits
    if ids[0] < 0 or ids[-1] >= len(logits):
        raise UsageError(
            f"the history holds token {ids[0] if ids[0] < 0 else ids[-1]}, "
            f"but the vocabulary has {len(logits)} tokens"
        )
    values = logits[ids].astype(np.float64)
    values = np.where(values > 0, values / options.repeat_penalty, values * options.repeat_penalty)
    values -= counts * options.frequency_penalty + options.presence_penalty
    logits = logits.copy()
    logits[ids] = values
    return logits


def largest(logits: Floats, k: int) -> Ids:
    """The ids of the `k` largest logits, by falling logit, equal logits by rising id. k is at least 1."""
    count = len(logits)
    if 4 * k * BLOCKS <= count:
        # Each of the k best strides holds a logit that reaches the bound, so at least k logits do, and few
        # more.
        tops = logits[: count // BLOCKS * BLOCKS].reshape(BLOCKS, -1).max(axis=0)
        ids = np.flatnonzero(logits >= np.partition(tops, len(tops) - k)[len(tops) - k])
    else:
        ids = np.arange(count)
    values = logits[ids]
    if k < len(ids):
        bound = np.partition(values, len(values) - k)[len(values) - k]
        above, equal = ids[values > bound], ids[values == bound]
        ids = np.sort(np.concatenate([above, equal[: k - len(above)]]))
        values = logits[ids]
    return ids[np.argsort(-values, kind="stable")]


def nucleus(logits: Floats, top_p: float, most: int) -> Ids:
    """The shortest prefix of the sorted ids whose probability reaches `top_p`, of at most `most` ids."""
    weights = np.exp(logits - logits.max())
    goal = top_p * float(weights.sum(dtype=np.float64))
    k = 256
    while True:  # seldom more than one turn: the vocabulary is long, the nucleus is short
        k = min(k, most)
        ids = largest(logits, k)
        sums = np.cumsum(weights[ids], dtype=np.float64)
        if sums[-1] >= goal or k == most:
            return ids[: int(np.searchsorted(sums, goal)) + 1]
        k *= 16


def distribution(
    logits: Floats, history: Sequence[int], options: SamplingOptions
) -> tuple[Ids, NDArray[np.float64]]:
    """The ids that may be drawn and their probabilities (float64, sum 1).

    `logits` is float32 [vocab] and is left as it is. With temperature 0 there is one id.
    """
    if options.penalizes:
        logits = penalized(logits, history, options)
    if options.greedy:
        return np.array([np.argmax(logits)]), np.ones(1)
    ids = largest(logits, options.top_k) if 0 < options.top_k < len(logits) else None
    values = logits if ids is None else logits[ids]
    if options.min_p > 0:
        passing = np.flatnonzero(values >= values.max() + np.float32(math.log(options.min_p)))
    else:
        passing = np.arange(len(values))
    if options.top_p < 1:
        # Both filters keep a prefix of the sorted tokens and top-p's probabilities are those of all of
        # `values`, so the shorter prefix is what min-p after top-p would leave.
        passing = nucleus(values, options.top_p, len(passing))
    values = values[passing].astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, which is right
        weights = np.exp((values - values.max()) / options.temperature)
    return passing if ids is None else ids[passing], weights / weights.sum()


class Sampler:
    """Draws token ids from logits: `sampler(logits, history) -> id`. `seed` is the seed in use.

    The same seed, logits and history give the same ids: the random stream is PCG64's raw output, which NumPy
    promises to keep.
    """

    def __init__(self, options: SamplingOptions | None = None) -> None:
        self.options = options if options is not None else SamplingOptions()
        self.seed = self.options.seed if self.options.seed is not None else secrets.randbits(32)
        self._bits = np.random.PCG64(self.seed)

    def __call__(self, logits: Floats, history: Sequence[int], *, banned: Collection[int] = ()) -> int:
        """The id of the next token. `logits` is float32 [vocab]; `history` is every id so far, oldest first;
        `banned` ids are never drawn. Raises FormatError when a logit is not finite."""
        if logits.ndim != 1 or not len(logits):
            raise UsageError(f"logits have shape {list(logits.shape)}, but must be one row [vocab]")
        check_logits(logits)
        if banned:
            logits = logits.copy()
            logits[[id for id in banned if id < len(logits)]] = -np.inf
            if logits.max() == -np.inf:
                raise UsageError("every token of the vocabulary is banned, so there is none to draw")
        ids, probabilities = distribution(logits, history, self.options)
        if len(ids) == 1:
            return int(ids[0])
        sums = np.cumsum(probabilities)
        point = (self._bits.random_raw() >> 11) * 2.0**-53 * sums[-1]
        # The first sum above the point; where rounding put the point on the last sum, the first that reaches
        # it.
        return int(ids[min(np.searchsorted(sums, point, side="right"), np.searchsorted(sums, sums[-1]))])
