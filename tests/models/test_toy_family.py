"""A family is one file: a module put beside the others is converted, run and refused with no line changed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import edgeq
from edgeq import cli, models
from edgeq.converters import convert
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.formats import open_model
from edgeq.models import families
from tests.converters.checkpoints import Array, config, weights, write_directory, write_gguf

TOY = '''"""Llama's block, whose attention and MLP are added to the residual rows times a factor."""

from dataclasses import dataclass
from typing import ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Gguf
from edgeq.models.words import Choice, Real, word


@dataclass(frozen=True)
class Config(BaseConfig):
    strength: float = word(Real(0, 10))
    manner: str = word(Choice(("plain", "toy")))

    REQUIRE: ClassVar = {**REQUIRE_BASE, "toys": (1, 2)}
    DEFAULTS: ClassVar = {
        "toy": {
            "vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": None,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "manner": "toy",
        }
    }


HUGGINGFACE = (("toy", "ToyForCausalLM"),)
GGUF = (Gguf("toy", "toy", words={"strength": "strength"}),)
TENSORS = tensors.decoder()
embed, head = decoder.embed, decoder.head


def layer(p, c, w, i, x, ropes, cache):
    b, epsilon = w.block(i, decoder.Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    x = ops.add(p, x, decoder.output(p, b, ops.attend(p, q, k, v, cache)), c.strength)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return ops.add(p, x, decoder.feed_forward(p, b, h), c.strength)


def forward(p, c, w, ropes):
    decoder.decode(p, c, w, ropes, layer)
'''
WORDS = {"model_type": "toy", "architectures": ["ToyForCausalLM"], "strength": 0.5}
IDS = [1, 5, 6, 40, 3, 3, 17]


@pytest.fixture(autouse=True)
def toy(tmp_path: Path) -> Iterator[None]:
    """The family's file in a folder of its own, for as long as a test runs."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    families.__path__.append(str(folder))
    importlib.invalidate_caches()
    yield
    families.__path__.remove(str(folder))
    sys.modules.pop(f"{families.__name__}.toy", None)
    vars(families).pop("toy", None)


def words(**changes: Any) -> dict[str, Any]:
    return {key: x for key, x in (config() | WORDS | changes).items() if x is not None}


def logits(source: Path, **how: Any) -> Array:
    """Of a source, converted."""
    out = source.with_suffix(".edgeq")
    convert(source, out, **({"scheme": "f32"} | how))
    with edgeq.load(out, kv="f32", act="f32") as model:
        found: Array = model.logits(IDS)
    return found


def same_as_granite(tmp_path: Path) -> Array:
    """The logits of a family that computes the same with these words."""
    granite = {
        "model_type": "granite", "architectures": ["GraniteForCausalLM"], "residual_multiplier": 0.5,
        "attention_multiplier": 0.25,
    }  # fmt: skip
    return logits(write_directory(tmp_path / "granite", config() | granite, weights(config())))


def test_a_checkpoint(tmp_path: Path) -> None:
    assert "toy" in models.family_names() and models.row_of(words()) == ("toy", "toy")
    path = write_directory(tmp_path / "toy", words(), weights(config()))
    np.testing.assert_array_equal(logits(path), same_as_granite(tmp_path))
    with open_model(tmp_path / "toy.edgeq") as file:
        assert (file.family, file.config["strength"], file.config["manner"]) == ("toy", 0.5, "toy")
    done = CliRunner().invoke(cli.cli, ["show", str(tmp_path / "toy.edgeq")])
    assert done.exit_code == 0 and "toy" in done.stdout


def test_a_gguf_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "toy.gguf", words(), weights(config()), strength=0.5)
    np.testing.assert_array_equal(logits(path), same_as_granite(tmp_path))


def test_a_wrapped_checkpoint(tmp_path: Path) -> None:
    whole = {"architectures": ["LlavaForConditionalGeneration"], "text_config": words()}
    tensors = {f"language_model.{name}": x for name, x in weights(config()).items()}
    path = write_directory(tmp_path / "whole", whole, tensors)
    np.testing.assert_array_equal(logits(path), same_as_granite(tmp_path))


def test_a_quantized_one_runs(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "toy", words(), weights(config()))
    convert(path, tmp_path / "q4.edgeq")
    with edgeq.load(tmp_path / "q4.edgeq") as model:
        assert np.isfinite(model.logits(IDS)).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strength": None}, "strength is missing; a number above 0 and at most 10 is needed"),
        ({"strength": 0.0}, "strength is 0.0, but a number above 0 and at most 10 is needed"),
        ({"manner": "rude"}, "manner is 'rude', but 'plain' or 'toy' is needed"),
        ({"toys": 3}, "toys is 3, but this family is written for 1 or 2"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', but this family is written for 'silu'"),
        ({"model_type": "toys"}, "model_type is 'toys', but only .*, toy are supported|model_type is 'toys'"),
    ],
)
def test_words_are_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = write_directory(tmp_path / "toy", words(**changes), weights(config()))
    with pytest.raises(UnsupportedError, match=sentence):
        convert(path, tmp_path / "out.edgeq")


def test_tensors_and_files_are_refused(tmp_path: Path) -> None:
    tensors = weights(config())
    path = write_directory(tmp_path / "toy", words(), {**tensors, "model.toy.weight": np.ones((2, 2))})
    with pytest.raises(UnsupportedError, match=r"'model.toy.weight' is not one of family toy's"):
        convert(path, tmp_path / "out.edgeq")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(
        FormatError, match=r"'model.layers.1.mlp.up_proj.weight' is missing; shape \[96, 64\]"
    ):
        convert(write_directory(path, words(), tensors), tmp_path / "out.edgeq")
    gguf = write_gguf(tmp_path / "toy.gguf", words(), weights(config()), strength=0.5, colour=3)
    with pytest.raises(EdgeqError, match=r"toy.colour is 3, but nothing is known of such a key"):
        convert(gguf, tmp_path / "out.edgeq")


def test_without_its_file_it_is_unknown(tmp_path: Path) -> None:
    logits(write_directory(tmp_path / "toy", words(), weights(config())))
    folder = families.__path__.pop()
    try:
        sys.modules.pop(f"{families.__name__}.toy")
        with pytest.raises(UnsupportedError, match="family 'toy' is unknown; this version knows"):
            edgeq.load(tmp_path / "toy.edgeq")
    finally:
        families.__path__.append(folder)
