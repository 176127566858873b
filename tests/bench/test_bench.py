"""The benches themselves: files as announced, workers that answer, figures that follow from rates."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from bench import (
    attention,
    bars,
    cache,
    compile,
    files,
    machine,
    models,
    peers,
    quantize,
    scale,
    schemes,
    stress,
    weights,
)
from edgeq import demo
from edgeq.errors import UnsupportedError
from edgeq.simd import host
from edgeq.simd.tag import Tag
from tests.patience import STUCK_S

MICRO = weights.SHAPES["micro"]


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_weights_are_as_announced(kind: str, tmp_path: Path) -> None:
    import gguf

    weights.write(tmp_path / "a.gguf", MICRO, kind)
    weights.write(tmp_path / "b.gguf", MICRO, kind)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "b.gguf"]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    for name, rows, columns in MICRO.matrices():
        assert tensors[name].tensor_type.name == kind.upper()
        assert tensors[name].shape.tolist() == [columns, rows]
    blocks = [tensor for name, tensor in tensors.items() if name.startswith("blk.") and "norm" not in name]
    assert MICRO.body_macs() == sum(int(tensor.n_elements) for tensor in blocks)


def test_the_matrices_of_tinyllama() -> None:
    shape = weights.SHAPES["tinyllama-1.1b"]
    assert shape.body_macs() + 2 * shape.output_macs() == 1_099_956_224  # its 1.1 billion, norms left out


def test_half_written_weights_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        yield from ()
        raise OSError("disk full")

    monkeypatch.setattr(weights, "_tensors", broken)
    with pytest.raises(OSError, match="disk full"):
        weights.write(tmp_path / "a.gguf", MICRO, "q8_0")
    assert not list(tmp_path.iterdir())


def loops_of_this_architecture() -> list[machine.Loop]:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    loops = (*machine.LOOPS, machine.AVX2_NARROW, machine.AVX2_SIGNED)
    return [loop for loop in loops if ("xmm" in loop.registers) == x86]


@pytest.mark.parametrize("loop", loops_of_this_architecture(), ids=lambda loop: loop.name)
def test_every_loop_assembles(loop: machine.Loop) -> None:
    """Also for CPUs that this machine is not: the object holds the dot product once per accumulator."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    features = ",".join("+" + feature for feature in loop.features)
    target = llvm.Target.from_default_triple().create_target_machine(features=features)
    code = target.emit_object(llvm.parse_assembly(machine.loop_ir(loop)))
    assert len(code) > 4 * len(loop.accumulators) * len(loop.chain)


def test_the_loop_counts() -> None:
    """Four times the iterations take longer: nothing was optimized away."""
    import time

    run, _alive = machine.compile_loop(machine.dot_loop())

    def seconds(iterations: int) -> float:
        start = time.thread_time()
        run(iterations)
        return time.thread_time() - start

    pairs = [(seconds(400_000), seconds(100_000)) for _ in range(20)]
    many, few = zip(*pairs, strict=True)
    assert min(many) > 2 * min(few)


def test_workers_and_figures(tmp_path: Path) -> None:
    """edgeq's and the machine's workers answer, and a row holds what the report promises."""
    made = files.prepare(tmp_path, "micro", "q4_0")
    with peers.Worker("edgeq", {"model": str(made.edgeq), "threads": 1, "context": 64}) as worker:
        assert worker.ask(do="prefill", tokens=16)["seconds"] > 0
        assert worker.ask(do="decode", prompt=20, tokens=4)["seconds"] > 0
        memory = worker.ask(do="memory")
        ready = worker.ready
    assert memory["peak_rss_mb"] > 20 and memory["about"].startswith("edgeq ")
    assert 0 < ready["load_s"] <= ready["first_token_s"]

    arguments = argparse.Namespace(shape="micro", prompt=16)
    names = ["edgeq", "llamacpp flash on", "llamacpp flash off"]
    rates = {"read": [4.0, 2.0, 3.0], "dot": [50.0]}
    rates |= {"edgeq prefill": [100.0, 300.0, 200.0], "edgeq decode": [10.0]}
    rates |= {"llamacpp flash on prefill": [90.0], "llamacpp flash off prefill": [80.0]}
    rates |= {"llamacpp flash on decode": [5.0], "llamacpp flash off decode": [6.0]}
    row = peers.row(arguments, made, 1, rates, dict.fromkeys(names, ready), dict.fromkeys(names, memory))
    assert row["edgeq_prefill_tps"] == 200.0
    assert (row["llamacpp_prefill_tps"], row["llamacpp_decode_tps"]) == (90.0, 6.0)
    assert (row["llamacpp_prefill_setting"], row["llamacpp_decode_setting"]) == ("flash on", "flash off")
    assert row["read_gbps"] == 3.0
    macs = MICRO.body_macs() + MICRO.output_macs() / 16
    assert row["prefill_gmacs"] == round(200 * macs / 1e9, 3)
    assert row["decode_gbps"] == round(10 * files.decode_bytes(made.edgeq) / 1e9, 3)
    assert (row["gguf_bits_per_weight"], row["edgeq_bits_per_weight"]) == (4.5, 4.5)
    assert row["gguf_file_mb"] == round(made.gguf.stat().st_size / 1e6, 3)
    json.dumps(row)
    assert len(peers.table([{"format": "q4_0", **row}]).splitlines()) == 2


def test_schemes_of_a_whole_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for each scheme, converted once; its rates beside those that others are held against."""
    source = files.weights(tmp_path, "micro", "f16")
    made = {name: files.converted(source, tmp_path / f"{name}.edgeq", name) for name in ("q4", "e4", "e3")}
    monkeypatch.setattr(files, "convert", None)  # not again
    assert files.converted(source, made["e3"], "e3") == made["e3"]
    rates = {"read": [900.0], "q4 prefill": [80.0, 100.0, 90.0], "q4 decode": [9e6]}
    rates |= {"e4 prefill": [72.0], "e4 decode": [1e7], "e3 prefill": [45.0], "e3 decode": [1.2e7]}
    rows = {row["scheme"]: row for row in models.figures(made, rates)}
    assert [row["prefill_of_q4"] for row in rows.values()] == [1.0, 0.8, 0.5]
    assert [row["decode_of_e4"] for row in rows.values()] == [0.9, 1.0, 1.2]
    gbps = 1.2e7 * files.decode_bytes(made["e3"]) / 1e9
    assert (rows["e3"]["decode_gbps"], rows["e3"]["of_read"]) == (round(gbps, 3), round(gbps / 900, 3))
    assert rows["e4"]["bits"] > rows["e3"]["bits"]
    os.utime(source, (time.time() + 9, time.time() + 9))
    with pytest.raises(TypeError):  # the source is newer
        files.converted(source, made["e3"], "e3")


def test_decode_bytes_leave_the_embedding_out(tmp_path: Path) -> None:
    from edgeq.formats import open_model

    path = files.prepare(tmp_path, "micro", "q8_0").edgeq
    with open_model(path) as file:
        blobs = sum(tensor.nbytes for tensor in file.tensors.values() if tensor.scheme.name == "bytes")
        total = sum(tensor.nbytes for tensor in file.tensors.values())
        assert files.decode_bytes(path) == total - blobs - file.tensors["embed"].nbytes


def test_a_tied_head_is_read_as_the_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.formats import open_model

    monkeypatch.setitem(weights.SHAPES, "tied", dataclasses.replace(MICRO, tied=True))
    path = files.prepare(tmp_path, "tied", "q8_0").edgeq
    with open_model(path) as file:
        blobs = sum(tensor.nbytes for tensor in file.tensors.values() if tensor.scheme.name == "bytes")
        assert "output" not in file.tensors
        assert files.decode_bytes(path) == sum(tensor.nbytes for tensor in file.tensors.values()) - blobs


FAKE = """#!{python}
import shutil, sys
*options, source, target, name, threads = sys.argv[1:]
if name == "Q6_K":
    open(target, "wb").write(b"half")
    sys.exit("disk full")
shutil.copy(source, target)
open(target + ".txt", "w").write(" ".join([*options, name]))
"""


@pytest.fixture
def llama_quantize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the command, which copies; where it notes its options. No llama_cpp can be imported."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "llama_cpp.py").write_text("raise ImportError")
    (folder / "llama-quantize").write_text(FAKE.format(python=sys.executable))
    (folder / "llama-quantize").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def test_llama_quantize_is_asked_for_the_type(llama_quantize: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "a.gguf", tmp_path / "b.gguf"
    source.write_bytes(b"weights")
    asked = {}
    for kind in ("q4_k_m", "mxfp4"):
        quantize.quantize(source, target, kind)
        (note,) = tmp_path.glob("*.txt")
        asked[kind] = note.read_text()
        note.unlink()
    assert target.read_bytes() == b"weights"
    assert asked == {
        "q4_k_m": "Q4_K_M",
        "mxfp4": "--pure --output-tensor-type q8_0 --token-embedding-type q8_0 MXFP4_MOE",
    }


def test_half_quantized_weights_are_removed(llama_quantize: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(b"weights")
    with pytest.raises(RuntimeError, match=r"^a\.gguf was not quantized to q6_k: disk full$"):
        quantize.quantize(source, tmp_path / "b.gguf", "q6_k")
    (llama_quantize / "llama-quantize").unlink()
    with pytest.raises(RuntimeError, match="neither llama-cpp-python nor the command llama-quantize"):
        quantize.quantize(source, tmp_path / "b.gguf", "q6_k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "bin"]


def test_every_file_type_is_what_llamacpp_calls_it() -> None:
    import gguf

    for kind in quantize.FILE_TYPES.values():
        assert gguf.LlamaFileType(kind.number).name == f"MOSTLY_{kind.name}"
    assert gguf.GGMLQuantizationType(quantize.Q8_0).name == "Q8_0"


def test_what_edgeq_cannot_keep_is_left_out_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = files.prepare

    def prepare(directory: Path, shape: str, kind: str, python: str) -> files.Files:
        if kind == "q6_k":
            raise UnsupportedError("no scheme holds Q9_K as it is")
        if kind == "q5_0":
            raise RuntimeError("neither is installed")
        return real(directory, shape, kind, python)

    monkeypatch.setattr(peers, "prepare", prepare)
    arguments = argparse.Namespace(
        dir=tmp_path, shape="micro", peer_python="python", formats=["q6_k", "q4_0", "q5_0"]
    )
    made, left_out = peers.files_of(arguments)
    assert list(made) == ["q4_0"]
    assert left_out == {"q6_k": "no scheme holds Q9_K as it is", "q5_0": "neither is installed"}
    assert "q6_k is left out: no scheme holds Q9_K as it is\n" in capsys.readouterr().err


def test_a_worker_that_cannot_start_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"the edgeq worker ended with code \d+"):
        peers.Worker("edgeq", {"model": str(tmp_path / "missing.edgeq"), "threads": 1, "context": 8})


def test_stages_of_attention() -> None:
    """Each is timed, and their parts of the whole are what they are compared by."""
    found = attention.measured(32, Tag(host.host_isa().name, "q8", 2), 1)
    row = found.row()
    assert set(found.ns) == {*attention.STAGES, "whole"} and min(found.ns.values()) > 0
    assert found.ns["whole"] > max(found.ns[name] for name in attention.PRODUCTS)
    assert row["gmacs_of_products"] == pytest.approx(2 * 32 / found.products, rel=0.01)
    assert row["probabilities_of_products"] == pytest.approx(
        found.ns["probabilities"] / found.products, abs=0.01
    )


def test_what_a_cache_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """q8 adds little, float16 next to nothing; without llama.cpp that is said."""
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    text = "Once upon a time there was a little girl. " * 8
    rows = {row.kind: row for row in cache.measured(demo.checkpoint(), text, ["q8", "f16"], 64, 1)}
    assert 0 <= rows["f16"].ours.kld_mean < rows["q8"].ours.kld_mean < 1e-3
    said = rows["q8"].to_json()
    assert (said["bar"], said["llamacpp"], said["llamacpp_kld"]) == (cache.BARS["q8"], "q8_0 q8_0", None)
    assert "not measured" in rows["q8"].line() and " over" not in rows["f16"].line()


def test_limits_follow_from_the_machine(tmp_path: Path) -> None:
    """One token is bound by reading, many by multiplying; a longer past costs both."""
    path = files.prepare(tmp_path, "micro", "q4_0").edgeq
    one, two = (1e9, 100e9), (2e9, 200e9)
    model = scale.Model(MICRO, path, "edgeq", path)
    cache = 2 * 2 * 2 * 256 * 32 * 1.07  # about what 256 positions take in 2 layers of 2 heads
    assert model.limit(one, 1, 0) == pytest.approx(1e9 / (files.decode_bytes(path) + cache), rel=0.1)
    assert model.limit(two, 1, 0) == pytest.approx(2 * model.limit(one, 1, 0))
    assert model.limit(one, 256, 0) == pytest.approx(100e9 / MICRO.body_macs(), rel=0.3)
    assert model.limit(one, 256, 200) < model.limit(one, 256, 0)
    assert model.limit(one, 1, 400) < model.limit(one, 1, 0)


def test_scale_prints_each_rate_with_its_limit() -> None:
    rows = [
        {"threads": 1, "decode_tps": 10.0, "decode_limit_tps": 20.0},
        {"threads": 2, "decode_tps": 15.0, "decode_limit_tps": 20.0},
    ]
    head, first, second = scale.spell(rows).splitlines()
    assert head.split() == ["threads", "|", "decode", "t/s", "of", "first", "limit", "of", "it"]
    assert first.split() == ["1", "10.0", "1.00", "20.0", "50%"]
    assert second.split() == ["2", "15.0", "1.50", "20.0", "75%"]


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
def test_short_runs(threads: int, tmp_path: Path) -> None:
    """What bench.stress does by the thousand."""
    path = files.prepare(tmp_path, "micro", "q4_0").edgeq
    assert stress.stress(path, threads, runs=25, limit=STUCK_S)["runs"] == 25


def test_stress_sees_other_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.prepare(tmp_path, "micro", "q4_0").edgeq
    real = stress.logits
    monkeypatch.setattr(
        stress, "logits", lambda model, threads, rng: real(model, threads, rng) + (threads > 1)
    )
    with pytest.raises(AssertionError, match="3 workers"):
        stress.stress(path, 3, runs=1, limit=STUCK_S)


def test_compiling_is_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each scheme, and what its kernels took, each in its fastest turn, in the last line."""
    seconds = {"matmul": 2.5, "embed": 0.75, "matmul_act": 0.5}
    monkeypatch.setattr(compile, "seconds", lambda kernel, tag: seconds.get(kernel, 0.0))
    turns = [compile.turn("generic", ["q4"])]
    seconds |= {"matmul": 3.0, "embed": 0.5}
    turns.append(compile.turn("generic", ["q4"]))
    monkeypatch.setattr(compile, "ProcessPoolExecutor", lambda *_, **__: Now(turns))
    monkeypatch.setattr("sys.argv", ["compile", "q4", "--turns", "2", "--json"])
    compile.main()
    lines = capsys.readouterr().out.splitlines()
    (row,) = json.loads(lines[-1])["rows"]
    assert row["kernels"] == {"matmul": 2.5, "embed": 0.5, "matmul_act": 0.5} and row["seconds"] == 3.5
    assert lines[1].split()[:3] == ["q4", "3.50", "over"]


class Now:
    """Processes that have done already what they are asked for."""

    def __init__(self, results: list[Any]):
        self.results = iter(results)

    def __enter__(self) -> Now:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def submit(self, *_: Any) -> Any:
        return types.SimpleNamespace(result=lambda: next(self.results))


def test_schemes_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A small matrix: a line for each scheme, and its rates in the last line."""
    for name, value in (("ROWS", 32), ("COLUMNS", 256), ("MANY", 1 << 16), ("TURN_S", 0.0)):
        monkeypatch.setattr(schemes, name, value)
    monkeypatch.setattr("sys.argv", ["schemes", "q4", "k6", "--tokens", "1,3", "--turns", "1", "--json"])
    schemes.main()
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert [line.split()[0] for line in lines[2:4]] == ["q4", "k6"] == [r["scheme"] for r in found["rows"]]
    assert all(set(row["gmacs"]) == {"1", "3"} and row["gbps"] > 0 for row in found["rows"])


def test_a_bar_that_is_missed_is_marked() -> None:
    """And a command's words and variables are those of the bar: one that is quick, measured for once."""
    (one,) = (bar for bar in bars.BARS if bar.words == ["--help"])
    row = bars.row(one, Path("nowhere.edgeq"), turns=1)
    assert row["limit_s"] == one.limit_s and row["cpu_s"] > 0 and row["first_s"] <= row["end_s"]
    met, missed = {**row, "limit_s": 1e6}, {**row, "limit_s": 0.0}
    assert ["over" in line for line in bars.table([met, missed]).splitlines()] == [False, False, True]
