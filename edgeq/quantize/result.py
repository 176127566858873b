"""What a quantization was, for whoever asked for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Result:
    """What a quantization was. Divergences are mean KLD in nats of the float model's next-token distributions
    from the quantized one's, weights alone, on text that nothing was learnt from; None without calibration.
    """

    file: str
    quality: str
    recipe: str
    bits_per_weight: float
    divergence: float | None
    divergence_tokens: int
    elsewhere: float | None
    elsewhere_tokens: int
    elsewhere_sha256: str | None
    window: int
    text_sha256: str | None
    text_tokens: int
    helped: dict[str, int] = field(default_factory=dict)  # of how many matrices each step lowered the error
    undone: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def steps_of(facts: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, int]:
    """In how many matrices each step is named under a key of their facts."""
    return dict(Counter(step for row in facts.values() for step in row.get(key, "").split("+") if step))
