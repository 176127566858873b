"""Steps are held against what they have not seen, and undone where they do not help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeq.errors import FormatError
from edgeq.formats import SCHEMES, Parts
from edgeq.quantize import ladder
from edgeq.quantize.ladder import Found, Judge, climb, quantize_matrix, significant, target
from edgeq.quantize.methods import METHODS, Row
from edgeq.quantize.task import Seen, Task
from edgeq.runtime.dense import Dense
from tests.quantize.matrices import bits, error, inputs, matrix, run, second_moments, task

Array = np.ndarray[Any, Any]
Add = Callable[[str, Callable[[Task, Parts | None], Parts]], None]

STEPS = ("search", "importance", "gptq", "descent")


def judge_of(dense: Dense, seed: int = 1, pull: Array | None = None) -> Judge:
    return Judge(second_moments(inputs(200, 70, seed)), pull, dense)


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """add(name, run) makes a method more, which begins none."""

    def one(name: str, run: Callable[[Task, Parts | None], Parts]) -> None:
        monkeypatch.setattr(ladder, "METHODS", {**ladder.METHODS, name: Row(run, "for this test")})

    return one


def spoilt(given: Task, parts: Parts | None) -> Parts:
    assert parts is not None
    return {**parts, "codes": parts["codes"][:, ::-1].copy()}


def test_all_steps_help(dense: Dense) -> None:
    given, judge = task(dense, "e3"), judge_of(dense)
    found = climb(given, STEPS, judge)
    assert found.helped == STEPS and found.undone == ()
    assert bits(found.parts) == bits(run(given, *STEPS))
    size = float(np.einsum("rj,jk,rk->", given.w, judge.h.astype(np.float64), given.w))
    assert found.error == pytest.approx(error(given, found.parts, judge.h) / size, rel=1e-3)
    assert found.facts == {"method": "search+importance+gptq+descent", "error": significant(found.error)}


def test_a_step_that_does_not_help_is_undone_and_told(dense: Dense, add: Add) -> None:
    """Those behind it go on from what was before it."""
    add("spoilt", spoilt)
    given = task(dense, "e4")
    found = climb(given, ["search", "spoilt", "gptq", "search"], judge_of(dense))
    assert (found.helped, found.undone) == (("search", "gptq"), ("spoilt", "search"))
    assert bits(found.parts) == bits(run(given, "search", "gptq"))
    assert found.facts["undone"] == "spoilt+search"


def test_it_is_not_what_was_learnt_from_that_decides(dense: Dense) -> None:
    """A step that learns from other inputs than it is judged by makes it worse."""
    h = second_moments(inputs(200, 70)[:, ::-1].copy())
    given = task(dense, "e4", h=h)
    assert error(given, run(given, "search", "gptq")) < error(given, run(given, "search"))
    assert climb(given, ["search", "gptq"], judge_of(dense)).undone == ("gptq",)


def test_where_all_is_equal_the_first_stays(dense: Dense) -> None:
    judge = Judge(np.zeros((70, 70), np.float32), None, dense)
    found = climb(task(dense, "e4"), STEPS, judge)
    assert (found.helped, found.undone, found.error) == (STEPS[:1], STEPS[1:], 0.0)


@pytest.mark.parametrize("steps", [STEPS, ("search",)])
def test_errors_that_are_no_numbers(steps: tuple[str, ...], dense: Dense) -> None:
    judge = Judge(np.full((70, 70), np.nan, np.float32), None, dense)
    with pytest.raises(FormatError, match="the error of its outputs is not finite"):
        climb(task(dense, "e4"), steps, judge)


def test_weights_whose_errors_overflow(dense: Dense) -> None:
    given = task(dense, "e4")
    given.w[...] *= np.float32(1e37)
    with pytest.raises(FormatError, match="the error of its outputs is not finite"):
        climb(given, STEPS, replace(judge_of(dense), h=judge_of(dense).h * np.float32(1e4)))


# ---- targets ----
class Drifted:
    """Inputs x of a quantized model, x0 of the float model, to learn from and to judge by."""

    def __init__(self, dense: Dense, helps: bool = True):
        self.dense, self.w = dense, matrix(40, 70)
        random = np.random.default_rng(9)
        change = np.eye(70) + 0.1 * random.standard_normal((70, 70)) / np.sqrt(70)
        self.x0 = [inputs(400, 70, seed) for seed in (0, 1)]
        self.x = [(x0 @ change).astype(np.float32) for x0 in self.x0]
        pulls = [self.w @ (x0 - x).T @ x / len(x) for x0, x in zip(self.x0, self.x, strict=True)]
        self.h = [second_moments(x) for x in self.x]
        self.pull = (pulls[0] if helps else -pulls[0]).astype(np.float32)
        self.judge = Judge(self.h[1], pulls[1].astype(np.float32), dense)

    def off(self, w: Array) -> float:
        """The mean squared error of the outputs of w on what judges."""
        return float(np.square(self.x0[1] @ self.w.T - self.x[1].astype(np.float64) @ w.T).sum() / 400)


def test_a_target_comes_nearer_to_what_is_wanted(dense: Dense) -> None:
    drifted = Drifted(dense)
    ridge, wanted = target(drifted.w, drifted.h[0], drifted.pull, drifted.judge)
    assert ridge in ladder.RIDGES
    assert drifted.off(wanted) < 0.1 * drifted.off(drifted.w)
    told = drifted.judge.loss(wanted - drifted.w)
    assert told == pytest.approx(drifted.off(wanted) - drifted.off(drifted.w), rel=1e-3)


def test_a_target_that_helps_is_taken(dense: Dense) -> None:
    drifted, scheme = Drifted(dense), SCHEMES["e8"]
    seen = Seen(drifted.h[0], dense)
    found = quantize_matrix(drifted.w, scheme, STEPS, seen, drifted.judge, drifted.pull, 0)
    assert found.helped[0] == "target" and "target" not in found.undone
    assert found.facts["ridge"] == found.ridge is not None
    without = quantize_matrix(drifted.w, scheme, STEPS, seen, drifted.judge, None, 0)
    assert without.ridge is None and "ridge" not in without.facts
    values = [Task(drifted.w, scheme, seen, dense).values(each.parts) for each in (found, without)]
    assert drifted.off(values[0]) < 0.3 * drifted.off(values[1]) and found.error < without.error


def test_a_target_that_does_not_is_undone_and_told(dense: Dense) -> None:
    drifted = Drifted(dense, helps=False)
    ridge, wanted = target(drifted.w, drifted.h[0], drifted.pull, drifted.judge)
    assert ridge is None and wanted is drifted.w
    seen = Seen(drifted.h[0], dense)
    found = quantize_matrix(drifted.w, SCHEMES["e4"], STEPS, seen, drifted.judge, drifted.pull, 0)
    assert found.undone[0] == "target" and found.helped[0] == "search" and found.ridge is None
    same = quantize_matrix(drifted.w, SCHEMES["e4"], STEPS, seen, drifted.judge, None, 0)
    assert bits(found.parts) == bits(same.parts)


def test_facts_are_the_same_where_the_last_bits_differ() -> None:
    found = Found({}, ("search",), (), 0.0123456789)
    assert found.facts == {"method": "search", "error": 0.01235}
    assert significant(1234567.0) == 1235000.0 and significant(-1e-12) == -1e-12


def test_every_method_says_what_it_is() -> None:
    for row in METHODS.values():
        assert row.about and (row.begins or row.data)
