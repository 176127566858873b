"""Checkpoints of models that see or hear: the text model alone, whatever its tensors are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq import cli
from edgeq.converters import convert
from edgeq.converters.huggingface import open_directory
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.formats import open_model
from tests.converters.checkpoints import Array, config, weights, write_directory

SPELLINGS = {
    "as old programs have it": lambda name: f"language_model.{name}",
    "as transformers 5 has it": lambda name: name.replace("model.", "model.language_model.", 1),
    "as SmolVLM has it": lambda name: name.replace("model.", "model.text_model.", 1),
}
OTHERS = {
    "vision_tower.patch.weight": np.zeros((3, 2, 2, 2), np.float32),
    "model.multi_modal_projector.linear.weight": np.zeros((4, 4), np.float32),
    "mtp.layers.0.weight": np.zeros((4, 4), np.float32),
}


def whole(text: dict[str, Any], **outer: Any) -> dict[str, Any]:
    """The config of a model that sees around that of its text model."""
    words = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "vision_config": {}}
    return words | {"text_config": text} | outer


def made(path: Path, words: dict[str, Any], tensors: dict[str, Array], **others: Array) -> Path:
    return write_directory(path, words, tensors | OTHERS | others)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_text_model_is_what_it_is_alone(spelling: str, tmp_path: Path) -> None:
    words = config()
    tensors = weights(words)
    alone = write_directory(tmp_path / "alone", words, tensors)
    seeing = made(tmp_path / "whole", whole(words), {SPELLINGS[spelling](n): t for n, t in tensors.items()})
    lines: list[str] = []
    for path in (alone, seeing):
        convert(path, path.with_suffix(".edgeq"), scheme="f32", tell=lines.append)
    assert lines == ["only the text model is taken: mtp, multi_modal_projector, vision_tower of the "
                     "checkpoint is left out"]  # fmt: skip
    with open_model(tmp_path / "alone.edgeq") as one, open_model(tmp_path / "whole.edgeq") as other:
        assert other.header["source"]["left_out"] == ["mtp", "multi_modal_projector", "vision_tower"]
        assert "left_out" not in one.header["source"]
        assert one.config == other.config and one.header["generation"] == other.header["generation"]
        for name, tensor in one.tensors.items():
            assert np.array_equal(tensor.array(), other.tensors[name].array()), name


def test_layers_that_guess_in_a_model_of_text_alone(tmp_path: Path) -> None:
    """As Qwen3-Next's checkpoints have them; parts that see are refused there."""
    words = config()
    guessing = {name: x for name, x in OTHERS.items() if name.startswith("mtp.")}
    source = open_directory(write_directory(tmp_path / "guesses", words, weights(words) | guessing))
    assert source.left_out == ("mtp",) and not {name for name in source.tensors if "mtp" in name}
    with pytest.raises(UnsupportedError, match="is not one of family llama's"):
        open_directory(write_directory(tmp_path / "sees", words, weights(words) | OTHERS))


def test_the_command_says_what_is_left_out(tmp_path: Path) -> None:
    words = config()
    tensors = {f"language_model.{name}": t for name, t in weights(words).items()}
    path = made(tmp_path / "whole", whole(words), tensors)
    done = CliRunner().invoke(cli.cli, ["convert", str(path), "-o", str(tmp_path / "out.edgeq")])
    assert done.exit_code == 0 and "vision_tower of the checkpoint is left out" in done.stderr
    shown = CliRunner().invoke(cli.cli, ["show", str(path), "--json"])
    assert json.loads(shown.stdout)["source"]["left_out"] == ["mtp", "multi_modal_projector", "vision_tower"]


def test_words_of_the_outer_config(tmp_path: Path) -> None:
    """Ids that end a text and tying go before the text model's own; its absent words are its class's."""
    words = config("qwen3", eos_token_id=9, rms_norm_eps=1e-6)
    tensors = {f"language_model.{name}": t for name, t in weights(words).items()}
    del words["rms_norm_eps"], words["hidden_act"]
    source = open_directory(made(tmp_path, whole(words, eos_token_id=[3, 4]), tensors))
    assert source.generation == {"bos_token_id": 1, "eos_token_id": [3, 4]}
    assert (source.family, source.config.rms_norm_eps) == ("qwen3", 1e-6)


@pytest.mark.parametrize(("outer", "inner"), [(True, None), (False, True), (None, True), (None, None)])
def test_a_head_that_is_the_embedding(outer: bool | None, inner: bool | None, tmp_path: Path) -> None:
    words = config(tie_word_embeddings=True)
    tensors = {f"language_model.{name}": t for name, t in weights(words).items()}
    words["tie_word_embeddings"] = inner
    assert open_directory(made(tmp_path, whole(words, tie_word_embeddings=outer), tensors)).config
    if not (outer or inner):
        return
    assert open_directory(tmp_path).config.tie_word_embeddings


REFUSED: list[tuple[dict[str, Any], dict[str, Any], type[EdgeqError], str]] = [
    ({"architectures": ["PaliGemmaForConditionalGeneration"]}, {}, UnsupportedError,
     r"architectures is \['PaliGemmaForConditionalGeneration'\] around a text_config, but only \[Gemma3For"),
    ({"architectures": None}, {}, UnsupportedError, "architectures is None around a text_config, but only"),
    ({"text_config": 3}, {}, UnsupportedError, "text_config is 3, but the text model's config is needed"),
    ({"quantization_config": {"quant_method": "fp8"}}, {}, UnsupportedError,
     "quantization_config is {'quant_method': 'fp8'}, but .* its absence"),
    ({}, {"model_type": None}, UnsupportedError, r"text_config\.model_type is missing; the text model's is"),
    ({}, {"model_type": "gptj"}, UnsupportedError, "model_type is 'gptj', but only"),
    ({}, {"hidden_size": 0}, UnsupportedError, "hidden_size is 0, but"),
]  # fmt: skip


@pytest.mark.parametrize(("outer", "inner", "error", "sentence"), REFUSED)
def test_refused(
    outer: dict[str, Any], inner: dict[str, Any], error: type[EdgeqError], sentence: str, tmp_path: Path
) -> None:
    tensors = {f"language_model.{name}": t for name, t in weights(config()).items()}
    made(tmp_path, whole(config() | inner) | outer, tensors)
    with pytest.raises(error, match=sentence):
        open_directory(tmp_path)


def test_tensors_that_are_not_clear(tmp_path: Path) -> None:
    tensors = {f"language_model.{name}": t for name, t in weights(config()).items()}
    strange = {"model.ears.weight": np.zeros((2, 2), np.float32)}
    made(tmp_path / "strange", whole(config()), tensors, **strange)
    with pytest.raises(UnsupportedError, match=r"'model\.ears\.weight' is not one of family llama's"):
        open_directory(tmp_path / "strange")
    twice = {"model.language_model.norm.weight": np.zeros(64, np.float32)}
    made(tmp_path / "twice", whole(config()), tensors, **twice)
    with pytest.raises(FormatError, match=r"and another are both 'model\.norm\.weight' of the text model"):
        open_directory(tmp_path / "twice")
    made(tmp_path / "alone", config(), weights(config()))
    with pytest.raises(UnsupportedError, match=r"is not one of family llama's"):  # no whole, no parts of it
        open_directory(tmp_path / "alone")
