"""From a model to a quantized file: the same bytes however it is run, and what the file says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine, formats
from edgeq.calibrate.documents import Document
from edgeq.converters import convert, open_source
from edgeq.converters.recipe import Recipe, Rule, choose
from edgeq.converters.source import Source
from edgeq.errors import FormatError, UsageError
from edgeq.quantize.pipeline import quantize
from edgeq.quantize.result import Result
from tests.converters.checkpoints import config, weights, write_directory, write_gguf

Array = np.ndarray[Any, Any]
Quantize = Callable[..., tuple[Result, bytes]]

STORY = "Once upon a time there was a little dog who liked to run in the park. He saw {} big red balls. "
TEXTS = [Document("a", "stories", text=STORY.format(n) * 3) for n in range(40)]
TOKENS = 1024
GIVEN: dict[str, Any] = dict(texts=TEXTS, tokens=TOKENS, threads=1, seed=-7)


@pytest.fixture(autouse=True, scope="module")
def short_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeq.calibrate.windows.LENGTH", 64)
        yield


@pytest.fixture(scope="module")
def source(demo_checkpoint: Path) -> Source:
    return open_source(demo_checkpoint)


@pytest.fixture(scope="module")
def quantized(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Quantize:
    """quantized(...) is a result and its file's bytes; each once."""
    known: dict[str, tuple[Result, bytes]] = {}

    def one(**given: Any) -> tuple[Result, bytes]:
        key = repr(given)
        if key not in known:
            path = tmp_path_factory.mktemp("quantized") / "a.edgeq"
            result = quantize(source, path, **GIVEN | given)
            known[key] = result, path.read_bytes()
            assert [other.name for other in path.parent.iterdir()] == ["a.edgeq"]
        return known[key]

    return one


def file_of(data: bytes, folder: Path) -> Path:
    path = folder / "a.edgeq"
    path.write_bytes(data)
    return path


def changed(source: Source, name: str, change: Callable[[Array], object]) -> Source:
    """The source with another tensor of that name."""
    tensor = source.tensors[name]
    x = tensor.floats().reshape(tensor.shape).copy()
    change(x)
    other = replace(tensor, data=x.view(np.uint8).reshape(-1), order=None)
    return replace(source, tensors={**source.tensors, name: other})


# ---- the same bytes ----
PRESETS: list[dict[str, Any]] = [dict(quality="fast", tokens=None), dict(), dict(quality="best")]


@pytest.mark.parametrize("given", PRESETS)
def test_again_and_with_other_threads_it_has_the_same_bytes(
    given: dict[str, Any], quantized: Quantize, source: Source, tmp_path: Path
) -> None:
    result, data = quantized(**given)
    path = tmp_path / "b.edgeq"
    other = quantize(source, path, **GIVEN | given | dict(threads=2))
    assert path.read_bytes() == data
    assert replace(other, file=result.file) == result


class Broken(Exception):
    pass


@pytest.mark.parametrize("given", PRESETS)
def test_broken_off_it_goes_on(
    given: dict[str, Any], quantized: Quantize, source: Source, tmp_path: Path
) -> None:
    """From where it was, to the same bytes; and nothing but its folder is there until then."""
    path, told = tmp_path / "a.edgeq", list[str]()
    every = GIVEN | given | dict(tell=told.append)

    def broken_at(most: float) -> list[float]:
        shares: list[float] = []

        def progress(share: float, what: str) -> None:
            shares.append(share)
            if share > most:
                raise Broken

        with pytest.raises(Broken):
            quantize(source, path, progress=progress, **every)
        return shares

    found = [broken_at(0.5), broken_at(0.97)]
    assert all(shares == sorted(shares) for shares in found)
    assert [other.name for other in tmp_path.iterdir()] == ["a.edgeq.quantizing"]
    with pytest.raises(UsageError, match="what another quantization has done so far"):
        quantize(source, path, **every | dict(seed=1))
    assert not told[1:]
    if given != PRESETS[0]:  # what is done is not done again
        before, after = (sum(share < 0.4 for share in shares) for shares in found)
        assert after < before / 4
    quantize(source, path, **every)
    assert path.read_bytes() == quantized(**given)[1]
    assert told[0] == f"going on from {tmp_path}/a.edgeq.quantizing"
    assert [other.name for other in tmp_path.iterdir()] == ["a.edgeq"]


# ---- what comes of it ----
def test_the_file_says_how_it_was_made(quantized: Quantize, tmp_path: Path) -> None:
    result, data = quantized(quality="best")
    path = file_of(data, tmp_path)
    assert formats.verify(path) == []
    with formats.open_model(path) as file:
        words = file.header["quantization"]
        entries = {entry["name"]: entry for entry in file.header["tensors"]}
    assert words == {
        "quality": "best",
        "steps": ["search", "importance", "gptq", "descent"],
        "follow": True,
        "transforms": [],
        "seed": -7,
        "calibration": {"text_sha256": result.text_sha256, "tokens": result.text_tokens, "window": 64},
        "held_out": {"kld": float(f"{result.divergence:.3g}"), "tokens": result.divergence_tokens},
        "held_out_elsewhere": {
            "kld": float(f"{result.elsewhere:.3g}"),
            "tokens": result.elsewhere_tokens,
            "text_sha256": result.elsewhere_sha256,
        },
    }
    assert result.elsewhere is not None and result.divergence is not None
    assert result.text_tokens == TOKENS and result.divergence_tokens == 31
    told = {name: entry for name, entry in entries.items() if "method" in entry}
    assert len(told) == 36 == result.helped["search"]
    assert told["embed"]["scheme"] == "e8" and told["embed"]["method"] == "search"
    assert {entry["scheme"] for name, entry in told.items() if name != "embed"} == {"e4"}
    assert all(entry["error"] < 0.05 for name, entry in told.items() if name != "embed")


def test_data_makes_it_better(quantized: Quantize) -> None:
    found = [quantized(steps=("search",)), quantized(), quantized(quality="best")]
    divergences = [result.divergence for result, _ in found]
    assert all(divergences)
    assert divergences[0] > 3 * divergences[1] > 6 * divergences[2] > 0  # type: ignore[operator]
    fast, data = quantized(quality="fast", tokens=None)
    assert fast.divergence is None and len(data) == pytest.approx(len(found[1][1]), rel=0.02)


def test_it_is_what_the_engine_computes(quantized: Quantize, demo_checkpoint: Path, tmp_path: Path) -> None:
    """Its logits are those of a checkpoint of its weights, and nearer to the model's than convert's."""
    path = file_of(quantized()[1], tmp_path)
    ids = [1, *np.random.default_rng(4).integers(3, 512, 60).tolist()]
    names = ("model", "plain", "float")
    convert(demo_checkpoint, tmp_path / "float", scheme="f32")
    convert(demo_checkpoint, tmp_path / "plain", scheme="e4")
    with engine.load(path, threads=1, act="f32", kv="f32") as model:
        found = {"model": model.logits(ids)}
    for name in names[1:]:
        with engine.load(tmp_path / name, threads=1, act="f32", kv="f32") as model:
            found[name] = model.logits(ids)
    off = {name: float(np.square(found[name] - found["float"]).mean()) for name in names}
    assert 0 < off["model"] < off["plain"]


def test_a_recipe_chooses(quantized: Quantize, tmp_path: Path) -> None:
    recipe = Recipe("mine", (Rule(("*.down", "embed"), "q8"), Rule(("*.v",), "nf4"), Rule(("*",), "e3")))
    path = file_of(quantized(recipe=recipe)[1], tmp_path)
    with formats.open_model(path) as file:
        schemes = {name.rpartition(".")[2]: tensor.scheme.name for name, tensor in file.tensors.items()}
    assert {schemes[name] for name in ("down", "embed")} == {"q8"}
    assert (schemes["v"], schemes["q"], schemes["gate"]) == ("nf4", "e3", "e3")
    assert formats.verify(path) == []


# ---- weights of any kind ----
@pytest.mark.parametrize(("quality", "name"), [("best", "blocks.1.v"), ("good", "blocks.1.norm2")])
def test_what_is_zero(quality: str, name: str, source: Source, tmp_path: Path) -> None:
    """A matrix, or the inputs of some."""
    nothing = changed(source, name, lambda x: x.fill(0))
    result = quantize(nothing, tmp_path / "a.edgeq", quality=quality, **GIVEN)
    assert result.divergence is not None and 0 < result.divergence < 0.1


@pytest.mark.parametrize(
    ("quality", "name", "sentence"),
    [
        ("fast", "blocks.1.q", "tensor 'blocks.1.q': row 63, columns from .*: a value is not finite"),
        ("good", "blocks.1.q", "tensor 'blocks.1.q': row 63, columns from .*: a value is not finite"),
        ("good", "embed", "tensor 'embed': row 511, columns from .*: a value is not finite"),
        ("good", "blocks.0.norm2", "tensor 'blocks.0.gate': the moments of .* inputs are not finite"),
        ("best", "blocks.0.norm2", "tensor 'blocks.0.gate': the moments of .* inputs are not finite"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_named(
    quality: str, name: str, sentence: str, source: Source, tmp_path: Path
) -> None:
    spoilt = changed(source, name, lambda x: x.reshape(-1).__setitem__(-9, np.nan))
    with pytest.raises(FormatError, match=sentence):
        quantize(spoilt, tmp_path / "a.edgeq", quality=quality, **GIVEN)
    assert not (tmp_path / "a.edgeq").exists()


def test_what_is_quantized_already_is_refused(source: Source, tmp_path: Path) -> None:
    words = config("qwen3", intermediate_size=64)
    tensors = weights(words)
    grid = formats.dequantize(formats.quantize(tensors["lm_head.weight"], "q4"), "q4")
    folder = write_directory(tmp_path / "a", words, {**tensors, "lm_head.weight": grid})
    with pytest.raises(
        UsageError, match="1 matrices of numbers that lie on q4's grid already, such as output"
    ):
        quantize(folder, tmp_path / "a.edgeq", quality="fast")
    quantize(folder, tmp_path / "a.edgeq", quality="fast", threads=1, allow_requantize=True)
    assert formats.verify(tmp_path / "a.edgeq") == []


def test_what_a_scheme_holds_is_moved(tmp_path: Path) -> None:
    """Of a matrix that is quantized already, and may be, no code changes where the scheme is the same."""
    words = config("qwen3")
    write_gguf(tmp_path / "a.gguf", words, weights(words), kind="Q8_0")
    with pytest.raises(UsageError, match=r"a.gguf is quantized already \(16 Q8_0\)"):
        quantize(tmp_path / "a.gguf", tmp_path / "a.edgeq", quality="fast")
    given: dict[str, Any] = dict(quality="fast", threads=1, allow_requantize=True)
    quantize(tmp_path / "a.gguf", tmp_path / "a.edgeq", recipe=choose(scheme="keep"), **given)
    convert(tmp_path / "a.gguf", tmp_path / "b.edgeq", scheme="keep")
    with formats.open_model(tmp_path / "a.edgeq") as a, formats.open_model(tmp_path / "b.edgeq") as b:
        for name, tensor in b.tensors.items():
            assert np.array_equal(a.tensors[name].data, tensor.data), name


# ---- what it is given ----
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(quality="better"), "quality is 'better', but must be one of fast, good, best"),
        (dict(steps=["gptq"]), "method gptq goes on from another: begin with search or importance"),
        (dict(steps=["search", "magic"]), "method 'magic' is unknown; known are search, importance"),
        (dict(tokens=-5), "tokens is -5, but a positive whole number is needed"),
        (dict(tokens=2.5), "tokens is 2.5, but a positive whole number is needed"),
        (dict(seed=1.5), "seed is 1.5, but a whole number is needed"),
        (dict(threads=-1), "threads is -1, but 1 to 256 are possible"),
        (dict(texts=[]), "the calibration text has 0 tokens, but 3 windows of 64 are needed"),
        (dict(recipe=choose(scheme="q4m")), "scheme q4m of blocks.0.q is not one that calibration works on"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    given: dict[str, Any], sentence: str, source: Source, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        quantize(source, tmp_path / "a.edgeq", **GIVEN | given)
    assert not (tmp_path / "a.edgeq").exists()


def test_places_that_are_no_output(demo_checkpoint: Path, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "b" / "a.edgeq"):
        with pytest.raises(UsageError, match="cannot be the output"):
            quantize(demo_checkpoint, place, quality="fast")


def test_the_source_is_not_written_over(tmp_path: Path) -> None:
    words = config("qwen3")
    path = write_gguf(tmp_path / "a.gguf", words, weights(words))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is the source itself"):
        quantize(path, path, quality="fast", threads=1)
    assert path.read_bytes() == before
