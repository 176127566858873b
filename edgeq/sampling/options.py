"""How a token is drawn: the options, their ranges, and what is said of a value that is outside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from edgeq.errors import UsageError, shown

LogitBias = tuple[tuple[int, float], ...]


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
    - samplers: their names in the order in which they are applied, or a text of them with ; between; one
      that is not named is not applied. logit_bias, before all, and mirostat or adaptive-p, after all, need
      no name.
    - logit_bias: added to the logits of ids; -infinity bans. A mapping, pairs, or a text: 15043+1,22-inf.
    - typical_p: keep the tokens of the most typical surprise whose probability is more than p; 1 keeps all.
    - top_n_sigma: keep logits at most n standard deviations below the largest; 0 and below keep all.
    - xtc_probability: how often all tokens of at least the probability xtc_threshold but the least likely of
      them are left out; a threshold above 0.5 never does.
    - dynatemp_range: the temperature is from `temperature` less it to `temperature` and it, by the
      distribution's entropy, as a share of the largest that is possible, to the power dynatemp_exponent.
    - dry_multiplier: a token that would go on with a repetition of the last `dry_penalty_last_n` tokens, of
      n tokens, loses multiplier * dry_base ** (n - dry_allowed_length), where n is at least that. 0 is off.
      dry_sequence_breakers: texts that no repetition goes across, or "none".
    - mirostat: 1 or 2 keeps the surprise of what is drawn near mirostat_tau bits, learning at the rate
      mirostat_eta; of the samplers only logit_bias and temperature are applied then.
    - adaptive_target: prefer tokens near this probability; what was drawn before counts with adaptive_decay.
      Below 0 is off.
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
    samplers: tuple[str, ...] = field(default_factory=lambda: default_order())
    logit_bias: LogitBias = ()
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9

    def __post_init__(self) -> None:
        from edgeq.sampling.chain import order_of

        for name, read in {
            "samplers": order_of,
            "logit_bias": bias_of,
            "dry_sequence_breakers": breakers_of,
        }.items():
            object.__setattr__(self, name, read(getattr(self, name)))
        for each in fields(self):
            if each.name in RANGES:
                check_option(each.name, getattr(self, each.name))

    @property
    def greedy(self) -> bool:
        """Whether the temperature leaves one token."""
        from edgeq.sampling.chain import greedy

        return greedy(self)

    @property
    def takes_likeliest(self) -> bool:
        """Whether the token of the largest logit is drawn, whatever stood before."""
        from edgeq.sampling.chain import takes_likeliest

        return takes_likeliest(self)

    @property
    def penalizes(self) -> bool:
        return self.repeat_last_n != 0 and (
            self.repeat_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        )


def default_order() -> tuple[str, ...]:
    """The samplers in llama.cpp's order."""
    from edgeq.sampling.chain import DEFAULT_ORDER

    return DEFAULT_ORDER


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
    "typical_p": (False, 0.0, 1.0, True),
    "top_n_sigma": (False, -1.0, 1e6, True),
    "xtc_probability": (False, 0.0, 1.0, True),
    "xtc_threshold": (False, 0.0, 1.0, True),
    "dynatemp_range": (False, 0.0, 1e6, True),
    "dynatemp_exponent": (False, 0.0, 1e3, True),
    "dry_multiplier": (False, 0.0, 1e6, True),
    "dry_base": (False, 1.0, 1e6, True),
    "dry_allowed_length": (True, 0, 2**31 - 1, True),
    "dry_penalty_last_n": (True, -1, 2**31 - 1, True),
    "mirostat": (True, 0, 2, True),
    "mirostat_tau": (False, 0.0, 1e3, True),
    "mirostat_eta": (False, 0.0, 1e3, True),
    "adaptive_target": (False, -1.0, 1.0, True),
    "adaptive_decay": (False, 0.0, 0.99, True),
}


def check_option(name: str, value: object) -> None:
    """Raise UsageError unless `value` is in the range of the option `name`, a number."""
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


BIAS = re.compile(r"\s*(\d+)\s*([+-].+)")
BIAS_HELP = "ids of tokens with what is added to their logits, such as 15043+1,22-inf"


def bias_of(given: object) -> LogitBias:
    """Pairs of an id and what is added to its logit, checked, by rising id; of one that is given twice the
    sum."""
    if isinstance(given, str):
        words = given.split(",") if given.strip() not in ("", "none") else []
        pairs: Iterable[object] = map(_pair, words)
    elif isinstance(given, Mapping):
        pairs = given.items()
    elif isinstance(given, Iterable):
        pairs = given
    else:
        raise UsageError(f"logit_bias is {shown(given)}, but must be {BIAS_HELP}")
    found: dict[int, float] = {}
    for pair in pairs:
        match pair:
            case (int() | np.integer() as id, int() | float() | np.number() as bias) if _sound(id, bias):
                found[int(id)] = found.get(int(id), 0.0) + float(bias)
            case _:
                raise UsageError(f"logit_bias has {shown(pair)}, but must be {BIAS_HELP}")
    return tuple(sorted(found.items()))


def _sound(id: object, bias: object) -> bool:
    """Whether it is an id, and a number below infinity."""
    return not isinstance(id, bool) and not isinstance(bias, bool) and 0 <= id < 2**31 and bias < np.inf  # type: ignore[operator]


def _pair(word: str) -> tuple[int, float]:
    found = BIAS.fullmatch(word)
    try:
        if found:
            return int(found[1]), float(found[2])
    except ValueError:
        pass
    raise UsageError(f"logit_bias has {shown(word)}, but must be {BIAS_HELP}")


def breakers_of(given: object) -> tuple[str, ...]:
    """DRY's sequence breakers, checked; "none" takes away those before it."""
    words = (given,) if isinstance(given, str) else given
    if not isinstance(words, Iterable):
        raise UsageError(f"dry_sequence_breakers are {shown(given)}, but must be texts")
    found: list[str] = []
    for word in words:
        if not isinstance(word, str) or not word:
            raise UsageError(
                f"a DRY sequence breaker is {shown(word)}, but must be a text of at least one character"
            )
        found = [] if word == "none" else [*found, word]
    return tuple(found)
