"""convert, show, verify: on the real bundled checkpoint."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

import gguf
import pytest

from edgeq.cache import LayerShape, Plan, kind_of
from edgeq.converters import CHOICES
from edgeq.converters.recipe import shipped
from edgeq.formats import SCHEMES
from tests.cli.conftest import Call
from tests.converters.checkpoints import config, weights, write_directory, write_gguf


def test_convert_without_rounding(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.edgeq"
    assert call("convert", str(demo_checkpoint), "-o", str(target), "--scheme", "keep").code == 0
    assert {row["scheme"] for row in json.loads(call("show", str(target), "--json").out)["schemes"]} == {
        "f32",
        "bytes",
    }


@pytest.mark.parametrize("scheme", CHOICES)
def test_convert_show_verify(call: Call, demo_checkpoint: Path, tmp_path: Path, scheme: str) -> None:
    target = tmp_path / "out.edgeq"
    result = call("convert", str(demo_checkpoint), "-o", str(target), "--scheme", scheme, "--json")
    assert result.code == 0 and json.loads(result.out)["bytes"] == target.stat().st_size
    facts = json.loads(call("show", str(target), "--json", "--tensors").out)
    schemes = {tensor["name"]: tensor["scheme"] for tensor in facts["tensors"]}
    assert schemes["blocks.0.q"] == scheme
    row = SCHEMES[scheme]
    assert schemes["embed"] == (("e8" if row.row else "q8") if row.planes else scheme)
    assert all(tensor["bytes"] == sum(tensor["parts"].values()) for tensor in facts["tensors"])
    assert sum(tensor["bytes"] for tensor in facts["tensors"]) <= facts["bytes"] == target.stat().st_size
    assert facts["config"]["hidden_size"] == 64 and facts["family"] == "llama"
    assert call("verify", str(target)).out == f"{target}: sound\n"


def test_convert_by_a_recipe(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    """The file's name and rule where it is wrong; the recipe's name, and its schemes, where it is shown."""
    target, rules = tmp_path / "out.edgeq", tmp_path / "mine.toml"
    rules.write_text('[[rule]]\ntensors = ["blocks.*.q"]\nscheme = "q5"\n')
    words = ("convert", str(demo_checkpoint), "-o", str(target), "--recipe")
    wrong = call(*words, str(rules))
    assert wrong.code == 2 and not target.exists()
    assert wrong.err.startswith(
        "edgeq: error: recipe 'mine.toml': no rule is for tensor 'embed'; a last rule"
    )
    assert call(*words, "q6-mixed").code == 2 and call(*words, "iot", "--scheme", "q4").code == 2
    with rules.open("a") as file:
        file.write('[[rule]]\ntensors = ["*"]\nscheme = "q8"\n')
    told = call(*words, str(rules), "--json")
    assert told.code == 0 and json.loads(told.out)["recipe"] == "mine.toml"
    facts = json.loads(call("show", str(target), "--json").out)
    layers = facts["config"]["num_hidden_layers"]
    assert facts["source"]["recipe"] == "mine.toml"
    assert {row["scheme"]: row["tensors"] for row in facts["schemes"]} == {
        "q8": 1 + 6 * layers, "q5": layers, "f32": 2 + 2 * layers, "bytes": 1,
    }  # fmt: skip
    assert "\n  recipe: mine.toml\n" in call("show", str(target)).out
    assert call(*words, "q4-mixed", "--force").err.split(", ")[1] == "q4-mixed"


def test_convert_keeps_what_a_quantized_file_holds(call: Call, tmp_path: Path) -> None:
    """Unless a scheme is asked for, as `run` does; its line says so."""
    words = config("llama")
    write_gguf(tmp_path / "m.gguf", words, weights(words), kind="Q8_0")
    write_gguf(tmp_path / "f.gguf", words, weights(words), kind="F16")
    target = tmp_path / "out.edgeq"

    def converted(source: str, *options: str) -> tuple[str, str]:
        result = call("convert", str(tmp_path / source), "-o", str(target), "--force", *options)
        assert result.code == 0, result.err
        facts = json.loads(call("show", str(target), "--json", "--tensors").out)
        schemes = {tensor["name"]: tensor["scheme"] for tensor in facts["tensors"]}
        return schemes["blocks.0.q"], result.err

    scheme, line = converted("m.gguf")
    assert scheme == "q8"
    assert ", keep (the file's own numbers, as it is quantized; --scheme NAME rounds them), " in line
    for source, options, wanted in [
        ("m.gguf", ["--scheme", "q4"], "q4"),
        ("m.gguf", ["--recipe", "q4-mixed"], "q4"),
        ("m.gguf", ["--embed-scheme", "q8"], "q8"),
        ("f.gguf", [], "q4"),
    ]:
        scheme, line = converted(source, *options)
        assert scheme == wanted and ("own numbers" in line) == (options[:1] == ["--embed-scheme"])
    told = json.loads(call("convert", str(tmp_path / "m.gguf"), "-o", str(target), "--force", "--json").out)
    assert told["recipe"] == "keep"


def test_help_lists_the_recipes(call: Call) -> None:
    text = call("convert", "--help").out.split("\nRecipes:\n")[1]
    assert [line.split()[0] for line in text.splitlines() if line[2:3].strip()] == sorted(shipped())


def test_show_tells_what_the_context_costs(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.edgeq"
    assert call("convert", str(demo_checkpoint), "-o", str(target)).code == 0
    cost = json.loads(call("show", str(target), "--json").out)["cache"]
    assert cost["tokens_max"] == 512
    sizes = cost["bytes_per_token"]
    for kind in ("q8", "f16", "f32"):  # 5 layers of 4 heads of 8 dimensions, padded to 32
        plan = Plan.of(kind_of(kind), 512, [LayerShape(4, 8)] * 5)
        assert sizes[kind] * 256 == plan.page_bytes
    assert sizes["q2"] < sizes["q4"] < sizes["k8v4"] < sizes["q8"]
    text = call("show", str(target)).out
    assert "1.44 kB a token: " in text and "q2 " in text


def test_show_tells_of_a_file_that_does_not_sample(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "greedy"
    shutil.copytree(demo_checkpoint, source)
    (source / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.6}')
    for path, told in ((source, True), (demo_checkpoint, False)):
        assert call("convert", str(path), "-o", str(tmp_path / "out.edgeq"), "--force").code == 0
        out = call("show", str(tmp_path / "out.edgeq")).out
        assert ("the likeliest token (do_sample is false), unless --temp is given" in out) is told


def test_convert_does_not_overwrite(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.edgeq"
    target.write_text("precious")
    result = call("convert", str(demo_checkpoint), "-o", str(target))
    assert result.code == 2 and "--force" in result.err and target.read_text() == "precious"
    assert call("convert", str(demo_checkpoint), "-o", str(target), "--force").code == 0
    assert target.stat().st_size > 10_000


def test_convert_names_the_output_after_the_source(
    call: Call, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("convert", f"{demo_checkpoint}/").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["stories260K.edgeq"]


def test_the_name_of_a_version_is_no_suffix(
    call: Call, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Story-0.26M").symlink_to(demo_checkpoint)
    assert call("convert", "Story-0.26M").code == 0
    assert (tmp_path / "Story-0.26M.edgeq").is_file()


def test_an_interrupted_convert_leaves_nothing(
    call: Call, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def progress(done: int, total: int, name: str) -> None:
        calls.append(name)
        if len(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("edgeq.cli.convert.progress_bar", lambda *_: contextlib.nullcontext(progress))
    result = call("convert", str(demo_checkpoint), "-o", str(tmp_path / "m.edgeq"))
    assert result.code == 130 and len(calls) == 5
    assert list(tmp_path.iterdir()) == []


def test_a_failed_convert_leaves_nothing(call: Call, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_text("{}")
    (tmp_path / "out").mkdir()
    result = call("convert", str(tmp_path / "source"), "-o", str(tmp_path / "out" / "m.edgeq"))
    assert result.code == 3 and result.err.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_show_for_a_person(call: Call, story: Path) -> None:
    out = call("show", str(story)).out
    assert "family      llama" in out and "hidden_size: 64" in out and "bits/weight" in out
    assert "blocks.4.down" in call("show", str(story), "--tensors").out
    result = call("show", str(story), "--template")
    assert result.code == 2 and "no chat template" in result.err


def test_show_a_gguf(call: Call, data_dir: Path) -> None:
    path = data_dir / "vocab" / "ggml-vocab-qwen2.gguf"
    facts = json.loads(call("show", str(path), "--json").out)
    assert facts["kind"] == "gguf" and facts["family"] == "qwen2"
    assert call("show", str(path), "--template").out.startswith("{%")


def test_show_tells_what_a_gguf_takes_when_it_is_kept(call: Call, tmp_path: Path) -> None:
    """The bytes of its tensors in the .edgeq file, rows padded to 16; of several parts all count."""
    words = config(hidden_size=256, intermediate_size=256)
    tensors = weights(words)
    whole = write_gguf(tmp_path / "m.gguf", words, tensors, kind="Q5_1")
    assert call("convert", str(whole), "-o", str(tmp_path / "m.edgeq"), "--scheme", "keep").code == 0
    kept = json.loads(call("show", str(tmp_path / "m.edgeq"), "--json", "--tensors").out)["tensors"]
    facts = json.loads(call("show", str(whole), "--json").out)
    frequencies = sum(tensor["bytes"] for tensor in kept if tensor["name"] == "rope.inverse_frequencies")
    assert facts["bytes_kept"] + frequencies == sum(tensor["bytes"] for tensor in kept)
    assert "as an .edgeq file (--scheme keep)" in call("show", str(whole)).out
    write_gguf(tmp_path / "m.gguf", words, tensors, kind="Q5_1", split_max_tensors=9)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    facts = json.loads(call("show", str(parts[1]), "--json").out)
    assert facts["bytes"] == sum(part.stat().st_size for part in parts)
    assert sum(row["tensors"] for row in facts["schemes"]) == len(tensors)


def test_convert_tells_growth_before_it_begins(call: Call, tmp_path: Path) -> None:
    words = config(hidden_size=256, intermediate_size=256, head_dim=64)
    path = write_gguf(tmp_path / "m.gguf", words, weights(words), kind="TQ1_0")
    result = call("convert", str(path), "-o", str(tmp_path / "m.edgeq"), "--scheme", "keep")
    first, last = result.err.splitlines()
    assert first.startswith("the result takes ") and " times the source's " in first and "keep" in last
    quiet = call("convert", str(path), "-o", str(tmp_path / "m.edgeq"), "--scheme", "keep", "--force", "-q")
    assert quiet.code == 0 and quiet.err == ""


def test_show_a_gguf_with_odd_values(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_float32("odd.nan", float("nan"))
    writer.add_string("odd.escape", "\x1b]0;x\x07")
    writer.add_array("odd.list", [1, 2, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    config = json.loads(call("show", str(path), "--json").out)["config"]
    assert config["odd.nan"] == "nan" and config["odd.list"] == "[3 values]"
    assert "\x1b" not in call("show", str(path)).out


def test_verify_tells_damage(call: Call, story: Path, tmp_path: Path) -> None:
    data = bytearray(story.read_bytes())
    data[-1] ^= 1
    bad = tmp_path / "bad.edgeq"
    bad.write_bytes(data)
    result = call("verify", str(bad), "--json")
    assert result.code == 3
    answer = json.loads(result.out)
    assert answer["sound"] is False and len(answer["problems"]) == 1
    for cut in (0, 10, 70, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:cut])
        result = call("verify", str(bad))
        assert result.code == 3 and result.out.count("\n") == 1
        assert call("show", str(bad)).code == 3


def test_show_a_directory(call: Call, demo_checkpoint: Path) -> None:
    facts = json.loads(call("show", str(demo_checkpoint), "--json", "--tensors").out)
    assert facts["kind"] == "directory" and facts["family"] == "llama" and facts["refused"] is None
    assert len(facts["tensors"]) == 47 and facts["cache"]["tokens_max"] == 512
    out = call("show", str(demo_checkpoint)).out
    assert "kind        a checkpoint's directory" in out and "context     512 tokens" in out
    assert "a token: " in out and "tie_word_embeddings: yes" in out


def test_show_says_what_is_in_the_way(call: Call, tmp_path: Path) -> None:
    """Beside what there is; the exit code is that of a file that could be read."""
    words = config(mlp_bias=True, sliding_window=None)
    source = write_directory(tmp_path / "in", words, weights(words))
    gguf_file = write_gguf(tmp_path / "in.gguf", config(), weights(config()), attention__scale=0.5)
    for path, reason in ((source, "mlp_bias is True"), (gguf_file, "llama.attention.scale is 0.5")):
        result = call("show", str(path))
        assert result.code == 0 and "in the way  " in result.out and reason in result.out
        assert "size        " in result.out and "cache  " not in result.out
        assert reason in json.loads(call("show", str(path), "--json").out)["refused"]


def test_show_speaks_to_people(call: Call, tmp_path: Path, story: Path) -> None:
    words = config(
        rope_scaling={"rope_type": "linear", "factor": 2.0}, eos_token_id=[2, 3], sliding_window=None
    )
    source = write_directory(tmp_path / "in", words, weights(words))
    gguf_file = write_gguf(
        tmp_path / "in.gguf", config(), weights(config()), tokenizer__ggml__tokens=["a"] * 50
    )
    for path in (source, gguf_file, story):
        out = call("show", str(path), "--tensors").out
        assert not re.search(r"\b(None|True|False|nan)\b|[{}\[\]]", out.replace(str(tmp_path), ""))
    out = call("show", str(source)).out
    assert "rope_scaling: rope_type linear, factor 2" in out and "sliding_window: none" in out
    assert "eos_token_id: 2, 3" in out and "context     128 tokens" in out
    assert "tokenizer.ggml.tokens: 50 values" in call("show", str(gguf_file)).out
