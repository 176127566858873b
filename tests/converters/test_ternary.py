"""Checkpoints of ternary matrices: packed four to a byte, or masters; what they mean, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq import cli, library
from edgeq.converters import convert
from edgeq.converters.huggingface import open_directory
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.formats import open_model
from tests.converters.checkpoints import Array, config, weights, write_directory

GOLDEN = Path(__file__).parent.parent / "golden" / "families"
PACKED = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
MASTERS = PACKED | {"quantization_mode": "online"}
Q = "model.layers.0.self_attn.q_proj.weight"


def ternary(seed: int = 0) -> dict[str, Array]:
    """Codes -1, 0, 1 of each matrix of the blocks of a Llama."""
    rng = np.random.default_rng(seed)
    shapes = {name: x.shape for name, x in weights(config()).items() if "_proj" in name}
    return {name: rng.integers(-1, 2, shape).astype(np.int8) for name, shape in shapes.items()}


def packed(codes: Array) -> Array:
    """As transformers packs them: rows k * R + r in bits 2k of byte row r."""
    quarters = (codes + 1).astype(np.uint8).reshape(4, -1, codes.shape[1])
    found: Array = sum(quarter << 2 * k for k, quarter in enumerate(quarters))  # type: ignore[assignment]
    return found.astype(np.uint8)


def checkpoint(path: Path, changes: dict[str, Any] | None = None, scale: float = 0.75) -> Path:
    """A packed one of a Llama; changes: tensors by name, None: left out."""
    tensors: dict[str, Any] = dict(weights(config()))
    for name, codes in ternary().items():
        tensors |= {name: packed(codes), f"{name}_scale": np.array([scale], np.float32)}
    tensors = {name: x for name, x in (tensors | (changes or {})).items() if x is not None}
    return write(path, tensors, PACKED)


def write(path: Path, tensors: dict[str, Any], words: dict[str, Any]) -> Path:
    from safetensors.numpy import save_file

    write_directory(path, config(quantization_config=words), {})
    save_file(tensors, path / "model.safetensors")
    return path


def test_packed_matrices_are_moved_into_t2(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "packed")
    for scheme in ("t2", "keep", "f32"):
        convert(path, tmp_path / "out.edgeq", scheme=scheme, overwrite=True)
        with open_model(tmp_path / "out.edgeq") as file:
            tensors = {name: file.tensors[name] for name in ("blocks.0.q", "blocks.1.down")}
            assert {t.scheme.name for t in tensors.values()} == {"f32" if scheme == "f32" else "t2"}
            codes = ternary()
            assert np.array_equal(tensors["blocks.0.q"].array(), codes[Q] * np.float32(0.75))
            down = codes["model.layers.1.mlp.down_proj.weight"]
            assert np.array_equal(tensors["blocks.1.down"].array(), down * np.float32(0.75))


def test_a_scale_of_bitlinear_divides(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, scale=4.0)
    assert open_directory(path).tensors["blocks.0.q"].floats().max() == 4.0
    words = json.loads((path / "config.json").read_text())
    words["quantization_config"] = {"quant_method": "bitnet"}  # its defaults
    (path / "config.json").write_text(json.dumps(words))
    assert open_directory(path).tensors["blocks.0.q"].floats().max() == 0.25


def test_masters_are_rounded_as_the_reference_rounds_them(tmp_path: Path) -> None:
    tensors = weights(config())
    source = open_directory(write(tmp_path, tensors, MASTERS))
    w, found = tensors[Q], source.tensors["blocks.0.q"]
    inverse = np.float32(1) / np.abs(w).mean(dtype=np.float64).astype(np.float32)
    want = np.clip(np.rint(w * inverse), -1, 1) / inverse
    assert found.scheme.name == "t2"
    np.testing.assert_allclose(found.floats(), want, rtol=1e-6)
    assert np.array_equal(found.floats(slice(3, 9)), found.floats()[3:9])
    assert source.tensors["embed"].scheme.name == "f32"  # is no product of a block


@pytest.mark.parametrize("name", ["bitnet", "bitnet-masters"])
def test_t2_is_what_nobody_has_to_choose(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN / name, tmp_path / name)
    done = CliRunner().invoke(cli.cli, ["convert", str(tmp_path / name), "-o", str(tmp_path / "a.edgeq")])
    assert done.exit_code == 0 and "t2 (its matrices are -1, 0 and 1 times a number" in done.stderr
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for path in (tmp_path / "a.edgeq", library.resolve(tmp_path / name)):
        with open_model(path) as file:
            schemes = {name.split(".")[-1]: t.scheme.name for name, t in file.tensors.items()}
        assert {schemes[name] for name in ("q", "k", "v", "o", "gate", "up", "down")} == {"t2"}
        assert schemes["embed"] == "e8" and schemes["sub_norm1"] == "f32"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "gptq"}, "quantization_config is .*, but this family is written for its absence"),
    ({"linear_class": "linear"}, r"quantization_config\.linear_class is 'linear', but only 'bitlinear' or"),
    ({"quantization_mode": "late"}, r"quantization_config\.quantization_mode is 'late', but only 'offline'"),
    ({"use_rms_norm": True}, r"quantization_config\.use_rms_norm is True, but only False is supported"),
    ({"linear_class": "bitlinear", "quantization_mode": "online"}, "bitlinear has packed matrices alone"),
    ({"quantization_mode": "online", "modules_to_not_convert": ["q_proj"]},
     r"quantization_config\.modules_to_not_convert is \['q_proj'\], but null is needed"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), REFUSED)
def test_words_that_are_refused(words: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    write(tmp_path, weights(config()), PACKED | words)
    with pytest.raises(UnsupportedError, match=sentence):
        open_directory(tmp_path)


ONES = np.ones(1, np.float32)
WRONG: list[tuple[dict[str, Any], type[EdgeqError], str]] = [
    ({f"{Q}_scale": None}, UnsupportedError, f"'{Q}' is packed, but has no '{Q}_scale' beside it"),
    ({Q: None}, FormatError, f"'{Q}' is missing, but '{Q}_scale' needs a matrix of uint8 beside it"),
    ({Q: np.ones((64, 64), np.float32)}, FormatError, rf"'{Q}' is F32 \[64, 64\], but"),
    ({f"{Q}_scale": 0 * ONES}, FormatError, f"'{Q}_scale' is 0.0, but a number above 0 is needed"),
    ({f"{Q}_scale": np.inf * ONES}, FormatError, f"'{Q}_scale' is inf, but a number above 0 is needed"),
    ({f"{Q}_scale": np.ones(2, np.float32)}, FormatError, rf"'{Q}_scale' has shape \[2\], but \[1\] is"),
    ({Q: np.ones((15, 64), np.uint8)}, FormatError, rf"'{Q}' has shape \[60, 64\], but .* \[64, 64\]"),
    ({"model.norm.weight": np.ones(64, np.uint8)}, UnsupportedError, r"'model\.norm\.weight' is packed, but"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "sentence"), WRONG)
def test_tensors_that_are_refused(
    changes: dict[str, Any], error: type[EdgeqError], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=sentence):
        open_directory(checkpoint(tmp_path, changes))


def test_a_code_that_means_nothing(tmp_path: Path) -> None:
    bad = packed(ternary()[Q])
    bad[2, 5] |= 3 << 4
    path = checkpoint(tmp_path / "bad", {Q: bad})
    with pytest.raises(FormatError, match=f"'{Q}', row 34: a code is 3, of 0 to 2"):
        convert(path, tmp_path / "bad.edgeq", scheme="t2")


def test_masters_that_are_no_numbers(tmp_path: Path) -> None:
    tensors = weights(config())
    tensors[Q][3, 3] = np.nan
    with pytest.raises(FormatError, match=f"'{Q}' has a value that is not finite"):
        convert(write(tmp_path / "bad", tensors, MASTERS), tmp_path / "bad.edgeq", scheme="t2")
