"""The numbers of two files, against plain NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.cli import run_command
from edgeq.converters import convert
from edgeq.errors import FormatError, UsageError
from edgeq.evaluate.tensors import by_layer, compare_tensors, together
from edgeq.formats import encoding, open_model

DEMO = Path(__file__).parents[2] / "edgeq" / "demo" / "stories260K"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    found = {scheme: folder / f"{scheme}.edgeq" for scheme in ("f32", "q4", "e4")}
    for scheme, path in found.items():
        convert(DEMO, path, scheme=scheme)
    return found


@pytest.mark.parametrize("scheme", ["q4", "e4"])
@pytest.mark.parametrize("values", [1 << 17, 1])  # of a block: all of a matrix, or one tile of rows
def test_it_is_the_definition(
    files: dict[str, Path], scheme: str, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "BLOCK_VALUES", values)
    calls: list[tuple[int, int, str]] = []
    with open_model(files[scheme]) as mine, open_model(files["f32"]) as theirs:
        rows = compare_tensors(mine, theirs, lambda *call: calls.append(call))
        numbers = {name: t for name, t in mine.tensors.items() if t.scheme.name != "bytes"}
        assert [row.name for row in rows] == list(numbers)
        for row in rows:
            a, b = (file.tensors[row.name].array().astype(np.float64) for file in (mine, theirs))
            assert row.count == a.size and (row.scheme, row.reference_scheme) == (
                mine.tensors[row.name].scheme.name, theirs.tensors[row.name].scheme.name
            )  # fmt: skip
            assert row.mse == pytest.approx(np.mean((a - b) ** 2), rel=1e-12)
            assert row.mae == pytest.approx(np.abs(a - b).mean(), rel=1e-12)
            assert row.largest == np.abs(a - b).max()
            assert row.relative == pytest.approx(np.sqrt(np.sum((a - b) ** 2) / np.sum(b**2)), rel=1e-12)
    assert calls[-1][:2] == (sum(row.count for row in rows),) * 2 and calls[-1][2] == rows[-1].name
    assert any(row.relative == 0 for row in rows) and any(0.01 < row.relative < 0.2 for row in rows)
    layers = by_layer(rows)
    assert [row.name for row in layers if row.name.startswith("blocks.")] == [f"blocks.{i}" for i in range(5)]
    assert together("all", layers).squares == pytest.approx(sum(row.squares for row in rows), rel=1e-12)


def test_the_command(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(files["q4"]), str(files["f32"])]
    assert run_command(["compare", *pair, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["relative"] > 0 and found["in_one_only"] == []
    assert run_command(["compare", *pair, "--layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "layer" and any(line.startswith("blocks.4 ") for line in lines)
    assert lines[-1].startswith("all ")
    assert run_command(["compare", *pair[:1]]) == 2


class Tensor:
    """As far as comparing looks."""

    def __init__(self, values: Any, shape: tuple[int, ...] = (2, 2)) -> None:
        self.values, self.shape, self.name = np.full(shape, values, np.float32), shape, "norm"
        self.scheme = type("Scheme", (), {"name": "f32"})

    def blocks(self) -> Any:
        yield self.values


def model(family: str = "llama", **tensors: Tensor) -> Any:
    return type("File", (), {"path": family, "family": family, "tensors": tensors})


def moments(columns: int, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).standard_normal((50, columns)).astype(np.float32)
    return x, x.T @ x / np.float32(len(x))


@pytest.mark.parametrize("values", [1 << 17, 1])
def test_errors_of_outputs(files: dict[str, Path], values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the outputs of inputs with those moments are off; None where these are not known."""
    monkeypatch.setattr(encoding, "BLOCK_VALUES", values)
    given = {"blocks.0.q": moments(64), "blocks.0.down": moments(172, 1), "blocks.1.q": moments(64, 2)}
    with open_model(files["q4"]) as mine, open_model(files["f32"]) as theirs:
        rows = compare_tensors(mine, theirs, None, lambda name: given[name][1] if name in given else None)
        found = {row.name: row for row in rows}
        for name, (x, _) in given.items():
            a, b = (file.tensors[name].array().astype(np.float64) for file in (mine, theirs))
            norms = np.linalg.norm(x @ (a - b).T), np.linalg.norm(x @ b.T)
            assert found[name].output_error == pytest.approx(norms[0] / norms[1], rel=1e-4)
        assert {row.name for row in rows if row.output_error is not None} == set(given)
        plain = {row.name: row for row in compare_tensors(mine, theirs)}
        assert all(row.relative == plain[row.name].relative for row in rows)
    layers = {row.name: row for row in by_layer(rows)}
    pair = [found["blocks.0.q"], found["blocks.0.down"]]
    wanted = sum(row.outputs or 0 for row in pair) / sum(row.reference_outputs or 0 for row in pair)
    assert layers["blocks.0"].output_error == pytest.approx(np.sqrt(wanted))
    assert layers["blocks.2"].output_error is None and layers["embed"].output_error is None
    assert layers["blocks.1"].output_error == pytest.approx(found["blocks.1.q"].output_error)
    assert together("all", rows).to_json()["output_error"] > 0


def test_moments_that_do_not_go_with_a_matrix() -> None:
    mine, theirs = model(norm=Tensor(1)), model(norm=Tensor(2))
    with pytest.raises(UsageError, match="the statistics of norm are of 3 columns, not of 2"):
        compare_tensors(mine, theirs, None, lambda name: np.eye(3, dtype=np.float32))
    for h in (np.zeros((2, 2)), -np.eye(2)):  # of inputs that are nothing, and of none that can be
        (row,) = compare_tensors(mine, theirs, None, {"norm": h.astype(np.float32)}.get)
        assert row.output_error is None and row.to_json()["output_error"] is None


def test_what_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="llama is llama and qwen2 is qwen2"):
        compare_tensors(model(norm=Tensor(1)), model("qwen2", norm=Tensor(1)))
    with pytest.raises(UsageError, match="have no tensor of numbers in common"):
        compare_tensors(model(norm=Tensor(1)), model(other=Tensor(1)))
    with pytest.raises(UsageError, match="norm is 2×2 and 4"):
        compare_tensors(model(norm=Tensor(1)), model(norm=Tensor(1, (4,))))
    with np.errstate(invalid="ignore"), pytest.raises(FormatError, match="norm holds numbers that are not"):
        compare_tensors(model(norm=Tensor(np.inf)), model(norm=Tensor(np.inf)))
    (row,) = compare_tensors(model(norm=Tensor(1)), model(norm=Tensor(0)))
    assert row.relative == float("inf") and row.to_json()["relative"] is None
