"""The samplers, a row each, and the chain of them that options ask for.

Names, letters and the order are llama.cpp's. A sampler takes the candidates that the one before it left and
leaves its own; the last one draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from edgeq.errors import UsageError, shown
from edgeq.sampling import cuts, draws, repetitions, temperatures
from edgeq.sampling.candidates import Candidates
from edgeq.sampling.context import Context
from edgeq.sampling.draws import Drawn
from edgeq.sampling.options import SamplingOptions


@dataclass(frozen=True)
class Step:
    """A sampler that changes what may be drawn.

    changes: whether it does anything with these options. keeps_best: whether the largest logit stays the
    largest.
    """

    letter: str
    apply: Callable[[Candidates, Context], Candidates]
    changes: Callable[[SamplingOptions], bool]
    keeps_best: bool = True
    aliases: tuple[str, ...] = ()


STEPS: dict[str, Step] = {
    "penalties": Step("e", repetitions.penalties, lambda o: o.penalizes, keeps_best=False),
    "dry": Step(
        "d",
        repetitions.dry,
        lambda o: o.dry_multiplier != 0 and o.dry_penalty_last_n != 0,
        keeps_best=False,
    ),
    "top_n_sigma": Step("s", cuts.top_n_sigma, lambda o: o.top_n_sigma > 0),
    "top_k": Step("k", cuts.top_k, lambda o: o.top_k > 0),
    "typ_p": Step("y", cuts.typical_p, lambda o: o.typical_p < 1, keeps_best=False, aliases=("typ",)),
    "top_p": Step("p", cuts.top_p, lambda o: o.top_p < 1, aliases=("nucleus",)),
    "min_p": Step("m", cuts.min_p, lambda o: o.min_p > 0),
    "xtc": Step(
        "x",
        cuts.xtc,
        lambda o: o.xtc_probability > 0 and o.xtc_threshold <= 0.5,
        keeps_best=False,
    ),
    "temperature": Step(
        "t",
        temperatures.temperature,
        lambda o: o.temperature != 1 or o.dynatemp_range > 0,
        aliases=("temp",),
    ),
}
BIAS = Step("", repetitions.logit_bias, lambda o: bool(o.logit_bias), keeps_best=False)
LAST = "adaptive_p"  # it may be named in an order and draws in any case, last

DEFAULT_ORDER = tuple(STEPS)
LETTERS = {**{step.letter: name for name, step in STEPS.items()}, "a": LAST}


@dataclass(frozen=True)
class Draw:
    """A sampler that draws: from what it makes of the candidates; then it may learn from what was drawn."""

    prepare: Callable[[Candidates, Context], Candidates]
    learn: Callable[[Drawn, Context], None]
    chosen: Callable[[SamplingOptions], bool]


DRAWS: tuple[Draw, ...] = (  # the first that is chosen
    Draw(draws.surprising_1, draws.learn_surprise, lambda o: o.mirostat == 1),
    Draw(draws.surprising_2, draws.learn_surprise, lambda o: o.mirostat == 2),
    Draw(draws.adapted, draws.learn_probability, lambda o: o.adaptive_target >= 0),
    Draw(lambda candidates, context: candidates, lambda drawn, context: None, lambda o: True),
)


@dataclass(frozen=True)
class Chain:
    """What is done with each row of logits."""

    steps: tuple[Step, ...]
    draw: Draw

    @property
    def takes_one(self) -> bool:
        """Whether the one candidate that there is, is drawn whatever its logit, and nothing learnt from it:
        no step uses up a random number then."""
        return self.draw is DRAWS[-1] and BIAS not in self.steps

    def candidates(self, candidates: Candidates, context: Context) -> Candidates:
        """Those that the last sampler draws from."""
        for step in self.steps:
            candidates = step.apply(candidates, context)
        return self.draw.prepare(candidates, context)

    def drawn(self, candidates: Candidates, context: Context) -> Drawn:
        """The token, and what there is to learn from it learnt."""
        drawn = draws.draw(self.candidates(candidates, context), context)
        self.draw.learn(drawn, context)
        return drawn


@lru_cache(maxsize=64)
def chain(options: SamplingOptions) -> Chain:
    """The samplers of these options that change anything. Mirostat has logit bias and temperature before it
    and nothing else, as in llama.cpp."""
    order = ("temperature",) if options.mirostat else options.samplers
    steps = [BIAS, *(STEPS[name] for name in order if name != LAST)]
    changing = [step for step in steps if step.changes(options)]
    draw = next(draw for draw in DRAWS if draw.chosen(options))
    if greedy(options):
        # Only what changes the best token counts: what keeps it need not be computed.
        changing = [step for step in changing if not step.keeps_best or step is STEPS["temperature"]]
    return Chain(tuple(changing), draw)


def greedy(options: SamplingOptions) -> bool:
    """Whether the temperature leaves one token."""
    heated = bool(options.mirostat) or "temperature" in options.samplers
    return heated and options.temperature == 0 and options.dynatemp_range <= 0


def takes_likeliest(options: SamplingOptions) -> bool:
    """Whether the token of the largest logit is drawn, whatever stood before."""
    return greedy(options) and len(chain(options).steps) == 1


def order_of(samplers: object) -> tuple[str, ...]:
    """The names of samplers, from those or a text of them with ; between. UsageError for one that there is
    not."""
    words = samplers.split(";") if isinstance(samplers, str) else samplers
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"samplers is {shown(samplers)}, but must be names of samplers with ; between")
    return tuple(_name(word.strip()) for word in words if word.strip())


def _name(word: str) -> str:
    plain = word.replace("-", "_")
    for name in (*STEPS, LAST):
        aliases = STEPS[name].aliases if name in STEPS else ()
        if plain == name or plain == name.replace("_", "") or plain in aliases:
            return name
    raise UsageError(f"samplers has {shown(word)}, but the samplers are {', '.join((*STEPS, LAST))}")


def order_of_letters(letters: str) -> tuple[str, ...]:
    """The names of samplers from their letters. UsageError for one that there is not."""
    unknown = next((letter for letter in letters if letter not in LETTERS), None)
    if unknown is not None:
        known = ", ".join(f"{letter} {name}" for letter, name in LETTERS.items())
        raise UsageError(f"the sequence of samplers has {shown(unknown)}, but the letters are {known}")
    return tuple(LETTERS[letter] for letter in letters)
