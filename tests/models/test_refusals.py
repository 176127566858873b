"""Every family refuses what it cannot honour in one sentence that says what, and what would be right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq import models
from edgeq.converters import huggingface, wrapped
from edgeq.converters.jsonfile import Folder
from edgeq.converters.source import is_dead
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.models.words import Choice, Each, Factors, Real, Truth, Whole, Word

HERE = Path(__file__).parent.parent / "golden"
FOLDERS = {path.parent.name: path.parent for path in sorted(HERE.glob("*/*/config.json"))}
GOLDENS = list(FOLDERS)
STRANGE: tuple[Any, ...] = ("strange", {"strange": 1}, [3], -7, True, 0, 10**400, None)


def config(name: str) -> dict[str, Any]:
    """The words of a golden checkpoint's text model."""
    raw = json.loads((FOLDERS[name] / "config.json").read_text())
    raw = wrapped.text_config(raw) or raw
    if "quantization_config" in raw:
        del raw["quantization_config"]
    return raw


def family(name: str) -> Any:
    return models.family(models.family_of(config(name)))


def from_hf(name: str, **changes: Any) -> models.BaseConfig:
    """Its config with other words."""
    raw = config(name)
    module = family(name)
    for word in getattr(module, "NUMBERS", {}):
        raw[word] = [0.5] * raw["num_hidden_layers"]
    raw |= changes
    raw["model_type"], _ = models.row_of(raw)
    settled: models.BaseConfig = module.Config.from_hf(raw)
    return settled


def check(sentence: str, *parts: str) -> None:
    assert "\n" not in sentence and len(sentence) < 600, sentence
    for part in parts:
        assert part in sentence


def test_every_family_has_a_golden() -> None:
    assert {models.family_of(config(name)) for name in GOLDENS} == set(models.family_names())


@pytest.mark.parametrize("name", GOLDENS)
def test_words_that_change_the_computation(name: str) -> None:
    required = family(name).Config.REQUIRE
    assert required["quantization_config"] == ()
    for key, accepted in required.items():
        for value in ("strange", 77):
            with pytest.raises(UnsupportedError) as caught:
                from_hf(name, **{key: value})
            right = repr(accepted[0]) if accepted else "its absence"
            check(str(caught.value), f"{key} is {value!r}, but this family is written for", right)
        for value in (None, *accepted):
            if key != "partial_rotary_factor":
                assert from_hf(name, **{key: value}) == from_hf(name)


def own_name(form: type[models.BaseConfig], word: str) -> str:
    return {ours: own for own, ours in form.NAMES.items()}.get(word, word)


def given_words(name: str) -> Iterator[tuple[str, Word]]:
    """Words of the family's config that config.json may have under the same or the family's own name."""
    form = family(name).Config
    defaults = form.DEFAULTS[config(name)["model_type"]]
    for word, kind in form.words().items():
        if word in defaults or own_name(form, word) in config(name):
            yield word, kind


@pytest.mark.parametrize("name", GOLDENS)
def test_words_of_another_kind(name: str) -> None:
    """Each is refused by its name, or is one that changes nothing."""
    form = family(name).Config
    settled = from_hf(name)
    for word, kind in given_words(name):
        own = own_name(form, word)
        for value in STRANGE:
            try:
                found = from_hf(name, **{own: value})
            except UnsupportedError as error:
                check(str(error), own)
                continue
            usual = value is None or kind.fits(value) or own == "sliding_window"
            assert usual or found == settled, f"{own} is {value!r:.40}"


@pytest.mark.parametrize("name", GOLDENS)
def test_all_words_that_are_read(name: str) -> None:
    """No word of config.json, whatever it is, ends in anything but a config or a refusal; nor where it says
    nothing of single layers.
    """
    defaults = family(name).Config.DEFAULTS[config(name)["model_type"]]
    patterns = {"rope_parameters", "rope_scaling", "sliding_window_pattern"}
    for gone in ({}, dict.fromkeys(("layer_types", "no_rope_layers"))):
        for key in sorted({*config(name), *defaults, *patterns} - gone.keys()):
            for value in STRANGE:
                try:
                    from_hf(name, **gone, **{key: value})
                except UnsupportedError as error:
                    check(str(error), "config: ")


@pytest.mark.parametrize("name", GOLDENS)
def test_numbers_that_may_not_be_zero(name: str) -> None:
    form = family(name).Config
    for word, kind in given_words(name):
        if isinstance(kind, Real) and kind.above >= 0:
            own = own_name(form, word)
            if word == "rms_norm_eps" and word not in form.DEFAULTS[config(name)["model_type"]]:
                continue  # a LayerNorm's, see below
            with pytest.raises(UnsupportedError) as caught:
                from_hf(name, **{own: 0.0})
            check(str(caught.value), f"{own} is 0.0, but", "a number above 0 and at most")


@pytest.mark.parametrize("name", ["cohere2", "stablelm", "gpt_neox", "gpt2"])
def test_the_epsilon_of_a_layer_norm(name: str) -> None:
    key = "layer_norm_epsilon" if name == "gpt2" else "layer_norm_eps"
    assert from_hf(name, **{key: 0.25}).rms_norm_eps == 0.25
    with pytest.raises(UnsupportedError, match=f"{key} is 0, but a number above 0 and at most 1 is needed"):
        from_hf(name, **{key: 0})


@pytest.mark.parametrize("name", ["scale_emb", "scale_depth", "dim_model_base"])
def test_the_scales_of_minicpm(name: str) -> None:
    for value in (0, "much", -1.0, True):
        with pytest.raises(UnsupportedError, match=f"{name} is {value!r}, but a number above 0"):
            from_hf("minicpm", **{name: value})


MAMBA = [name for name in GOLDENS if "mamba_n_heads" in config(name)]


@pytest.mark.parametrize("name", MAMBA)
def test_words_of_mamba(name: str) -> None:
    """Steps without limits in every spelling, and a width of heads that is said or not."""
    for limit in ([0.0, float("inf")], [0, {"__float__": "Infinity"}], None):
        assert from_hf(name, time_step_limit=limit) == from_hf(name, mamba_d_head="auto") == from_hf(name)
    for limited in ([0.001, float("inf")], [0.0, 0.1], [0.0], "none"):
        with pytest.raises(UnsupportedError, match="time_step_limit is .* steps without limits"):
            from_hf(name, time_step_limit=limited)
    with pytest.raises(UnsupportedError, match="mamba_d_head is 64, but . of them must be .* wide"):
        from_hf(name, mamba_d_head=64)
    with pytest.raises(UnsupportedError, match="mamba_n_heads is 7, but it must divide the width of all"):
        from_hf(name, mamba_d_head="auto", mamba_n_heads=7)


def test_the_multipliers_of_falcon_h1() -> None:
    """Absent and null ones are 1; a norm must be behind the gate."""
    for key in ("mlp_multipliers", "ssm_multipliers"):
        assert from_hf("falcon_h1", **{key: None}) == from_hf("falcon_h1")
        wrong: tuple[Any, ...] = ([1.0], [1.0] * 6, "much", [1.0, 0.0], [1.0] * 4 + [True])
        for value in wrong:
            with pytest.raises(UnsupportedError, match=f"{key} is .*, but a list of . numbers above 0"):
                from_hf("falcon_h1", **{key: value})
    for key in ("key_multiplier", "embedding_multiplier", "ssm_in_multiplier"):
        for number in (0, "much", -1.0, True):
            with pytest.raises(UnsupportedError, match=f"{key} is {number!r}, but a number above 0"):
                from_hf("falcon_h1", **{key: number})
    assert from_hf("falcon_h1", mamba_norm_before_gate=False) == from_hf("falcon_h1")
    with pytest.raises(UnsupportedError, match="mamba_norm_before_gate is True, but"):
        from_hf("falcon_h1-normed", mamba_norm_before_gate=True)


@pytest.mark.parametrize("name", GOLDENS)
def test_headers(name: str) -> None:
    """What a file's header says is checked too, by the name that it has there."""
    form, words = family(name).Config, from_hf(name).to_header()
    assert form.from_header(words) == from_hf(name)
    for word, kind in form.words().items():
        for value in ("strange", 10**400):
            if isinstance(kind, Choice | Each | Factors | Truth | Whole | Real):
                with pytest.raises(FormatError) as caught:
                    form.from_header({**words, word: value})
                check(str(caught.value), word)


# ---- tensors ----
Stored = dict[str, tuple[str, tuple[int, ...], Any]]


def opened(name: str, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The golden checkpoint with these tensors."""
    monkeypatch.setattr(huggingface, "weights", lambda *_: stored)
    return huggingface.open_directory(FOLDERS[name])


def stored(name: str) -> Stored:
    """Its tensors that are read; of the text model alone."""
    found = huggingface.weights(Folder(FOLDERS[name]))
    seen = "text_config" in json.loads((FOLDERS[name] / "config.json").read_text())
    parts = tuple(f"{part}." for part in wrapped.PARTS)
    others = {key for key in found if seen and key.removeprefix("model.").startswith(parts)}
    return {key: x for key, x in found.items() if key not in others and not is_dead(key)}


def kinds(found: Stored) -> Iterator[str]:
    """The names of what blocks have once, and of what is there once, of the text model."""
    _, left = wrapped.text_tensors({key: key for key in found})
    others = {key for part in left.values() for key in part}
    for key in found.keys() - others:
        if ".1." not in key and ".2." not in key and ".3." not in key:
            yield key


def alone(key: str) -> str:
    """A tensor's name in a checkpoint that is nothing but text."""
    return next((to + key[len(at) :] for at, to in wrapped.PREFIXES.items() if key.startswith(at)), key)


def named(key: str, sentence: str) -> bool:
    """Whether a sentence names a tensor; numbers of an activation are named by the config's word."""
    return alone(key) in sentence or f"xielu_{key.rpartition('.')[2]}" in sentence


@pytest.mark.parametrize("name", GOLDENS)
def test_a_tensor_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stored(name)
    for key in kinds(whole):
        rest = {other: entry for other, entry in whole.items() if other != key}
        with pytest.raises(EdgeqError) as caught:
            opened(name, rest, monkeypatch)
        check(str(caught.value))
        assert named(key, str(caught.value)), key


@pytest.mark.parametrize("name", GOLDENS)
def test_a_tensor_of_another_shape(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stored(name)
    for key in kinds(whole):
        dtype, shape, data = whole[key]
        for wrong in ((*shape, 3), (3, *shape[1:]), (0,)):
            with pytest.raises(EdgeqError) as caught:
                opened(name, {**whole, key: (dtype, wrong, data)}, monkeypatch)
            check(str(caught.value))
            assert named(key, str(caught.value)), (key, str(caught.value))


@pytest.mark.parametrize("name", GOLDENS)
def test_a_tensor_that_nobody_knows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stored(name)
    for key in (
        "strange.weight",
        "model.layers.0.self_attn.strange.bias",
        "model.layers.9.mlp.up_proj.weight",
    ):
        with pytest.raises(UnsupportedError) as caught:
            opened(name, {**whole, key: ("BF16", (2, 2), whole[next(iter(whole))][2])}, monkeypatch)
        check(str(caught.value), key, f"is not one of family {models.family_of(config(name))}'s")


@pytest.mark.parametrize("name", GOLDENS)
def test_a_tensor_of_numbers_that_no_scheme_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stored(name)
    for key in kinds(whole):
        _, shape, data = whole[key]
        with pytest.raises(EdgeqError) as caught:
            opened(name, {**whole, key: ("I64", shape, data)}, monkeypatch)
        check(str(caught.value))
        assert named(key, str(caught.value)), key


def test_gpt2_as_it_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the model's own name before each tensor's, with causal masks, and with a head that is tied."""
    whole = stored("gpt2")
    bare = {key.removeprefix("transformer."): entry for key, entry in whole.items()}
    mask = ("F32", (1, 1, 64, 64), bare["wpe.weight"][2])
    bare |= {"h.0.attn.bias": mask, "h.0.attn.masked_bias": mask, "lm_head.weight": bare["wte.weight"]}
    found, usual = opened("gpt2", bare, monkeypatch), opened("gpt2", whole, monkeypatch)
    assert found.config == usual.config and found.config.tie_word_embeddings
    assert found.tensors.keys() == usual.tensors.keys()
    for name, tensor in usual.tensors.items():
        assert (found.tensors[name].floats() == tensor.floats()).all()
    names = {"hidden_size": 72, "num_hidden_layers": 2}
    assert from_hf("gpt2", **names) == from_hf("gpt2")
    with pytest.raises(UnsupportedError, match="n_embd is 72, but hidden_size is 80; the two must agree"):
        from_hf("gpt2", hidden_size=80)
