"""Recipes: which rule counts, what is refused, and each recipe of edgeq's from a checkpoint to logits."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.converters import CHOICES, convert, recipe
from edgeq.converters.recipe import KEEP, Layers, Recipe, Rule
from edgeq.errors import UsageError
from edgeq.formats import open_model, verify
from edgeq.models import family
from tests.converters.checkpoints import config, weights, write_directory, write_gguf
from tests.golden.test_families import HERE

LAYERS = 9
WORDS = config(num_hidden_layers=LAYERS)
IDS = [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315]  # "Once upon a time", and on


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_directory(tmp_path_factory.mktemp("source") / "tiny", WORDS, weights(WORDS))


def schemes_of(path: Path) -> dict[str, str]:
    with open_model(path) as file:
        return {name: tensor.scheme.name for name, tensor in file.tensors.items()}


def logits_of(path: Path) -> Any:
    with edgeq.load(path, kv="f32", act="f32") as model:
        return model.logits(IDS)


def chosen(text: str, **changes: Any) -> dict[str, str]:
    """What a recipe's text chooses for a model of nine layers."""
    found = recipe.parsed(text.encode(), "mine.toml").schemes(
        "llama", family("llama").Config.from_hf(WORDS | changes)
    )
    return {name: scheme.name if scheme else KEEP for name, scheme in found.items()}


def test_the_first_rule_that_matches_counts() -> None:
    found = chosen(
        """
        [[rule]]
        tensors = ["blocks.3.down", "out*"]
        scheme = "keep"
        [[rule]]
        tensors = ["blocks.*.down", "blocks.0.[qk]"]
        scheme = "q5"
        [[rule]]
        tensors = ["blocks.*"]
        layers = { first = "1/9" }
        scheme = "bf16"
        [[rule]]
        tensors = ["*"]
        scheme = "q4"
        """
    )
    assert found.pop("output") == "keep" and found.pop("blocks.3.down") == "keep"
    assert {name for name, scheme in found.items() if scheme == "q5"} == {
        "blocks.0.q", "blocks.0.k", *(f"blocks.{i}.down" for i in range(LAYERS) if i != 3)
    }  # fmt: skip
    assert {name for name, scheme in found.items() if scheme == "bf16"} == {
        f"blocks.0.{part}" for part in ("v", "o", "gate", "up")
    }
    assert set(found.values()) == {"q5", "bf16", "q4"} and found["embed"] == "q4"


@pytest.mark.parametrize(
    ("layers", "count", "wanted"),
    [
        (Layers(Fraction(1, 8), Fraction(1, 8), 3), 16, [0, 1, 4, 7, 10, 13, 14, 15]),
        (Layers(Fraction(1, 8), Fraction(1, 8), 3), 9, [0, 1, 4, 7, 8]),
        (Layers(Fraction(1, 8), Fraction(1, 8), 3), 2, [0, 1]),
        (Layers(Fraction(1, 8), Fraction(1, 8), 3), 1, [0]),
        (Layers(first=Fraction(1, 3)), 10, [0, 1, 2, 3]),
        (Layers(last=Fraction(1, 3)), 10, [6, 7, 8, 9]),
        (Layers(every=2), 5, [1, 3]),
        (Layers(every=1), 3, [0, 1, 2]),
        (Layers(Fraction(2, 3), Fraction(1)), 3, [0, 1, 2]),
    ],
)
def test_layers(layers: Layers, count: int, wanted: list[int]) -> None:
    assert [i for i in range(count) if layers.has(i, count)] == wanted


def test_layers_are_for_what_is_in_one() -> None:
    found = chosen(
        '[[rule]]\ntensors = ["*"]\nlayers = { every = 1 }\nscheme = "q4"\n'
        '[[rule]]\ntensors = ["*"]\nscheme = "q8"\n'
    )
    assert {name for name, scheme in found.items() if scheme == "q8"} == {"embed", "output"}


ALL = '[[rule]]\ntensors = ["*"]\nscheme = "q4"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'mine.toml': rule is None, but one or more"),
        ("rule = 3", "'mine.toml': rule is 3, but one or more"),
        ("rule = [1]", r"'mine.toml': rule is \[1\], but"),
        ("[[rule]]\ntensors = *", r"'mine.toml' is not TOML: .*line 2, column 11"),
        ("a\0", "is not TOML"),
        ("[[rule]]\nscheme = 'q4'\nscheme = 'q4'\n\n", "is not TOML: .*line 3"),
        (f"x = {'1' * 900}\n" + ALL, "key 'x' is unknown; known are about, rule"),
        ("x = [\n" + ("[" * 900 + "\n") * 9, "is nested too deeply"),
        ("\n" + "a." * 600 + "a = 1", "'mine.toml', line 2 is longer than the 1000 bytes"),
        ("#\n" * 40000, "'mine.toml' is larger than the 65536 bytes"),
        ("about = 1\n" + ALL, "about is 1, but a text is needed"),
        (ALL + 'tensor = "x"', "'mine.toml', rule 1: key 'tensor' is unknown; known are tensors, layers"),
        (ALL + '[[rule]]\nscheme = "q4"', "rule 2: tensors is None, but a list"),
        (ALL.replace('["*"]', '"*"'), r"rule 1: tensors is '\*', but a list"),
        (ALL.replace('["*"]', "[]"), r"rule 1: tensors is \[\], but a list"),
        (ALL.replace("*", ""), "rule 1: tensors has '', but a text of 1 to 80 characters"),
        (ALL.replace("*", "x" * 81), "rule 1: tensors has 'xxxxx.*, but a text of 1 to 80 characters"),
        (ALL.replace('"*"', '"*",\n' * 1025), "has more than the 1024 patterns"),
        (ALL.replace("q4", "q3"), f"rule 1: scheme 'q3' is unknown; one of {', '.join(CHOICES)} or keep is"),
        (ALL.replace("q4", "k4"), "rule 1: scheme 'k4' is unknown"),
        (ALL.replace("q4", "bytes"), "rule 1: scheme 'bytes' is unknown"),
        (ALL.replace('"q4"', "4"), "rule 1: scheme 4 is unknown"),
        ('[[rule]]\ntensors = ["*"]', "rule 1: scheme None is unknown"),
        (ALL + "layers = 3", "rule 1: layers is 3, but some of first, last and every"),
        (ALL + "layers = {}", "rule 1: layers is {}, but some of"),
        (ALL + "layers = { begin = '1/8' }", "rule 1: layers: key 'begin' is unknown; known are first,"),
        (ALL + "layers = { first = 0.125 }", 'rule 1: layers.first is 0.125, but a share .*"1/8" is needed'),
        (ALL + "layers = { last = '9/8' }", "rule 1: layers.last is '9/8', but a share"),
        (ALL + "layers = { last = '1/0' }", "rule 1: layers.last is '1/0', but a share"),
        (ALL + "layers = { every = 0 }", "rule 1: layers.every is 0, but a whole number from 1 to 1024"),
        (ALL + "layers = { every = true }", "rule 1: layers.every is True, but a whole number"),
        # what the model at hand refuses
        (ALL.replace("*", "embed"), r"'mine.toml': no rule is for tensor 'output'; a last rule with tensors"),
        (ALL + "layers = { first = '1/8' }", "no rule is for tensor 'embed'"),
        (ALL + ALL.replace("*", "blocks.*.w"), "'mine.toml', rule 2: 'blocks.*.w' matches no matrix of this"),
        (ALL + ALL.replace("*", "blocks.9.q"), "rule 2: 'blocks.9.q' matches no matrix"),
        (ALL + ALL.replace("*", "norm"), "rule 2: 'norm' matches no matrix of this model; names such as 'em"),
        (ALL.replace("*", "BLOCKS.*"), "rule 1: 'BLOCKS.*' matches no matrix"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, source: Path, text: str, sentence: str) -> None:
    """Each by one line with the file's name, before anything is written."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence) as caught:
        convert(source, tmp_path / "out.edgeq", recipe=path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    assert os.listdir(tmp_path) == ["mine.toml"]


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(UsageError, match="is not TOML: 'utf-8' codec can't decode"):
        recipe.parsed(b"\xff", "mine.toml")


def test_files_that_cannot_be(tmp_path: Path, source: Path) -> None:
    names = "iot, keep-experts, layers, q4-mixed"
    for given in (tmp_path, tmp_path / "none.toml", "q4", "a\0b"):
        with pytest.raises(UsageError, match=f"is neither a file nor one of {names}"):
            recipe.load(given)
    with pytest.raises(UsageError, match="give either a recipe or schemes"):
        convert(source, tmp_path / "out.edgeq", recipe="iot", scheme="q4")
    with pytest.raises(UsageError, match="give either a recipe or schemes"):
        convert(source, tmp_path / "out.edgeq", recipe="iot", output_scheme="q4")


def test_schemes_are_a_recipe() -> None:
    """One path: options become rules, and no name of edgeq's recipes is a scheme's."""
    assert recipe.choose() == recipe.choose(scheme="q4") == Recipe(
        "q4", (Rule(("embed",), "q8"), Rule(("output",), "q8"), Rule(("*",), "q4"))
    )  # fmt: skip
    found = recipe.choose(scheme="keep", embed_scheme="q5")
    assert found == Recipe(
        "keep embed=q5", (Rule(("embed",), "q5"), Rule(("output",), "keep"), Rule(("*",), "keep"))
    )
    assert recipe.choose(found) is found
    assert not set(recipe.shipped()) & {*CHOICES, KEEP}
    assert all(row.about and row.about.isprintable() for row in recipe.shipped().values())


def test_a_name_of_edgeqs_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "iot").write_text(ALL)
    monkeypatch.chdir(tmp_path)
    assert recipe.load("iot") == recipe.shipped()["iot"]
    assert recipe.load("./iot") == recipe.load(Path("iot")) == Recipe("iot", (Rule(("*",), "q4"),))


FOR_ALL = sorted({*recipe.shipped()} - {"keep-experts"})
NEAR = [("iot", 0.1), ("layers", 0.9), ("q4-mixed", 0.9)]  # of the distance with q4
MIXED_LAYERS = (0, 1, 4, 7, 8)  # of nine: an eighth is two


def wanted(name: str, tensor: str) -> str:
    """What each recipe of edgeq's is for."""
    part = tensor.rsplit(".", 1)[-1]
    if name == "q4-mixed":
        more = part in ("v", "down") and int(tensor.split(".")[1]) in MIXED_LAYERS
        return "q8" if part in ("embed", "output") else "q5" if more else "q4"
    kinds = {"layers": ("q8", "q5", "q4"), "iot": ("f16", "f16", "q8")}[name]
    return kinds[0 if part in ("embed", "output") else 1 if part in "qkvo" else 2]


@pytest.mark.parametrize("name", FOR_ALL)
def test_recipes_of_edgeq(tmp_path: Path, source: Path, name: str) -> None:
    target = tmp_path / "out.edgeq"
    convert(source, target, recipe=name)
    assert verify(target) == []
    with open_model(target) as file:
        assert file.header["source"]["recipe"] == name
        vectors = {name for name, tensor in file.tensors.items() if len(tensor.shape) == 1}
    found = schemes_of(target)
    assert {found.pop(vector) for vector in vectors} == {"f32"}
    assert found == {tensor: wanted(name, tensor) for tensor in found} and len(found) == 2 + 7 * LAYERS


@pytest.mark.parametrize(("name", "share"), NEAR)
def test_recipes_of_edgeq_run(tmp_path: Path, demo_checkpoint: Path, name: str, share: float) -> None:
    """The logits of a trained model are nearer to those of float32 than with q4."""
    exact, coarse, target = (tmp_path / f"{word}.edgeq" for word in ("exact", "coarse", "target"))
    convert(demo_checkpoint, exact, scheme="f32")
    convert(demo_checkpoint, coarse, scheme="q4")
    convert(demo_checkpoint, target, recipe=name)
    reference = logits_of(exact)
    near, far = (np.linalg.norm(logits_of(path) - reference) for path in (target, coarse))
    assert 0 < near < share * far


@pytest.mark.parametrize("name", FOR_ALL)
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_recipes_of_edgeq_serve_tied_models_of_every_family(
    tmp_path: Path, name: str, model_type: str
) -> None:
    """A pattern for the head is none too many where there is no head."""
    words = config(model_type, tie_word_embeddings=True)
    tensors = {name: value for name, value in weights(words).items() if name != "lm_head.weight"}
    convert(write_directory(tmp_path / "in", words, tensors), tmp_path / "out.edgeq", recipe=name)
    found = schemes_of(tmp_path / "out.edgeq")
    assert "output" not in found and found["embed"] == wanted(name, "embed")


@pytest.mark.parametrize(("name", "kept"), [("gpt_oss-mxfp4", "mx4"), ("mixtral", "bf16")])
def test_experts_stay_what_they_are(tmp_path: Path, name: str, kept: str) -> None:
    """And the rest, the attention, embedding and head, gets 8 bits; without experts it is no recipe."""
    convert(HERE / "families" / name, tmp_path / "out.edgeq", recipe="keep-experts")
    assert verify(tmp_path / "out.edgeq") == []
    found = schemes_of(tmp_path / "out.edgeq")
    layers = {tensor.split(".")[1] for tensor in found if tensor.startswith("blocks.")}
    for layer in layers:
        experts = {found.pop(f"blocks.{layer}.experts_{part}") for part in ("gate", "up", "down")}
        assert experts == {kept} and {found.pop(f"blocks.{layer}.{part}") for part in "qkvo"} == {"q8"}
        assert found.pop(f"blocks.{layer}.router") == "f32"
    assert layers and found.pop("embed") == found.pop("output", "q8") == "q8"
    assert set(found.values()) == {"f32"}


def test_a_model_without_experts_has_none_to_keep(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match=r"'keep-experts', rule 1: 'blocks.\*.experts_\*' matches no matrix"):
        convert(source, tmp_path / "out.edgeq", recipe="keep-experts")


def test_codes_are_moved(tmp_path: Path) -> None:
    """A Q4_0 matrix keeps its numbers under q4 and q5, also those that rounding again would change, since the
    codes do not reach their end; `keep` leaves what is there.
    """
    tensors = weights(WORDS)
    block = np.array([0, 0x3C, *[0x79] * 16], np.uint8)  # scale 1, then codes 9 and 7: 1 and -1
    parts = {"up": "q5", "gate": "q4", "down": "q4"}
    stored = {}
    for part in parts:
        rows, columns = tensors.pop(f"model.layers.0.mlp.{part}_proj.weight").shape
        stored[f"blk.0.ffn_{part}.weight"] = ("Q4_0", np.tile(block, (rows, columns // 32)))
    path = write_gguf(tmp_path / "in.gguf", WORDS, tensors, kind="Q4_0", blocks=stored)
    rules = (Rule(("blocks.*.up",), "q5"), Rule(("blocks.*.gate",), "keep"), Rule(("*",), "q4"))
    convert(path, tmp_path / "out.edgeq", recipe=Recipe("mine", rules))
    with open_model(tmp_path / "out.edgeq") as file:
        for part, scheme in parts.items():
            tensor = file.tensors[f"blocks.0.{part}"]
            assert tensor.scheme.name == scheme
            row = np.tile(np.repeat([1, -1], 16), tensor.shape[1] // 32)
            np.testing.assert_array_equal(tensor.array(), np.broadcast_to(row, tensor.shape))


def test_the_page_tells_of_each_recipe() -> None:
    page = (Path(__file__).parents[2] / "docs" / "quantization.md").read_text(encoding="utf-8")
    section = page.split("## Recipes")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == sorted(recipe.shipped())
    (example,) = re.findall(r"^```toml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert recipe.parsed(example.encode(), "q4-mixed") == recipe.shipped()["q4-mixed"]


def test_names_of_llama_cpp_have_one_here() -> None:
    """Each type's own is a scheme that rounds; with the words of its mixtures, too."""
    assert set(recipe.LLAMA_CPP.values()) <= set(recipe.CHOICES)
    for given, stem, scheme in (
        ("Q4_K_M", "Q4_K", "e4"), ("q8_0", "Q8_0", "q8"), ("IQ3_XS", "IQ3", "e3"), ("Q3_K_XL", "Q3_K", "e3"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"for llama.cpp's {stem} there is '{scheme}'$"):
            recipe.checked_scheme(given)
    with pytest.raises(UsageError, match="did you mean 'nf4'"):
        recipe.checked_scheme("nf5")
    with pytest.raises(UsageError, match="is needed$"):
        recipe.checked_scheme(None)
