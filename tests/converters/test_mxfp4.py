"""Checkpoints whose experts' matrices are MXFP4: every number kept, whatever the places of the codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.converters import convert, mxfp4
from edgeq.converters.huggingface import open_directory
from edgeq.converters.source import SourceTensor
from edgeq.errors import FormatError
from edgeq.formats import open_model
from edgeq.library.find import scheme_of
from tests.golden.test_families import distance, golden

CHECKPOINT = Path(__file__).parent.parent / "golden" / "families" / "gpt_oss-mxfp4"
VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def stored(directory: Path) -> dict[str, Any]:
    """{name: (dtype, shape, bytes)} of a checkpoint."""
    raw = (directory / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    data = raw[8 + length :]
    return {name: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for name, e in header.items()}


def store(directory: Path, tensors: dict[str, Any]) -> None:
    """The other way."""
    header, data = dict[str, Any](), b""
    for name, (dtype, shape, raw) in tensors.items():
        places = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": places}
        data += raw
    head = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)


def numbers(name: str) -> Any:
    """float32 [experts, rows, columns] of one of the checkpoint's matrices, code by code."""
    whole = stored(CHECKPOINT)
    (_, shape, blocks), (_, _, scales) = whole[f"{name}_blocks"], whole[f"{name}_scales"]
    codes = np.frombuffer(blocks, np.uint8).reshape(shape)
    exponents = np.frombuffer(scales, np.uint8).reshape(shape[:-1]).astype(np.int32) - 127
    found = np.empty((*codes.shape[:-1], 32), np.float32)
    for j in range(16):
        found[..., 2 * j] = np.ldexp(VALUES[codes[..., j] & 15], exponents)
        found[..., 2 * j + 1] = np.ldexp(VALUES[codes[..., j] >> 4], exponents)
    return found.reshape(*shape[:2], -1)


def test_kept(tmp_path: Path) -> None:
    """As the checkpoint has them, gates and what they are gates of apart."""
    path = tmp_path / "model.edgeq"
    convert(CHECKPOINT, path, scheme="keep")
    both = numbers("model.layers.1.mlp.experts.gate_up_proj")
    want = {
        "experts_gate": both[:, 0::2],
        "experts_up": both[:, 1::2],
        "experts_down": numbers("model.layers.1.mlp.experts.down_proj"),
    }
    with open_model(path) as file:
        for name, x in want.items():
            tensor = file.tensors[f"blocks.1.{name}"]
            assert tensor.scheme.name == "mx4"
            np.testing.assert_array_equal(tensor.array(), x.reshape(-1, x.shape[-1]))
        assert file.tensors["blocks.0.q"].scheme.name == "bf16"
    ids, theirs = golden(CHECKPOINT.name)
    with edgeq.load(path, kv="f32", act="f32") as model:
        assert distance(model.logits(ids), theirs) < 1e-4
    with edgeq.load(path, kv="f32", act="int8") as model:
        assert distance(model.logits(ids), theirs) < 0.1


def test_as_floats(tmp_path: Path) -> None:
    """A checkpoint of the same numbers as floats, which are transposed, is the same model bit for bit."""
    tensors = stored(CHECKPOINT)
    folder = tmp_path / "floats"
    shutil.copytree(CHECKPOINT, folder)
    for name in [name.removesuffix("_blocks") for name in tensors if name.endswith("_blocks")]:
        del tensors[f"{name}_blocks"], tensors[f"{name}_scales"]
        x = numbers(name).swapaxes(1, 2)
        tensors[name] = "F32", x.shape, x.tobytes()
    store(folder, tensors)
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    convert(CHECKPOINT, tmp_path / "a.edgeq", scheme="f32")
    convert(folder, tmp_path / "b.edgeq", scheme="f32")
    with open_model(tmp_path / "a.edgeq") as one, open_model(tmp_path / "b.edgeq") as other:
        assert one.config == other.config and one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            np.testing.assert_array_equal(tensor.array(), other.tensors[name].array(), err_msg=name)


def test_some_rows() -> None:
    """By a slice or by number they are those of the whole."""
    tensor = open_directory(CHECKPOINT).tensors["blocks.0.experts_up"]
    whole = tensor.raw(slice(None))
    assert tensor.nbytes == whole.size
    np.testing.assert_array_equal(tensor.raw(slice(7, 50)), whole[7:50])
    np.testing.assert_array_equal(tensor.raw(np.array([9, 0, 100])), whole[[9, 0, 100]])
    np.testing.assert_array_equal(tensor.floats(slice(3, 5)), tensor.floats()[3:5])


def test_the_scheme_that_nobody_chose() -> None:
    assert scheme_of(CHECKPOINT, "directory") == "keep"


def tensor(name: str, kind: str, *shape: int) -> SourceTensor:
    return SourceTensor(name, kind, shape, np.zeros(int(np.prod(shape)), np.uint8))


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([("a_blocks", "U8", 2, 4, 1, 16)], "'a_scales' is missing"),
        ([("a_blocks", "U8", 2, 4, 1, 8), ("a_scales", "U8", 2, 4, 1)], "in rows of 16 is needed"),
        ([("a_blocks", "I8", 2, 4, 1, 16), ("a_scales", "U8", 2, 4, 1)], "'a_blocks' is I8"),
        ([("a_blocks", "U8", 2, 4, 1, 16), ("a_scales", "U8", 2, 4)], "needs U8 [2, 4, 1] beside it"),
        ([("a_blocks", "U8", 2, 4, 1, 16), ("a_scales", "I8", 2, 4, 1)], "'a_scales' is I8"),
    ],
)
def test_refused(parts: list[Any], what: str) -> None:
    with pytest.raises(FormatError) as caught:
        mxfp4.unpacked({part[0]: tensor(*part) for part in parts})
    assert what in str(caught.value)
