"""How good and how fast a model is: perplexity, divergence from a reference, throughput.

Each function takes loaded models and returns a dataclass with `to_json`. Nothing here knows of commands or
files.
"""

from __future__ import annotations

from edgeq.evaluate.divergence import Divergence, Paired, divergence, divergences, paired
from edgeq.evaluate.gate import Term, gate, missed
from edgeq.evaluate.perplexity import Perplexity, perplexity
from edgeq.evaluate.reference import Saved
from edgeq.evaluate.throughput import Throughput, measure, throughput

__all__ = [
    "Divergence",
    "Paired",
    "Perplexity",
    "Saved",
    "Term",
    "Throughput",
    "divergence",
    "divergences",
    "gate",
    "measure",
    "missed",
    "paired",
    "perplexity",
    "throughput",
]
