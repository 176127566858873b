"""Gemma 4's goldens against their plain meaning, and whether they would notice a mistake."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from . import reference, reference_gemma4
from .reference import Array, Checkpoint
from .reference_gemma4 import Pass
from .test_families import HERE, TOLERANCE, distance, golden

NAMES = ("gemma4", "gemma4-mixture", "gemma4-unified")


def checkpoint(name: str) -> Checkpoint:
    return reference.load(HERE / "families" / name)


@pytest.mark.parametrize("name", NAMES)
def test_reference(name: str) -> None:
    ids, logits = golden(name)
    assert distance(reference_gemma4.logits(checkpoint(name), ids), logits) < 1e-5


Change = Callable[[Checkpoint], Checkpoint]


def words(**changed: Any) -> Change:
    return lambda model: dataclasses.replace(model, config=model.config | changed)


def ones(ending: str) -> Change:
    """All weights of this name, of which there are some."""

    def change(model: Checkpoint) -> Checkpoint:
        found = {name: np.ones_like(x) for name, x in model.weights.items() if name.endswith(ending)}
        assert found
        return dataclasses.replace(model, weights=model.weights | found)

    return change


def rope(kind: str, **changed: Any) -> Change:
    def change(model: Checkpoint) -> Checkpoint:
        ropes = model.config["rope_parameters"]
        return words(rope_parameters=ropes | {kind: ropes[kind] | changed})(model)

    return change


DENSE, MIXTURE, _ = NAMES
DETAILS: dict[str, tuple[str, Change]] = {
    "the base of layers with a window": (DENSE, rope("sliding_attention", rope_theta=2e3)),
    "the base of the others": (DENSE, rope("full_attention", rope_theta=2e4)),
    "how many pairs turn": (DENSE, rope("full_attention", partial_rotary_factor=0.7)),
    "the window": (DENSE, words(sliding_window=17)),
    "the cap": (DENSE, words(final_logit_softcapping=None)),
    "epsilon": (DENSE, words(rms_norm_eps=1e-3)),
    "the scale of a layer": (DENSE, ones("layer_scalar")),
    "the norm of layers' inputs": (DENSE, ones("per_layer_projection_norm.weight")),
    "the table of layers' inputs": (DENSE, ones("embed_tokens_per_layer.weight")),
    "the norm after a layer's input": (DENSE, ones("post_per_layer_input_norm.weight")),
    "the router's scale": (MIXTURE, ones("router.scale")),
    "the scale of an expert": (MIXTURE, ones("per_expert_scale")),
    "the norm before experts": (MIXTURE, ones("pre_feedforward_layernorm_2.weight")),
    "the norm after the MLP": (MIXTURE, ones("post_feedforward_layernorm_1.weight")),
    "the norm after experts": (MIXTURE, ones("post_feedforward_layernorm_2.weight")),
}


@pytest.mark.parametrize("detail", DETAILS)
def test_golden_notices(detail: str) -> None:
    name, change = DETAILS[detail]
    ids, logits = golden(name)
    assert distance(reference_gemma4.logits(change(checkpoint(name)), ids), logits) > 10 * TOLERANCE


class Unlike(Pass):
    """With one thing done otherwise."""

    def __init__(self, what: str, *given: Any):
        super().__init__(*given)
        self.what = what

    def norm(self, x: Array, name: str | None, eps: float | None = None) -> Array:
        left_out = name is None and self.what == "values are normalized"
        return x if left_out else super().norm(x, name, eps)

    def attention(self, i: int, x: Array) -> Array:
        before = dict(self.kept)
        y = super().attention(i, x)
        if self.what == "the last layer of its kind counts":
            self.kept |= before
        return y

    def inputs(self, ids: list[int], x: Array) -> Array:
        found = super().inputs(ids, x)
        return found[:, ::-1] if self.what == "each layer has its own input" else found


@pytest.mark.parametrize(
    "what", ["values are normalized", "the last layer of its kind counts", "each layer has its own input"]
)
def test_golden_notices_what_is_done(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, logits = golden(DENSE)
    monkeypatch.setattr(reference_gemma4, "Pass", lambda *given: Unlike(what, *given))
    assert distance(reference_gemma4.logits(checkpoint(DENSE), ids), logits) > 10 * TOLERANCE
