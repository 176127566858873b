"""Llama 2, 3 and 3.x, TinyLlama, SmolLM2, and Mistral with its sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.models.base import DECODER, REQUIRE_BASE, BaseConfig, refuse, window_of
from edgeq.models.decoder import decode

if TYPE_CHECKING:
    from edgeq.program import Program
    from edgeq.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "attention_bias": (False,)}

    @classmethod
    def _window(cls, raw: Mapping[str, Any]) -> int | None:
        window = window_of(raw)
        if window is not None and raw.get("model_type") == "llama":
            refuse("sliding_window", window, "a window belongs to model_type 'mistral'")
        return window


TENSORS = DECODER


def forward(p: Program, c: Config, w: Weights) -> None:
    """Record the pass: plain projections."""
    decode(p, c, w)
