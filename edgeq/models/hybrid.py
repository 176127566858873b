"""Models of which some layers attend and others keep a state, as the config's layer_types say."""

from __future__ import annotations

from typing import Any

from edgeq.models.words import FULL, Choice, Each

LINEAR = "linear_attention"
LAYER_TYPES = Each(Choice((LINEAR, FULL)))


def attends(c: Any, i: int) -> bool:
    return bool(c.layer_types[i] == FULL)


def recurs(c: Any, i: int) -> bool:
    return bool(c.layer_types[i] == LINEAR)
