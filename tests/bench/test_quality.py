"""bench.quality, without llama.cpp: stand-ins take the place of its commands and of its library."""

from __future__ import annotations

import ctypes
import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import floats, kept, llamacpp, quality, quantized, weights
from bench.quantize import ROOT
from bench.timed import timed
from edgeq.evaluate.windows import Windows, scored

DEMO = ROOT / "edgeq" / "demo" / "stories260K"
STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "

QUANTIZE = """#!{python}
import shutil, sys
*options, source, target, name, threads = sys.argv[1:]
if name == "Q2_K":
    open(target, "wb").write(b"half")
    sys.exit("disk full")
shutil.copy(source, target)
"""


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with a llama-quantize that copies, and fails for Q2_K."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "llama-quantize").write_text(QUANTIZE.format(python=sys.executable))
    (folder / "llama-quantize").chmod(0o755)
    return folder


def test_a_command_is_timed(tmp_path: Path) -> None:
    """By its own peak: the memory of the process that asks does not count."""
    mine = np.ones(60 << 20, np.uint8)
    bare = timed([sys.executable, "-S", "-c", "pass"])
    some, held = (
        timed([sys.executable, "-S", "-c", f"x = bytearray(b'1') * {size}"])
        for size in (20_000_000, 60_000_000)
    )
    assert mine.any() and bare["peak_rss_mb"] < 40
    assert 38 < held["peak_rss_mb"] - some["peak_rss_mb"] < 42
    assert held["seconds"] > 0 and set(held) == {"seconds", "cpu_s", "peak_rss_mb"}
    with pytest.raises(RuntimeError, match=r"^python.*: no room$"):
        timed([sys.executable, "-S", "-c", "import sys; print('some'); sys.exit('no room')"])


def test_what_is_kept_is_whole_and_of_its_key(tmp_path: Path) -> None:
    def never(part: Path) -> None:
        raise AssertionError("it is there")

    def broken(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    path = tmp_path / "a" / "file.txt"
    one = kept.keep(path, "1", lambda part: {"n": part.write_text("one")})
    assert kept.keep(path, "1", never) == one == kept.Kept(path, "1", {"n": 3})
    with pytest.raises(OSError, match="disk full"):
        kept.keep(path, "2", broken)
    assert kept.keep(path, "1", never).note == {"n": 3}
    kept.keep(path, "2", lambda part: {"n": part.write_text("two")})
    assert path.read_text() == "two" and len(list(path.parent.iterdir())) == 2


def test_a_command_is_run_again_where_something_of_it_changed(tmp_path: Path) -> None:
    program = [sys.executable, "-S", "-c", "import sys; open(sys.argv[2], 'w').write(sys.argv[1] + ' done')"]
    source = kept.keep(tmp_path / "source", "s", lambda part: {"n": part.write_text("")})

    def run(template: str = "{n} {out}", by: str = "1", source: kept.Kept = source) -> str:
        return kept.run(tmp_path / "out", program, template, {"n": 5, "source": source}, by).key

    first = run()
    assert (tmp_path / "out").read_text() == "5 done"
    assert run() == first
    other = kept.Kept(source.path, "t", {})
    keys = {first, run(by="2"), run("{n}6 {out}"), run("{n} {out} {source}")}
    assert len(keys | {run("{n} {out} {source}", source=other)}) == 5
    with pytest.raises(KeyError, match="bytes:Q4_0"):
        kept.run(tmp_path / "out", program, "{bytes:Q4_0} {out}", {}, "1")


def test_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdef")
    (tmp_path / "a.json").write_text(json.dumps([" one ", "two", "three"]))
    assert floats.text_of(str(tmp_path / "a.txt")) == "abcdef"
    assert floats.text_of(f"{tmp_path}/a.txt:1:3") == "bc"
    assert floats.text_of(f"{tmp_path}/a.json::2") == "one\ntwo"
    for spec in ("a.txt:6:", "a.txt:x:y"):
        with pytest.raises(ValueError):
            floats.text_of(f"{tmp_path}/{spec}")
    quality.apart("a" * 400, "b" * 400)
    with pytest.raises(ValueError, match="part of the calibration text"):
        quality.apart("once" + STORY * 5, STORY * 3)
    assert quality.spread(277, 4) == [0, 69, 138, 207]
    assert quality.spread(3, None) == quality.spread(3, 9) == [0, 1, 2]


def test_floats_of_a_checkpoint_and_of_a_gguf_file(tmp_path: Path) -> None:
    import gguf
    import gguf.quants

    floats.write(DEMO, tmp_path / "demo.gguf")
    assert {t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "demo.gguf").tensors} == {"F32"}
    assert floats.spellable("a\nœ", tmp_path / "demo.gguf") == "a\nœ"  # it has bytes

    weights.write(tmp_path / "q4.gguf", weights.SHAPES["micro"], "q4_0")
    floats.write(tmp_path / "q4.gguf", tmp_path / "f32.gguf")
    source, target = gguf.GGUFReader(tmp_path / "q4.gguf"), gguf.GGUFReader(tmp_path / "f32.gguf")
    for one, other in zip(source.tensors, target.tensors, strict=True):
        values = gguf.quants.dequantize(one.data, one.tensor_type)
        assert one.name == other.name and np.array_equal(other.data.reshape(values.shape), values)
    names = {name for name in source.fields if not name.startswith("GGUF.")} - set(floats.LEFT)
    for name in names:
        assert target.fields[name].contents() == source.fields[name].contents()


def test_letters_that_no_piece_spells(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", "▁".encode(), b"a", b"ab"])
    writer.add_token_types([2, 1, 1, 1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert floats.spellable("a b\nœa", tmp_path / "v.gguf") == "a    a"


VOCAB = 7


class Batch:
    """llama_batch."""

    def __init__(self, size: int) -> None:
        self.n_tokens = 0
        self.token, self.pos, self.n_seq_id, self.logits = ([0] * size for _ in range(4))
        self.seq_id = [[0] for _ in range(size)]


class Library(types.ModuleType):
    """llama_cpp, of a model whose logits tell the token, its place, and the sum of what was before."""

    def __init__(self) -> None:
        super().__init__("llama_cpp")
        self.cells: dict[int, int] = {}
        self.freed: list[object] = []
        self.llama_log_callback = lambda function: function
        self.llama_log_set = lambda *_: None
        self.llama_backend_init = lambda: None
        self.llama_model_default_params = self.llama_context_default_params = types.SimpleNamespace
        self.llama_model_load_from_file = lambda path, params: None if b"missing" in path else "model"
        self.llama_init_from_model = self.initialized
        self.GGML_TYPE_F32, self.GGML_TYPE_Q4_0, self.GGML_TYPE_Q8_0 = 0, 2, 8
        self.LLAMA_FLASH_ATTN_TYPE_DISABLED = 0
        self.llama_model_get_vocab = lambda model: "vocab"
        self.llama_vocab_n_tokens = lambda vocab: VOCAB
        self.llama_get_memory = lambda context: "memory"
        self.llama_batch_init = lambda size, embd, sequences: Batch(size)
        self.llama_batch_free = self.llama_free = self.llama_model_free = self.freed.append
        self.llama_get_logits = lambda context: self.out.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def initialized(self, model: str, params: types.SimpleNamespace) -> str:
        self.params = params
        return "context"

    def llama_memory_seq_rm(self, memory: str, sequence: int, first: int, end: int) -> None:
        self.cells = {at: token for at, token in self.cells.items() if at < first}

    def llama_decode(self, context: str, batch: Batch) -> int:
        rows = []
        for token, at, wanted in zip(batch.token, batch.pos, batch.logits, strict=True):
            if at in self.cells or token >= VOCAB:
                return 1
            self.cells[at] = token
            if wanted:
                rows.append([token, at, *(sum(self.cells.values()) - i for i in range(VOCAB - 2))])
        self.out = np.array(rows, np.float32)
        return 0


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setitem(sys.modules, "llama_cpp", made)
    return made


def test_llamacpp_is_asked_as_edgeq_is(library: Library, tmp_path: Path) -> None:
    """Windows come to it token by token at their places, and the scored places' logits come back."""
    ids = np.arange(32).reshape(2, 16) % 6
    windows = Windows(ids, 32, "")
    with llamacpp.LlamaCpp(tmp_path / "a.gguf", 16, 1) as model:
        assert (model.vocab_size, model.context, model.tokenizer) == (VOCAB, 16, None)
        found = list(scored(model, windows))
    assert sum(len(logits) for _, logits, _ in found) == windows.tokens
    for number, logits, targets in found:
        window: Sequence[int] = ids[number].tolist()
        assert logits[:, 0].tolist() == window[8:15] and logits[:, 1].tolist() == list(range(8, 15))
        assert logits[:, 2].tolist() == [sum(window[: at + 1]) for at in range(8, 15)]
        assert targets.tolist() == window[9:]
    assert library.freed[-2:] == ["context", "model"]
    with llamacpp.LlamaCpp(tmp_path / "a.gguf", 16, 1) as model:
        sequence = model.sequence()
        assert sequence.feed([1, 2]).tolist()[:3] == [2, 1, 3]
        assert sequence.step([3]).likeliest.tolist() == [2] and sequence.ids == [1, 2, 3]
        with pytest.raises(RuntimeError, match="llama_decode fails on 1 tokens after 3"):
            sequence.feed([VOCAB])
    with pytest.raises(RuntimeError, match=r"llama\.cpp does not load missing\.gguf"):
        llamacpp.LlamaCpp(tmp_path / "missing.gguf", 16, 1)


def test_llamacpp_has_the_cache_that_is_asked_for(library: Library, tmp_path: Path) -> None:
    """Its own where none is; float32 without flash attention, which would make float16 of it."""
    said = []
    for kv in (None, ("q8_0", "q4_0"), ("f32", "f32")):
        with llamacpp.LlamaCpp(tmp_path / "a.gguf", 16, 1, kv):
            asked = vars(library.params)
        said.append([asked.get(name) for name in ("type_k", "type_v", "flash_attn_type")])
    assert said == [[None, None, None], [8, 2, None], [0, 0, 0]]


def row(name: str, runtime: str, **figures: Any) -> dict[str, Any]:
    return {
        "name": name, "runtime": runtime, "bytes": 4_750_000, "body_bits": 4.8, "head": "Q6_K",
        "types": {"Q4_K": 16, "Q6_K": 2}, "edgeq_bytes": 4_800_000, "kld": 0.00274, "kld_se": 0.00005,
        "kld_p99": 0.0147, "same": 0.9567, "same_se": 0.002, "ppl_ratio": 1.003, "ppl_ratio_se": 0.0004,
        "seconds": 60.5, "cpu_s": 56.0, "peak_rss_mb": 70.2, "decode_tps": None,
    } | figures  # fmt: skip


def test_the_table() -> None:
    rows = [row("e4", "edgeq", types={"e4": 56}), row("Q4_K_M+im", "llama.cpp", kld=0.0123)]
    head, first, second = quality.table(rows).splitlines()
    assert "t/s" not in head
    assert first.split()[:8] == ["e4", "edgeq", "4.80", "4.750", "2.740", "0.050", "14.70", "95.67%"]
    assert first.endswith("Q6_K  e4") and second.endswith("16 Q4_K, 2 Q6_K")
    assert second.split()[:2] == ["Q4_K_M+im", "llama.cpp"] and second.split()[4] == "12.300"
    rows[0]["decode_tps"] = 12.34
    head, first, second = quality.table(rows).splitlines()
    assert head.split()[-3:] == ["t/s", "head", "blocks"]
    assert first.split()[-3] == "12.3" and second.split()[-6:-4] == ["–", "Q6_K"]


@pytest.mark.slow
def test_a_model_beside_its_own_copies(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it but llama.cpp. What is the same is said to be, what fails is named, all else is reused."""
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    (tmp_path / "calibration.txt").write_text("The dog ran home. " * 40)
    (tmp_path / "text.txt").write_text(STORY * 60)
    texts = ["--calibration", f"{tmp_path}/calibration.txt", "--text", f"{tmp_path}/text.txt"]
    chosen = ["--types", "Q8_0,Q2_K", "--windows", "2", "--ours", "q8,good-as-IQ4_XS+im"]
    where = ["--llama-bin", str(commands), "--dir", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", ["quality", str(DEMO), *texts, *chosen, *where])
    quality.main()
    out = capsys.readouterr().out.splitlines()
    (found,) = json.loads(out[-1])["models"]
    assert [(r["name"], r["runtime"]) for r in found["rows"]] == [("q8", "edgeq"), ("float32", "edgeq")]
    q8, exact = found["rows"]
    assert 0 <= exact["kld"] < q8["kld"] < 0.02 and q8["same"] > 0.9
    assert q8["seconds"] > 0 and q8["peak_rss_mb"] > 20 and q8["types"] == {"q8": 35}
    assert [exact[key] for key in ("seconds", "cpu_s", "peak_rss_mb")] == [None] * 3
    assert found["same"] == {"Q8_0": "float32"}
    assert found["left_out"] == {
        "Q8_0+im": "the command llama-imatrix is not installed: see --llama-bin",
        "Q2_K": "llama-quantize: disk full",
        "Q2_K+im": "the command llama-imatrix is not installed: see --llama-bin",
        "good-as-IQ4_XS+im": "it needs the row IQ4_XS+im",
        "float32, llama.cpp": "import of llama_cpp halted; None in sys.modules",
    }
    assert (found["windows"], found["tokens"], found["context"]) == (2, 510, 512)
    assert len(found["text_sha256"]) == 64 and found["text_sha256"] in out[1]
    assert "Q8_0: the same weights as float32, one result" in out

    monkeypatch.setattr(kept, "timed", None)
    monkeypatch.setattr(quality, "divergences", None)
    again = [word.replace(",Q2_K", "") for word in sys.argv]
    monkeypatch.setattr(sys, "argv", again)
    quality.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["models"][0]["rows"] == found["rows"]


def test_every_row_of_ours_is_a_command_line() -> None:
    places = {"source": "S", "out": "O", "calibration": "C"}
    sizes = {f"bytes:{kind}{quantized.MATRIX}": 1000 for kind in quantized.TYPES}
    for template in quantized.OURS.values():
        words = kept.spelled(template, {**places, **sizes})
        assert words[:4] == [words[0], "S", "-o", "O"] and words[0] in ("convert", "quantize")
