"""Names that people know quantization by, and what stands for each: scheme, transforms, steps, activations.

They serve comparisons. A row says what of the original is done, what is simulated (`simulated`, a name of
`activations.ACTIVATIONS`: the engine has no such kernels), and what is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.converters.recipe import Recipe, choose, load
from edgeq.errors import UsageError, near

from .methods import METHODS
from .quality import LADDER
from .transforms import TRANSFORMS, Awq, SmoothQuant, Transform


@dataclass(frozen=True)
class Preset:
    """A row."""

    name: str
    scheme: str  # of the blocks' matrices, or the name of a recipe for all
    steps: tuple[str, ...]  # names of METHODS
    act: str  # what the engine is to be run with: "int8" or "f32"
    about: str
    transforms: tuple[str | Transform, ...] = ()
    simulated: str = ""
    whole: bool = False  # whether `scheme` is the name of a recipe

    @property
    def activations(self) -> str:
        """What rounds the rows that products read, a name of ACTIVATIONS; "": nothing does."""
        return self.simulated or ("int8" if self.act == "int8" else "")

    @property
    def data(self) -> bool:
        """Whether a text is needed."""
        needing = tuple(name for name, row in TRANSFORMS.items() if row.data)
        named = any(isinstance(each, Awq | SmoothQuant) or each in needing for each in self.transforms)
        return named or any(METHODS[step].data for step in self.steps)

    @property
    def recipe(self) -> Recipe:
        """Embedding and head have 8 bits."""
        return load(self.scheme) if self.whole else choose(scheme=self.scheme)


PRESETS: Mapping[str, Preset] = {
    row.name: row
    for row in (
        Preset("w8a16", "e8", ("search",), "f32", "8-bit weights; activations stay float32"),
        Preset("w6a16", "e6", LADDER, "f32", "6-bit weights; activations stay float32"),
        Preset("w4a16", "e4", LADDER, "f32", "4-bit weights; activations stay float32"),
        Preset("w8a8", "e8", ("search",), "int8", "8-bit weights; int8 activations, a scale for 32 columns"),
        Preset("w4a8", "e4", LADDER, "int8", "4-bit weights; int8 activations, a scale for 32 columns"),
        Preset(
            "w4a4-sim",
            "e4",
            LADDER,
            "int8",
            "4-bit weights; activations of 4 bits, a scale for 32 columns, are simulated",
            simulated="int4",
        ),
        Preset(
            "zeroquant",
            "q8",
            ("rtn",),
            "int8",
            "8 bits for 32 weights and for each token, simulated; without its distillation layer by layer",
            simulated="int8-token",
        ),
        Preset(
            "llm.int8",
            "q8r",
            ("rtn",),
            "int8",
            "8 bits for each row and each token, simulated; outlier columns are not kept in 16 bits",
            simulated="int8-token",
        ),
        Preset(
            "smoothquant",
            "q8r",
            ("rtn",),
            "int8",
            "8 bits for each row of weights and one static scale for each product's inputs, simulated",
            transforms=("smoothquant",),
            simulated="int8-static",
        ),
        Preset(
            "awq",
            "q4g128",
            ("clip",),
            "f32",
            "factors, then clipping, a scale for 128 weights; symmetric, where the original has a min",
            transforms=(Awq(steps=("rtn",)),),
        ),
        Preset(
            "omniquant-clip",
            "q4g128",
            ("clip",),
            "f32",
            "its clipping alone, searched for; the original learns it, and factors, by gradients",
        ),
        Preset("gptq", "q4g128", ("rtn", "gptq"), "f32", "a scale for 128 weights, columns by importance"),
        Preset("nf4", "nf4", ("rtn",), "f32", "QLoRA's numbers; scales have 16 bits, not 8 as there"),
        Preset("hqq", "q4m", ("hqq",), "f32", "a min for 32 weights, not 64; p 0.75, not 0.7"),
        Preset(
            "sinq",
            "e4",
            ("search",),
            "f32",
            "its factors of columns, folded; for those of rows stand edgeq's own scales",
            transforms=("sinq",),
        ),
        Preset(
            "quarot",
            "q4g128",
            ("rtn", "gptq"),
            "int8",
            "offline rotations, GPTQ; 4 bits for each token, simulated; no online rotations, no 4-bit cache",
            transforms=("rotate",),
            simulated="int4-token",
        ),
        Preset(
            "qoq",
            "e4",
            ("importance",),
            "int8",
            "QServe's rotation, smoothing, integer scales; 8 bits for each token, simulated; no 4-bit cache",
            transforms=("rotate", SmoothQuant(alpha=0.3)),
            simulated="int8-token",
        ),
        Preset(
            "atom",
            "q4g128",
            ("clip", "gptq"),
            "int8",
            "4 bits for 128 weights; for 128 activations they are simulated; no 8-bit outlier columns",
            simulated="int4-128",
        ),
        Preset(
            "iot",
            "iot",
            ("rtn",),
            "int8",
            "edgeq's recipe of that name: feed-forward in 8 bits, all else in f16",
            whole=True,
        ),
    )
}


def preset_of(name: str) -> Preset:
    """The row of that name; UsageError for a name that none has."""
    if name not in PRESETS:
        raise UsageError(
            f"preset {name!r:.80} is unknown; known are {', '.join(PRESETS)}{near(name, PRESETS)}"
        )
    return PRESETS[name]
