"""quantize, calibrate, sensitivity: on the real bundled checkpoint, with little text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.formats import dequantize, quantize
from tests.cli.conftest import Call
from tests.converters.checkpoints import config, weights, write_directory

FEW = ("--tokens", "2048", "-q")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = (
        f"Tom had {n} red balls and gave {n % 7} of them to his friend Lily in the park." for n in range(400)
    )
    path.write_text("\n".join(lines))
    return str(path)


def test_presets(call: Call, demo_checkpoint: Path, tmp_path: Path, text: str) -> None:
    """Each says what it did, and the file tells it, too."""
    told = {}
    for quality in ("fast", "good", "best"):
        target = tmp_path / f"{quality}.edgeq"
        words = ("--quality", quality, "-f", text, *(FEW if quality != "fast" else FEW[2:]))
        done = call("quantize", str(demo_checkpoint), "-o", str(target), *words, "--json")
        assert done.code == 0, done.err
        told[quality] = json.loads(done.out)
        assert told[quality]["bytes"] == target.stat().st_size
        assert call("verify", str(target)).code == 0
        facts = json.loads(call("show", str(target), "--json").out)["quantization"]
        assert facts["quality"] == quality and facts["follow"] == (quality == "best")
    assert told["fast"]["divergence"] is None and told["fast"]["helped"] == {"search": 1, "finer": 35}
    assert told["best"]["divergence"] > 0 and told["good"]["divergence"] < 0.2
    assert told["good"]["helped"]["gptq"] > 25
    assert not list(tmp_path.glob("*.quantizing"))


def test_a_target_is_met(call: Call, demo_checkpoint: Path, tmp_path: Path, text: str) -> None:
    target = tmp_path / "out.edgeq"
    words = ("quantize", str(demo_checkpoint), "-o", str(target), "-f", text, *FEW, "--json")
    assert json.loads(call(*words, "--target-bpw", "5.5").out)["bits_per_weight"] <= 5.5
    schemes = {row["scheme"] for row in json.loads(call("show", str(target), "--json").out)["schemes"]}
    assert len(schemes - {"f32", "bytes"}) > 2
    assert call(*words, "--target-size", "200K", "--force").code == 0
    assert 180_000 < target.stat().st_size <= 200_000
    wrong = call(*words, "--target-size", "20K", "--force")
    assert wrong.code == 2 and "the smallest schemes take" in wrong.err
    for size, sentence in (("0", "more than the 0 that there are"), ("9" * 400 + "G", "is no size such as")):
        wrong = call(*words, "--target-size", size, "--force")
        assert wrong.code == 2 and sentence in wrong.err
    wrong = call(*words, "--target-bpw", "nan", "--force")
    assert wrong.code == 2 and "nan bits a weight is none" in wrong.err
    (tmp_path / "empty.txt").touch()
    wrong = call(*words[:4], "-f", str(tmp_path / "empty.txt"), "--force")
    assert wrong.code == 3 and "empty.txt holds no text" in wrong.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt", "out.edgeq"]


def test_statistics_in_place_of_text(call: Call, demo_checkpoint: Path, tmp_path: Path, text: str) -> None:
    """The same figures, and so the same matrices."""
    stats, one, other = tmp_path / "out.stats", tmp_path / "one.edgeq", tmp_path / "other.edgeq"
    model = str(demo_checkpoint)
    made = call("calibrate", model, "-o", str(stats), "-f", text, "--tokens", "2048", "--json")
    facts = json.loads(made.out)
    assert facts["taps"] == 20 and facts["bytes"] == stats.stat().st_size
    assert call("quantize", model, "-o", str(one), "--stats", str(stats), "-q").code == 0
    assert call("quantize", model, "-o", str(other), "-f", text, *FEW).code == 0
    total = json.loads(call("compare", str(one), str(other), "--json").out)["total"]
    assert total["largest"] == 0
    both = tmp_path / "both.stats"
    merged = call("calibrate", "--merge", str(stats), "--merge", str(stats), "-o", str(both), "--json")
    assert json.loads(merged.out)["tokens"] == 2 * facts["tokens"]
    assert call("calibrate", "-o", str(both)).code == 2
    assert (
        call("quantize", model, "-o", str(one), "--stats", str(stats), "--quality", "best", "--force").code
        == 2
    )
    both.write_bytes(stats.read_bytes()[:-4])
    assert call("quantize", model, "-o", str(one), "--stats", str(both), "--force").code == 3


def test_sensitivity(call: Call, demo_checkpoint: Path, tmp_path: Path, text: str) -> None:
    """A figure for each matrix, none of them 0, and how far the proxy goes with them."""
    done = call(
        "sensitivity", str(demo_checkpoint), "-f", text, *FEW, "--json", "-o", str(tmp_path / "kept.json")
    )
    facts = json.loads(done.out)
    assert len(facts["rows"]) == 36 and all(row["divergence"] > 0 < row["proxy"] for row in facts["rows"])
    assert all(row["errors"]["e4"] == 1 and row["errors"]["e8"] < 0.1 for row in facts["rows"])
    assert -1 <= facts["rank_correlation"] <= 1
    assert json.loads((tmp_path / "kept.json").read_text()) == facts


@pytest.mark.parametrize("preset", ["hqq", "awq", "iot", "quarot", "w4a8"])
def test_known_names(call: Call, demo_checkpoint: Path, tmp_path: Path, text: str, preset: str) -> None:
    target = tmp_path / "out.edgeq"
    words = ("quantize", str(demo_checkpoint), "-o", str(target), "--preset", preset, "-f", text)
    done = call(*words, "--tokens", "2048", "--json")
    assert done.code == 0 and f"{preset}: " in done.err, done.err
    assert call("verify", str(target)).code == 0
    assert call(*words, "--force", "--scheme", "e4").code == 2
    assert call(*words[:-4], "--preset", "magic", "--force").code == 2


def test_what_it_will_take(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    words = ("quantize", str(demo_checkpoint), "-o", str(tmp_path / "out.edgeq"), "--dry-run")
    facts = json.loads(call(*words, "--json").out)
    assert 150_000 < facts["bytes"] < 250_000 and facts["memory"] > facts["bytes"] and facts["seconds"] > 0
    assert "about" in call(*words, "--quality", "best").out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target-bpw", "5", "--scheme", "e4"), "a target chooses every scheme"),
        (("--target-bpw", "5", "--target-size", "1M"), "say the same twice"),
        (("--target-size", "much"), "is no size such as 700M"),
        (("--method", "gptq"), "goes on from another"),
        (("--method", "magic"), "method 'magic' is unknown"),
        (("--scheme", "k4"), "scheme 'k4' is unknown"),
        (("--scheme", "q4m", "-q"), "is not one that calibration works on"),
        (("--max-ram", "1M"), "of memory are too few"),
        (("--quality", "fast", "--target-bpw", "5"), "a budget chooses every scheme"),
    ],
)
def test_what_cannot_be_done(
    call: Call, demo_checkpoint: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = call("quantize", str(demo_checkpoint), "-o", str(tmp_path / "out.edgeq"), *words)
    assert done.code == 2 and said in done.err and not (tmp_path / "out.edgeq").exists()


def test_what_is_quantized_already_is_not_rounded_again(call: Call, tmp_path: Path) -> None:
    """By its numbers: a checkpoint of bfloat16 that was trained for q4. By its types: a file of Q4_0."""
    words = config()
    fine = weights(words)
    coarse = {
        name: dequantize(quantize(x, "q4"), "q4") if x.ndim == 2 and "embed" not in name else x
        for name, x in fine.items()
    }
    for tensors, code in ((fine, 0), (coarse, 2)):
        path = write_directory(tmp_path / f"checkpoint{code}", words, tensors, dtype="bfloat16")
        done = call("quantize", str(path), "-o", str(tmp_path / f"{code}.edgeq"), "--quality", "fast")
        assert done.code == code, done.err
    assert "lie on q4's grid already" in done.err
    again = (
        "quantize",
        str(path),
        "-o",
        str(tmp_path / "2.edgeq"),
        "--quality",
        "fast",
        "--allow-requantize",
    )
    assert call(*again).code == 0


def test_a_place_that_is_none_is_told_before_anything_is_measured(
    call: Call, demo_checkpoint: Path, tmp_path: Path, text: str
) -> None:
    for place in (tmp_path / "none" / "a.json", Path(text) / "a.json"):
        done = call("sensitivity", str(demo_checkpoint), "-f", text, "-o", str(place))
        assert done.code == 2 and "its folder is not there" in done.err
