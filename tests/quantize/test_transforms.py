"""Transforms leave what a model computes as it is, fold by fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.converters import pipeline
from edgeq.converters.recipe import choose
from edgeq.converters.source import Source
from edgeq.errors import UnsupportedError, UsageError
from edgeq.formats import quantize as rounded
from edgeq.models import family, family_names
from edgeq.quantize.transforms import TRANSFORMS, Awq, Rotate, SmoothQuant, Transform, transformed
from edgeq.quantize.transforms.base import folds_of
from edgeq.quantize.transforms.hadamard import Rotation, core_of, exists, times
from tests.converters.checkpoints import config, weights, write_directory

TOLERANCE = 1e-5  # of the largest logit
WAYS: dict[str, Transform | str] = {
    **{name: name for name in TRANSFORMS},
    "r1": Rotate(heads=False),
    "r2": Rotate(residual=False),
    "awq of q4": Awq(steps=("search",), grid=(0.5, 1.0)),
}


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = config(request.param, tie_word_embeddings=request.param == "qwen2")
    arrays = {name: x * (1 if x.ndim == 1 else 0.2) for name, x in weights(words).items()}
    return write_directory(tmp_path_factory.mktemp(request.param) / request.param, words, arrays)


def ids_of(source: Source, count: int = 3, length: int = 48) -> Any:
    return np.random.default_rng(1).integers(3, source.config.vocab_size, (count, length))


def logits(source: Source, ids: list[int], folder: Path) -> Any:
    path = folder / "model.edgeq"
    pipeline.write(source, path, choose(scheme="f32"), None)
    with edgeq.load(path, kv="f32", act="f32") as model:
        return model.logits(ids)


def check(source: Source, way: Transform | str, folder: Path) -> Source:
    ids = ids_of(source)
    made = transformed(source, [way], ids=ids, threads=1)
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    one, other = (logits(s, ids[0].tolist(), folder / f) for s, f in ((source, "a"), (made, "b")))
    assert np.abs(one - other).max() <= TOLERANCE * np.abs(one).max()
    return made


@pytest.mark.parametrize("way", WAYS)
def test_same_function(checkpoint: Path, way: str, tmp_path: Path) -> None:
    source = pipeline.open_source(checkpoint)
    made = check(source, WAYS[way], tmp_path)
    blocks = [name for name in source.tensors if name.startswith("blocks.")]
    assert any((made.tensors[name].floats() != source.tensors[name].floats()).any() for name in blocks)
    assert made.name != source.name


@pytest.mark.parametrize("way", TRANSFORMS)
def test_same_function_of_a_trained_model(demo_checkpoint: Path, way: str, tmp_path: Path) -> None:
    check(pipeline.open_source(demo_checkpoint), way, tmp_path)


def test_one_after_another(checkpoint: Path, tmp_path: Path) -> None:
    source = pipeline.open_source(checkpoint)
    ids = ids_of(source)
    made = transformed(source, ["smoothquant", "rotate", "awq"], ids=ids, threads=1)
    one = logits(source, ids[0].tolist(), tmp_path)
    assert np.abs(one - logits(made, ids[0].tolist(), tmp_path)).max() <= TOLERANCE * np.abs(one).max()


def test_a_tied_head_is_untied_by_r1_alone(checkpoint: Path) -> None:
    source = pipeline.open_source(checkpoint)
    turned = transformed(source, ["rotate"], threads=1)
    assert not turned.config.tie_word_embeddings and "output" in turned.tensors
    heads = transformed(source, [Rotate(residual=False)], threads=1)
    assert heads.config == source.config and heads.tensors.keys() == source.tensors.keys()


def test_smoothed_columns_share_their_range(checkpoint: Path) -> None:
    """With alpha 0.5 max|x| = max|W| in each column, but for one factor of all."""
    source = pipeline.open_source(checkpoint)
    ids = ids_of(source)
    made = transformed(source, [SmoothQuant(0.5)], ids=ids, threads=1)
    from edgeq.quantize.transforms.base import Setting, observed
    from edgeq.runtime.dense import Dense

    with Dense(1) as dense:
        for _, arrays, moments in observed(made, Setting({}, ids, dense)):
            ratio = moments["down"][0].largest / np.abs(arrays["down"]).max(axis=0)
            assert ratio.max() < 1.001 * ratio.min()


def test_awq_never_chooses_what_is_worse(demo_checkpoint: Path) -> None:
    """On the text that it goes by."""
    from edgeq.quantize.methods import METHODS
    from edgeq.quantize.task import Seen, Task
    from edgeq.quantize.transforms.base import Setting, observed
    from edgeq.runtime.dense import Dense

    source = pipeline.open_source(demo_checkpoint)
    ids = ids_of(source, 2, 64)
    scheme = choose(scheme="e4").schemes(source.family, source.config)["blocks.0.down"]
    assert scheme is not None
    with Dense(1) as dense:
        losses = []
        for s in (source, transformed(source, ["awq"], ids=ids, dense=dense)):
            _, arrays, moments = next(observed(s, Setting({}, ids, dense)))
            seen = Seen(moments["down"][0].mean, dense)
            task = Task(arrays["down"], scheme, seen, dense)
            losses.append(task.error(METHODS["importance"].run(task, None), seen.h))
    assert losses[1] <= losses[0] * 1.0001


def test_the_seed_with_the_least_error_is_chosen(demo_checkpoint: Path) -> None:
    source = pipeline.open_source(demo_checkpoint)
    names = {transformed(source, [Rotate(tries=tries)], threads=1, seed=3).name for tries in (1, 2)}
    assert {name.split("rotate-r1-r2-")[1] for name in names} <= {"3", "4"}


@pytest.mark.parametrize("n", [1, 2, 4, 8, 12, 20, 24, 28, 36, 40, 64, 96])
def test_hadamard(n: int) -> None:
    assert exists(n)
    h = times(np.eye(n))
    assert set(np.unique(h)) <= {-1, 1} and np.array_equal(h @ h.T, n * np.eye(n))


def test_hadamard_of_sizes_that_have_none() -> None:
    assert not any(map(exists, (3, 6, 43, 172, 66)))
    assert core_of(12 * 64) == 12
    assert Rotation(172, 0).block == 4 and Rotation(7, 0).block == 1 and Rotation(896, 0).block == 896
    for size in (172, 66, 21):
        r = Rotation(size, 0)(np.eye(size)).astype(np.float64)
        assert np.allclose(r @ r.T, np.eye(size), atol=1e-6)


def test_factors_that_heads_share(checkpoint: Path) -> None:
    from edgeq.quantize.transforms.base import Place

    source = pipeline.open_source(checkpoint)
    (fold,) = (fold for fold in folds_of(source).sets if fold.heads)
    c = source.config
    w = np.zeros((1, c.q_size), np.float32)
    place = Place(fold, {"o": w}, {}, None, c, None, 0)  # type: ignore[arg-type]
    s = place.evened(np.arange(c.q_size, dtype=np.float64))  # the first is dead
    by_head = s.reshape(c.num_key_value_heads, -1, c.head_dim)
    assert np.isfinite(s).all() and (by_head == by_head[:, :1]).all()


def test_refusals(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pipeline.open_source(checkpoint)
    with pytest.raises(UsageError, match="awq goes by what a model does on a text"):
        transformed(source, ["awq"], threads=1)
    with pytest.raises(UsageError, match="transform 'quip' is unknown; known are awq"):
        transformed(source, ["quip"], threads=1)
    monkeypatch.delattr(family(source.family), "FOLDS")
    with pytest.raises(UnsupportedError, match="what feeds what"):
        transformed(source, ["sinq"], threads=1)


def test_a_quantized_source_is_refused(tmp_path: Path) -> None:
    from tests.converters.checkpoints import write_gguf

    words = config("llama", intermediate_size=96)
    source = pipeline.open_source(write_gguf(tmp_path / "a.gguf", words, weights(words), kind="Q8_0"))
    with pytest.raises(UsageError, match="is quantized already"):
        transformed(source, ["sinq"], threads=1)
    made = transformed(source, ["sinq"], threads=1, allow_requantize=True)
    assert rounded(made.tensors["blocks.0.q"].floats(), "q8")["codes"].shape == (64, 64)


@pytest.mark.parametrize("way", ["awq", "rotate"])
def test_quantize_takes_a_transformed_source(demo_checkpoint: Path, way: str, tmp_path: Path) -> None:
    """With methods that are not the ladder's; the file says what it is from."""
    from edgeq.calibrate.documents import Document
    from edgeq.formats import open_model
    from edgeq.quantize.pipeline import quantize

    source = pipeline.open_source(demo_checkpoint)
    made = transformed(source, [way], ids=ids_of(source), threads=1)
    text = " ".join(f"One day a cat saw {n} birds in the tree and ran home." for n in range(400))
    path = tmp_path / "a.edgeq"
    result = quantize(
        made, path, texts=[Document("a", "a", text)], steps=["rtn", "gptq"], tokens=2000, threads=1
    )
    assert result.divergence is not None and 0 < result.divergence < 1
    with open_model(path) as file:
        assert file.header["source"]["name"] == made.name
        assert ("output" in file.tensors) == (way == "rotate")


@pytest.mark.parametrize("name", [name for name in family_names() if hasattr(family(name), "FOLDS")])
def test_what_a_family_says_of_its_folds(name: str) -> None:
    """All matrices of a block but none else are readers, each once, of as many columns as their feeder has
    rows; what is added to the residual rows has as many rows as these have columns.
    """
    module = family(name)
    table = {row.name.removeprefix("blocks.{i}."): row for row in module.TENSORS}
    folds = module.FOLDS
    readers = [reader for fold in folds.sets for reader in fold.readers]
    assert sorted(readers) == sorted(short for short, row in table.items() if row.role == "matrix")
    for fold in folds.sets:
        for reader in fold.readers:
            wanted, given = table[reader].shape[1], table[fold.feeder].shape[0]
            assert (wanted, given) == ("q_size", "kv_size") if fold.heads else wanted == given
    assert all(table[adder].shape[0] == "hidden_size" for adder in folds.adders)
