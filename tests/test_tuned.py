"""What tuning finds, keeps and changes: speed alone, and nothing where the file is not this machine's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine, tune, tuned
from edgeq.cores import default_threads
from edgeq.kernels import sources
from edgeq.simd.host import host_isa
from edgeq.tuned import Tuned

SOURCES = "ab" * 32
FOUND = Tuned({"matmul q4": 6}, 1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of findings, not there yet; kernels stay where they are."""
    path = tmp_path / "edgeq" / "tuned.json"
    monkeypatch.setattr(tuned, "file", lambda: path)
    return path


def test_what_is_kept_is_read(place: Path) -> None:
    assert tuned.read("avx2", 4, SOURCES) == Tuned()
    tuned.write(FOUND, "avx2", 4, SOURCES)
    assert tuned.read("avx2", 4, SOURCES) == FOUND
    assert list(place.parent.iterdir()) == [place]


def test_it_holds_for_one_machine_and_these_kernels(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.write(FOUND, "avx2", 4, SOURCES)
    assert tuned.read("generic", 4, SOURCES) == Tuned()
    assert tuned.read("avx2", 2, SOURCES) == Tuned()
    assert tuned.read("avx2", 4, "cd" * 32) == Tuned()
    monkeypatch.setattr(tuned, "processor", lambda: "another")
    assert tuned.read("avx2", 4, SOURCES) == Tuned()


def test_findings_for_former_kernels_go(place: Path) -> None:
    tuned.write(FOUND, "avx2", 4, "cd" * 32)
    tuned.write(FOUND, "avx2", 4, SOURCES)
    tuned.write(Tuned(), "generic", 4, SOURCES)
    assert set(tuned.findings()) == {tuned.key(isa, 4, SOURCES) for isa in ("avx2", "generic")}


def test_forgetting_is_of_this_processor_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuned.forget() is False and not place.exists()
    tuned.write(FOUND, "avx2", 4, SOURCES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuned, "processor", lambda: "another")
        tuned.write(FOUND, "avx2", 4, SOURCES)
    tuned.write(FOUND, "generic", 2, SOURCES)
    assert tuned.forget() is True and tuned.forget() is False
    assert tuned.read("avx2", 4, SOURCES) == tuned.read("generic", 2, SOURCES) == Tuned()
    monkeypatch.setattr(tuned, "processor", lambda: "another")
    assert tuned.read("avx2", 4, SOURCES) == FOUND
    assert tuned.forget() is True and list(place.parent.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\xff", '{"a": 1}'])
def test_a_damaged_file_means_the_defaults(text: str, place: Path) -> None:
    place.parent.mkdir()
    place.write_text(text, encoding="latin-1")
    assert tuned.read("avx2", 4, SOURCES) == Tuned()
    tuned.write(FOUND, "avx2", 4, SOURCES)
    assert tuned.read("avx2", 4, SOURCES) == FOUND


@pytest.mark.parametrize(
    "found",
    [
        3,
        {"tiles": 3, "threads": "many"},
        {"tiles": {"matmul q4": 5, "matmul q8": True, "attend_int8 q8": 12}, "threads": -1},
        {"tiles": {"matmul q4": 10**9, "matmul q8": [4]}, "threads": 10**9},
        {"tiles": {"matmul q4": 4.0}, "threads": True},
    ],
)
def test_what_makes_no_sense_is_left_out(found: Any, place: Path) -> None:
    place.parent.mkdir()
    place.write_text(json.dumps({tuned.key("avx2", 4, SOURCES): found}))
    assert tuned.read("avx2", 4, SOURCES) == Tuned()


def test_a_file_without_end_is_not_read_to_its_end(place: Path) -> None:
    tuned.write(Tuned({}, 1), "avx2", 4, SOURCES)
    assert tuned.read("avx2", 4, SOURCES).threads == 1
    with place.open("ab") as file:
        file.write(b" " * tuned.FILE_BYTES_MAX)
    assert tuned.findings() == {}


def test_the_engine_takes_it_and_the_bits_stay(place: Path, demo_model: Path) -> None:
    ids = np.random.default_rng(0).integers(3, 500, 41).tolist()  # leaves a rest with every tile
    tokens = host_isa().tokens
    with engine.load(demo_model, threads=2) as model:
        want = model.logits(ids)
        assert {tag.tokens for name, tag in model.runner._program.requests() if name == "matmul"} == {tokens}
    for tile in (2, 6):
        found = Tuned({"matmul q4": tile, "matmul q8": tile}, 1)
        tuned.write(found, host_isa().name, default_threads(), sources.digest())
        with engine.load(demo_model) as model:
            requests = model.runner._program.requests()
            assert {tag.tokens for name, tag in requests if name == "matmul"} == {tile}
            assert model.threads == 1
            np.testing.assert_array_equal(model.logits(ids).view(np.uint32), want.view(np.uint32))


@pytest.fixture(scope="module")
def demo_model(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Path:
    from edgeq.converters import convert

    path = tmp_path_factory.mktemp("demo") / "q4.edgeq"
    convert(demo_checkpoint, path, scheme="q4")
    return path


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({4: 100.0, 6: 104.0}, 4),
        ({4: 100.0, 6: 106.0}, 6),
        ({2: 110.0, 4: 100.0, 8: 110.0}, 2),
        ({4: 1.0}, 4),
    ],
)
def test_only_what_is_clearly_faster_is_chosen(rates: dict[int, float], chosen: int) -> None:
    assert tune.Choice("matmul q4", 4, "GMAC/s", rates).chosen == chosen


def test_tuning_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small: of each question some candidates, with rates that are numbers."""
    for name, value in {"SIDE": 256, "LAYERS": 2, "FEW": 1, "ROUNDS": 1, "TILES": (2,)}.items():
        monkeypatch.setattr(tune, name, value)
    seen: list[str] = []
    found, choices = tune.tune(seen.append)
    assert seen == [choice.subject for choice in choices] == [*tuned.TILED, "threads"]
    for choice in choices:
        assert choice.default in choice.rates and all(rate > 0 for rate in choice.rates.values())
    assert set(found.tiles) <= set(tuned.TILED) and found.threads >= 0


def test_products_compute_what_a_models_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer is reached: what comes out is neither zero nor beyond all bounds."""
    monkeypatch.setattr(tune, "SIDE", 256)
    weights = tune.Weights("q4", 3)
    results = []
    for workers, tiles in ((1, {}), (2, {"matmul q4": 2})):
        with tune.passes(weights, {0: (workers, tiles)}) as made:
            assert made[0].seconds(7, lambda: 0.0) == 0.0
            results.append(made[0].program.logits[:7].copy())
    assert np.isfinite(results[0]).all() and 1e-3 < np.abs(results[0]).max() < 1e3
    np.testing.assert_array_equal(results[0], results[1])
