"""The pipeline: schemes, memory, interruption, determinism, and what it refuses before it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edgeq import models
from edgeq.converters import CHOICES, convert, pipeline
from edgeq.converters.recipe import choose
from edgeq.errors import EdgeqError, FormatError, UsageError
from edgeq.formats import SCHEMES, Parts, dequantize, encode, open_model, quantize, verify
from edgeq.rounding import rounding_of
from tests.converters.checkpoints import config, weights, write_directory, write_gguf
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = config(hidden_size=72, intermediate_size=172, vocab_size=53)
    return write_directory(tmp_path_factory.mktemp("source") / "tiny", words, weights(words))


@pytest.mark.parametrize("scheme", CHOICES)
def test_schemes(tmp_path: Path, source: Path, scheme: str) -> None:
    """Blocks get the scheme, embedding and head 8 bits or the float, vectors f32; data as `encode` gives."""
    convert(source, tmp_path / "out.edgeq", scheme=scheme)
    row = SCHEMES[scheme]
    high = ("e8" if row.row else "q8") if row.planes else scheme
    tensors = weights(config(hidden_size=72, intermediate_size=172, vocab_size=53))
    with open_model(tmp_path / "out.edgeq") as file:
        models.check(file)
        found = {name: tensor.scheme.name for name, tensor in file.tensors.items()}
        assert found["embed"] == found["output"] == high
        assert {
            found[f"blocks.{i}.{part}"] for i in (0, 1) for part in ("q", "k", "v", "o", "gate", "up", "down")
        } == {scheme}
        assert {found[name] for name in ("norm", "blocks.0.norm1", "rope.inverse_frequencies")} == {"f32"}
        for name, theirs in (
            ("embed", "model.embed_tokens"),
            ("blocks.1.down", "model.layers.1.mlp.down_proj"),
        ):
            rounding = rounding_of(SCHEMES[found[name]])
            expected = encode(tensors[f"{theirs}.weight"], found[name], rounding)
            np.testing.assert_array_equal(file.tensors[name].data, expected)


def test_schemes_of_embedding_and_head(tmp_path: Path, source: Path) -> None:
    convert(source, tmp_path / "out.edgeq", scheme="q4", embed_scheme="f16", output_scheme="q4")
    with open_model(tmp_path / "out.edgeq") as file:
        schemes = [file.tensors[name].scheme.name for name in ("embed", "output", "blocks.0.q")]
        assert schemes == ["f16", "q4", "q4"]
        assert file.header["source"]["recipe"] == "q4 embed=f16 output=q4"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_keep_leaves_what_a_checkpoint_has(tmp_path: Path, dtype: str) -> None:
    words = config()
    tensors = weights(words)
    path = write_directory(tmp_path / "in", words, tensors, dtype=dtype)
    convert(path, tmp_path / "out.edgeq", scheme="keep")
    convert(path, tmp_path / "exact.edgeq", scheme="f32")
    scheme = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[dtype]
    with open_model(tmp_path / "out.edgeq") as file, open_model(tmp_path / "exact.edgeq") as exact:
        models.check(file)
        for name, tensor in file.tensors.items():
            assert tensor.scheme.name == ("f32" if tensor.layout == "plain" else scheme)
            np.testing.assert_array_equal(tensor.array(), exact.tensors[name].array())
        assert file.header["source"]["recipe"] == "keep"


def test_keep_is_for_each_tensor(tmp_path: Path) -> None:
    """A GGUF of several types; a role can still have a scheme of its own."""
    words = config()
    tensors = weights(words)
    down, up = (tensors.pop(f"model.layers.0.mlp.{part}_proj.weight") for part in ("down", "up"))
    mixed = {
        "blk.0.ffn_down.weight": ("Q8_0", gguf.quants.quantize(down, gguf.GGMLQuantizationType.Q8_0)),
        "blk.0.ffn_up.weight": ("F16", up.astype(np.float16)),
    }
    path = write_gguf(tmp_path / "in.gguf", words, tensors, kind="Q4_0", blocks=mixed)
    convert(path, tmp_path / "out.edgeq", scheme="keep", output_scheme="q8")
    with open_model(tmp_path / "out.edgeq") as file:
        names = ("embed", "output", "norm", "blocks.0.down", "blocks.0.up", "blocks.0.gate")
        schemes = [file.tensors[name].scheme.name for name in names]
        assert schemes == ["q4", "q8", "f32", "q8", "f16", "q4"]


@pytest.mark.parametrize(
    "words",
    [
        {"scheme": "q3"},
        {"scheme": ""},
        {"scheme": "k4"},
        {"scheme": "bytes"},
        {"embed_scheme": ""},
        {"output_scheme": "Q4"},
    ],
)
def test_unknown_scheme(tmp_path: Path, source: Path, words: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"'.*' is unknown; one of {', '.join(CHOICES)} or keep is"):
        convert(source, tmp_path / "out.edgeq", **words)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_same_input_same_bytes(tmp_path: Path, source: Path) -> None:
    for scheme in CHOICES:
        convert(source, tmp_path / "one.edgeq", scheme=scheme, overwrite=True)
        convert(source, tmp_path / "two.edgeq", scheme=scheme, overwrite=True)
        assert (tmp_path / "one.edgeq").read_bytes() == (tmp_path / "two.edgeq").read_bytes()


def test_progress_counts_every_byte(tmp_path: Path, source: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    convert(source, tmp_path / "out.edgeq", progress=lambda *step: seen.append(step))
    with open_model(tmp_path / "out.edgeq") as file:
        total = sum(tensor.nbytes for tensor in file.tensors.values())
        assert list(dict.fromkeys(name for _, _, name in seen)) == list(file.tensors)
    assert seen[-1][:2] == (total, total) and {step[1] for step in seen} == {total}
    assert all(a[0] < b[0] for a, b in zip(seen, seen[1:], strict=False))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("existing", [False, True])
def test_interruption_leaves_nothing(
    tmp_path: Path, source: Path, error: type[BaseException], fraction: float, existing: bool
) -> None:
    target = tmp_path / "out.edgeq"
    if existing:
        target.write_bytes(b"what was there")

    def progress(done: int, total: int, name: str) -> None:
        if done >= fraction * total:
            raise error

    with pytest.raises(error):
        convert(source, target, progress=progress, overwrite=existing)
    assert os.listdir(tmp_path) == (["out.edgeq"] if existing else [])
    assert not existing or target.read_bytes() == b"what was there"


def test_an_existing_file_is_replaced_where_that_is_asked_for(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.edgeq"
    target.write_bytes(b"what was there")
    with pytest.raises(UsageError, match=r"out.edgeq' exists; another name .* or overwrite=True, is needed"):
        convert(source, target)
    assert target.read_bytes() == b"what was there"
    convert(source, target, overwrite=True)
    assert verify(target) == [] and os.listdir(tmp_path) == ["out.edgeq"]


def test_outputs_that_cannot_be(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="a file name in an existing directory is needed"):
        convert(source, tmp_path)
    with pytest.raises(UsageError, match="a file name in an existing directory is needed"):
        convert(source, tmp_path / "no" / "out.edgeq")
    words = config()
    path = write_gguf(tmp_path / "in.gguf", words, weights(words))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is the source itself"):
        convert(path, path)
    assert path.read_bytes() == before


def test_sources_that_cannot_be(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.edgeq"
    with pytest.raises(UsageError, match=r"the directory that holds it is needed"):
        convert(source / "model.safetensors", target)
    with pytest.raises(EdgeqError, match="is neither a file, nor a directory, nor a hub name"):
        convert(tmp_path / "missing.gguf", target)
    (tmp_path / "text.gguf").write_text("hello, world")
    with pytest.raises(FormatError, match="not a GGUF file"):
        convert(tmp_path / "text.gguf", target)
    assert os.listdir(tmp_path) == ["text.gguf"]


WIDE: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "vocab_size": 6000,
    "num_hidden_layers": 1,
    "head_dim": 256,
}


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("F32", "q4"), ("F16", "q8"), ("F16", "f32"), ("Q8_0", "q8"), ("Q8_0", "q4"), ("Q4_0", "q4")],
)
def test_memory_is_a_few_row_blocks(tmp_path: Path, kind: str, scheme: str) -> None:
    """24 MB of embedding in float32 go through with less than 8 MB on top, scales included."""
    words = config("llama", **WIDE)
    path = write_gguf(tmp_path / "in.gguf", words, weights(words), kind=kind)
    convert(path, tmp_path / "out.edgeq", scheme=scheme)  # imports and caches are not what is measured
    tracemalloc.start()
    try:
        convert(path, tmp_path / "out.edgeq", scheme=scheme, overwrite=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 100_000 < peak < 8 << 20


class Named:
    """Enough of an open model file for `models.check`."""

    def __init__(self, file: Any, drop: str = "", add: dict[str, Any] | None = None, **header: Any) -> None:
        self.family, self.config = file.family, file.config
        self.header = file.header | header
        self.tensors = {name: tensor for name, tensor in file.tensors.items() if name != drop} | (add or {})


def test_check(tmp_path: Path, source: Path) -> None:
    """`models.check` takes what the converter writes and names the first thing that is wrong."""
    convert(source, tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        up, norm, embed = (file.tensors[name] for name in ("blocks.1.up", "norm", "embed"))
        assert models.check(file).intermediate_size == 172
        wrong = {
            r"tensor 'blocks.1.up' is missing; shape \[172, 72\]": Named(file, drop="blocks.1.up"),
            r"'blocks.1.up' has shape \[53, 72\], but \[172, 72\] is needed": Named(
                file, add={"blocks.1.up": embed}
            ),
            "'blocks.2.up' is not one of family llama's": Named(file, add={"blocks.2.up": up}),
            "'blocks.0.q_bias' is not one of": Named(file, add={"blocks.0.q_bias": norm}),
            "tokenizer names tensor 'words', which is no tensor of bytes": Named(
                file, tokenizer={"tensor": "words"}
            ),
            "tokenizer names tensor None": Named(file, tokenizer={}),
            "tokenizer names tensor 'norm', which is no tensor of bytes": Named(
                file, tokenizer={"tensor": "norm"}
            ),
        }
        for sentence, named in wrong.items():
            with pytest.raises(FormatError, match=sentence):
                models.check(named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "scheme", "layout", "sentence"),
    [("norm", "f16", "plain", "'norm' is f16 plain, but f32 plain is needed"),
     ("blocks.0.q", "f32", "plain", "'blocks.0.q' is f32 plain, but a matrix in lines16 is needed")],
)  # fmt: skip
def test_check_of_schemes_and_layouts(
    tmp_path: Path, source: Path, name: str, scheme: str, layout: str, sentence: str
) -> None:
    convert(source, tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        tensor = file.tensors[name]
        tensor.scheme, tensor.layout = SCHEMES[scheme], layout
        with pytest.raises(FormatError, match=sentence):
            models.check(file)


def test_tokenizer_is_in_the_file(tmp_path: Path, demo_checkpoint: Path) -> None:
    convert(demo_checkpoint, tmp_path / "out.edgeq")
    with open_model(tmp_path / "out.edgeq") as file:
        models.check(file)
        assert file.header["tokenizer"]["tensor"] == pipeline.TOKENIZER
        tensor = file.tensors[pipeline.TOKENIZER]
        assert tensor.scheme.name == "bytes" and tensor.nbytes > 1000


# ---- what was made elsewhere ----
def test_ready_matrices_words_and_facts(tmp_path: Path, source: Path) -> None:
    """Parts that are ready go into the file as they are, the others are rounded; facts stand with each."""
    opened, recipe, path = pipeline.open_source(source), choose(scheme="e4"), tmp_path / "a.edgeq"
    parts = quantize(np.eye(172, 72, dtype=np.float32), "e4", rounding_of(SCHEMES["e4"]))
    asked = []

    def ready(name: str) -> Parts | None:
        asked.append(name)
        return parts if name == "blocks.0.up" else None

    extra = {"blocks.0.up": {"method": "mine", "shape": "no fact may take a place that is taken"}}
    pipeline.write(opened, path, recipe, None, ready=ready, words={"made": {"by": "hand"}}, extra=extra)
    convert(source, tmp_path / "b.edgeq", scheme="e4")
    assert verify(path) == []
    with open_model(path) as file, open_model(tmp_path / "b.edgeq") as plain:
        assert asked == list(file.tensors) == list(plain.tensors)
        assert file.header["made"] == {"by": "hand"} and "made" not in plain.header
        entries = {entry["name"]: entry for entry in file.header["tensors"]}
        assert {name for name, entry in entries.items() if "method" in entry} == {"blocks.0.up"}
        assert entries["blocks.0.up"]["method"] == "mine" and entries["blocks.0.up"]["shape"] == [172, 72]
        values = dequantize(parts, "e4")[:, :72]
        np.testing.assert_array_equal(file.tensors["blocks.0.up"].array(), values)
        for name in {*file.tensors} - {"blocks.0.up"}:
            np.testing.assert_array_equal(file.tensors[name].data, plain.tensors[name].data)


@pytest.mark.parametrize("rows", [16, 188])
def test_ready_parts_of_another_shape_leave_nothing(tmp_path: Path, source: Path, rows: int) -> None:
    parts = quantize(np.eye(rows, 72, dtype=np.float32), "e4", rounding_of(SCHEMES["e4"]))
    with pytest.raises((EdgeqError, ValueError)):
        pipeline.write(
            pipeline.open_source(source),
            tmp_path / "a.edgeq",
            choose(scheme="e4"),
            None,
            ready=lambda name: parts if name == "blocks.0.up" else None,
        )
    assert os.listdir(tmp_path) == []


HALTING = """
import os, sys
from edgeq.converters import convert
def progress(done, total, name):
    print(done, total, flush=True)
    os.read(0, 1)
convert(sys.argv[1], sys.argv[2], progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to another process")
def test_ctrl_c(tmp_path: Path, source: Path) -> None:
    """A real SIGINT in the middle: the process ends and the directory is as empty as before."""
    command = [sys.executable, "-c", HALTING, str(source), str(tmp_path / "out.edgeq")]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        done, total = map(int, process.stdout.readline().split())
        assert done < total and [name.endswith(".partial") for name in os.listdir(tmp_path)] == [True]
        process.send_signal(signal.SIGINT)
        process.wait(STUCK_S)
        errors = process.stderr.read()
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert os.listdir(tmp_path) == []
