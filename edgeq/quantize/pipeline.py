"""From a model to a quantized file, and what that will take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgeq import models
from edgeq.arguments import is_int
from edgeq.calibrate import windows
from edgeq.calibrate.documents import Document
from edgeq.calibrate.statistics import Statistics, calibrate
from edgeq.converters import pipeline as converting
from edgeq.converters.recipe import Recipe, choose
from edgeq.converters.source import Source
from edgeq.converters.wrapped import told
from edgeq.cores import default_threads
from edgeq.errors import UsageError, shown, size
from edgeq.runtime.dense import Dense

from .budget import Budget, check, file_bytes, room_of
from .estimate import Estimate, Shapes, fitting, memory, seconds
from .origin import refuse_quantized
from .quality import Quality, preset
from .run import SENSITIVITY_WINDOWS, Order, Progress, Result, Run, Tell
from .sensitivity import Sensitivity, affordable, sensitivities
from .streams import JUDGE, LEARN
from .transforms import TRANSFORMS, Transform, made

TOKENS_MIN = 2048  # of calibration, where memory is short
ROWS_BYTES = 384 << 20  # of the rows of all windows, that a preset's tokens may take: wide models get fewer


def quantize(
    source: str | os.PathLike[str] | Source,
    output: str | os.PathLike[str],
    *,
    quality: str = "good",
    recipe: Recipe | None = None,
    budget: Budget | None = None,
    texts: Sequence[Document] | None = None,
    statistics: Statistics | None = None,
    steps: Sequence[str] | None = None,
    transforms: Sequence[str | Transform] = (),
    tokens: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    max_ram: int | None = None,
    allow_requantize: bool = False,
    progress: Progress | None = None,
    tell: Tell | None = None,
    examine: converting.Examine | None = None,
) -> Result:
    """Write a model (checkpoint directory, .gguf file or hub name) as the .edgeq file `output`, its matrices
    quantized by a preset of QUALITIES.

    recipe: the scheme of each matrix (default: e4, embedding and head e8). budget: instead, a size for which
    schemes are chosen by what rounding each matrix costs (`sensitivity`). texts: documents to calibrate on;
    None takes those that come with edgeq. statistics: in place of texts, what was learnt of some before.
    steps: names of METHODS in place of the preset's. transforms: names of TRANSFORMS, or made with options,
    which the float model goes through before; where nothing is known of what feeds what they are left out,
    and that is told. tokens: of calibration. max_ram: bytes of memory; where they are short, fewer tokens
    are taken, and that is told. progress(share, what) is called often, tell(sentence) for what a person
    should know. examine(path) gives more words for the header, from the file when it is whole and before it
    has its name.

    Broken off, it leaves OUTPUT.quantizing beside the output, from which the same call goes on; nothing else
    is written before the file is whole. The same call gives the same bytes, whatever the threads. UsageError,
    UnsupportedError or FormatError say what is wrong.
    """
    if not is_int(seed):
        raise UsageError(f"seed is {shown(seed)}, but a whole number is needed.")
    told = tell or ignore
    opened, chosen = planned(source, quality, steps, tokens, max_ram, allow_requantize, told, recipe)
    if budget is not None and (recipe is not None or statistics is not None or not chosen.tokens):
        raise UsageError("a budget chooses every scheme by running the model: give no schemes, no statistics")
    if statistics is not None and (chosen.follow or texts is not None):
        raise UsageError("statistics are of the float model's inputs: they go with quality good, and no text")
    target = converting.checked_target(None if isinstance(source, Source) else source, output)
    check_transforms(transforms, chosen, statistics)
    if transforms and not hasattr(models.family(opened.family), "FOLDS"):
        names = ", ".join(each if isinstance(each, str) else each.name for each in transforms)
        told(
            f"nothing is known of what feeds what in family {opened.family}: it is quantized without {names}"
        )
        transforms = ()
    if budget is not None:
        check(budget, opened)
    recipe = recipe or choose(scheme="e4")
    order = Order(chosen, recipe, budget, texts, statistics, tuple(transforms), int(seed), examine)
    with Dense(threads or default_threads()) as dense:
        return Run(opened, target, order, dense, progress or ignore, told).all()


def estimate(
    source: str | os.PathLike[str] | Source,
    *,
    quality: str = "good",
    recipe: Recipe | None = None,
    budget: Budget | None = None,
    steps: Sequence[str] | None = None,
    tokens: int | None = None,
    threads: int | None = None,
    max_ram: int | None = None,
    allow_requantize: bool = False,
) -> Estimate:
    """What `quantize` with these arguments will take: a fraction of a second of this machine's time tells."""
    opened, chosen = planned(source, quality, steps, tokens, max_ram, allow_requantize, ignore, recipe)
    shapes = Shapes.of(opened)
    if budget is None:
        nbytes = file_bytes(opened, recipe or choose(scheme="e4"))
    elif budget.size is not None:
        nbytes = budget.size
    else:
        nbytes = room_of(budget.bits_per_weight or 0, opened)
    with Dense(threads or default_threads()) as dense:
        taken = seconds(shapes, chosen, dense, budget is not None)
    return Estimate(nbytes, memory(shapes, chosen.tokens), taken, chosen.tokens)


@dataclass(frozen=True)
class Measured:
    """What rounding each matrix costs, on so many tokens of a text: the second halves of its windows."""

    rows: list[Sensitivity]
    tokens: int
    text_sha256: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    source: str | os.PathLike[str] | Source,
    *,
    texts: Sequence[Document] | None = None,
    tokens: int | None = None,
    threads: int | None = None,
    allow_requantize: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """The sensitivity of each matrix (`quantize.sensitivity`), calibrated as `quantize` would."""
    opened, chosen = planned(source, "good", None, tokens, None, allow_requantize, ignore)
    ran = windows.cut(opened, texts, chosen.tokens)
    parts = ran.parts()
    with Dense(threads or default_threads()) as dense:
        rows = sensitivities(
            opened, dense, parts[LEARN][:SENSITIVITY_WINDOWS], parts[JUDGE], chosen.steps, progress or ignore
        )
    judged = affordable(opened, parts[JUDGE])
    length = judged.shape[1]
    return Measured(rows, len(judged) * (length - 1 - length // 2), ran.text_sha256)


def keep_statistics(
    source: str | os.PathLike[str] | Source,
    output: str | os.PathLike[str],
    *,
    texts: Sequence[Document] | None = None,
    tokens: int | None = None,
    threads: int | None = None,
    diagonal: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the moments of a model's products over texts (`calibrate.statistics`), as `quantize` would take
    them; `diagonal`, their squares alone.
    """
    opened, chosen = planned(source, "good", None, tokens, None, True, ignore)
    with Dense(threads or default_threads()) as dense:
        ran = windows.cut(opened, texts, chosen.tokens)
        calibrate(opened, output, ran, dense, progress or ignore, diagonal=diagonal)


def planned(
    source: str | os.PathLike[str] | Source,
    quality: str,
    steps: Sequence[str] | None,
    tokens: int | None,
    max_ram: int | None,
    allow_requantize: bool,
    tell: Tell,
    recipe: Recipe | None = None,
) -> tuple[Source, Quality]:
    """The source, opened, and the preset with what else was said; the recipe tells what is rounded."""
    chosen = preset(quality, steps, tokens)
    opened = source if isinstance(source, Source) else converting.open_source(source)
    if opened.left_out:
        tell(told(opened.left_out))
    if chosen.tokens:
        windows.check(opened)
    if not allow_requantize:
        refuse_quantized(opened, recipe)
    shapes = Shapes.of(opened)
    if tokens is None:
        chosen = replace(chosen, tokens=min(chosen.tokens, ROWS_BYTES // (8 * shapes.hidden)))
    if max_ram is not None and chosen.tokens:
        fits = fitting(shapes, chosen.tokens, max_ram)
        if fits < TOKENS_MIN:
            raise UsageError(
                f"{size(max_ram)} of memory are too few: this model needs {size(memory(shapes, TOKENS_MIN))}"
            )
        if fits < chosen.tokens:
            tell(f"{fits} tokens of calibration fit in {size(max_ram)}, in place of {chosen.tokens}")
            chosen = replace(chosen, tokens=fits)
    return opened, chosen


def check_transforms(
    transforms: Sequence[str | Transform], quality: Quality, statistics: Statistics | None
) -> None:
    """UsageError for a transform that is none, or that lacks the text that it needs."""
    for name in transforms:
        if isinstance(name, str) and made(name) and TRANSFORMS[name].data and not quality.tokens:
            raise UsageError(f"transform {name} needs calibration: another quality than {quality.name}")
    if transforms and statistics is not None:
        raise UsageError("statistics are of the model before its transforms: give either these or transforms")


def ignore(*_: object) -> None:
    """Nobody listens."""
