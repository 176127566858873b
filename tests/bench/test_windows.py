"""The NumPy model of coded caches: what it computes is what the kernels' meanings and the engine compute."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import windows
from bench.coded import Coded, Rule, exact
from bench.forward import Array, Forward
from bench.windows import EDGEQ, NEAR, NONE, RULES
from edgeq import demo, engine
from edgeq.cache import KINDS
from edgeq.converters import convert
from edgeq.errors import UnsupportedError
from edgeq.evaluate.windows import kld_of_rows
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels import meaning_attention, meaning_far
from edgeq.kernels.catalog import CHUNK

FAR_KINDS = [name for name, kind in KINDS.items() if kind.has_far]
STORY = (
    "Once upon a time, there was a little boat named {}. It lived by the big sea with a red bird. One day "
    "{} went far out, {} waves from home, and met a kind old whale who knew a song about the moon. "
)
NAMES = ("Tim", "Sue", "Max", "Lily", "Ben", "Anna", "Tom", "Mia")
TEXT = "".join(STORY.format(name, name, n) for n, name in enumerate(NAMES * 5))


def checkpoint(folder: Path, **changes: object) -> Path:
    """The demo model's, with other words in its config."""
    folder.mkdir()
    for path in demo.checkpoint().iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def of_engine(source: Path, target: Path, ids: Array, kv: str) -> Array:
    convert(source, target, scheme="f32", overwrite=True)
    with engine.load(target, kv=kv, act="f32", threads=1, context=len(ids)) as model:
        sequence = model.sequence()
        return sequence.feed(ids.tolist(), all_logits=True)


def test_floats_are_the_engines(tmp_path: Path) -> None:
    model = Forward(demo.checkpoint())
    ids = model.windows(TEXT, CHUNK + 41).ids[0]
    ours = model.logits(ids, exact)
    theirs = of_engine(demo.checkpoint(), tmp_path / "model.edgeq", ids, "f32")
    assert np.abs(ours - theirs).max() < 1e-4 < np.ptp(theirs)
    assert np.abs(ours[7:] - model.logits(ids, exact, 7)).max() < 1e-4


def test_far_pages_are_the_engines(tmp_path: Path) -> None:
    """At a context with far pages, for which the demo model's config is stretched: both add as much to the
    divergence, and to the same tokens. A code that falls beside a tie changes those of the layers behind.
    """
    source = checkpoint(tmp_path / "long", max_position_embeddings=4 * CHUNK)
    model = Forward(source)
    ids, first = model.windows(TEXT, 4 * CHUNK).ids[0], 2 * CHUNK
    floats, coded = (model.logits(ids, each, first) for each in (exact, Coded(KINDS["q4"], EDGEQ)))
    theirs = of_engine(source, tmp_path / "model.edgeq", ids, "q4")[first:]
    added = kld_of_rows(floats, theirs).mean()
    assert kld_of_rows(floats, coded).mean() == pytest.approx(added, rel=0.05)
    assert kld_of_rows(theirs, coded).mean() < 0.1 * added


@pytest.mark.parametrize("rule", [EDGEQ, NONE], ids=lambda rule: rule.name)
@pytest.mark.parametrize("kind", FAR_KINDS)
def test_attention_is_its_meanings(kind: str, rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    if rule is NONE:
        monkeypatch.setattr(meaning_far, "is_far", lambda chunk, own: True)
    rng = np.random.default_rng(0)
    count, head_dim, last = 4 * CHUNK, 24, 5
    q, k, v = (rng.standard_normal((count, n, head_dim)).astype(np.float32) for n in (4, 2, 2))
    k *= rng.uniform(0.5, 3, (2, head_dim)).astype(np.float32)
    scaling, centre = 1 / math.sqrt(head_dim), np.zeros_like(k[0])
    query, near = meaning_attention.lay_int8(q[-last:], scaling), meaning_attention.store_int8(k, v, centre)
    scheme = SCHEMES[KINDS[kind].values]
    pages = {}
    for n in range(4):
        page = meaning_attention.Stored(*(part[n * CHUNK : (n + 1) * CHUNK] for part in near))
        coded = meaning_far.narrow(page, scheme, head_dim)
        pages[n] = coded if KINDS[kind].keys else meaning_far.narrow_values(page, scheme)
    low = meaning_far.coarse(q[-last:], scaling)
    want = meaning_far.attend_coded(query, low, near, pages, scheme, count - last)[..., :head_dim]
    found = Coded(KINDS[kind], rule)(q, k, v)[-last:]
    off, coarseness = (np.sqrt(np.square(x - found).mean()) for x in (want, exact(q, k, v)[-last:]))
    assert off < 0.01 * coarseness


def test_rules() -> None:
    """EDGEQ is the kernels' own; the others are what their names say."""
    places = np.arange(5 * CHUNK)
    far = np.array(
        [
            [meaning_far.is_far(there, own) for there in range(own + 1)] + [False] * (4 - own)
            for own in range(5)
        ]
    )
    far = far.repeat(CHUNK, 0).repeat(CHUNK, 1)
    seen = places <= places[:, None]
    assert np.array_equal(EDGEQ.far(places, places) & seen, far)
    by_name = {rule.name: (rule.far(places, places) & seen)[1000] for rule in RULES}
    assert np.flatnonzero(by_name["64+64"]).tolist() == list(range(64, 896))  # 1000 is in the step from 960
    assert np.flatnonzero(by_name["4+64"]).tolist() == list(range(4, 937))
    assert np.flatnonzero(by_name["none"]).tolist() == list(range(1001))


def test_the_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Less near, more divergence; a window without far pages has q8's; bars at their context alone."""
    text = tmp_path / "text"
    text.write_text(TEXT)
    command = ["bench.windows", str(demo.checkpoint()), "--text", str(text), "--windows", "1", "--json"]
    monkeypatch.setattr(sys, "argv", [*command, "--kinds", "q4", "--rules", "edgeq,4+64,none"])
    windows.main()
    *table, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    q8, edgeq, small, none = found["rows"]
    assert (found["context"], found["windows"], found["tokens"]) == (512, 1, 255)
    assert (q8["kind"], q8["rule"], q8["bar"]) == (NEAR, "-", 0.015e-3)
    assert edgeq["kld"] == q8["kld"] < small["kld"] < none["kld"] < 0.1
    assert (edgeq["bar"], small["bar"], none["bar"]) == (0.06e-3, 0.06e-3, 3e-3)
    assert [line.split()[:2] for line in table[-4:]] == [[row["kind"], row["rule"]] for row in found["rows"]]
    monkeypatch.setattr(sys, "argv", [*command, "--kinds", "q4", "--rules", "none", "--context", "256"])
    windows.main()
    assert [row["bar"] for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]] == [
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kinds", "q8"], "no cache with far pages is called q8; there are k8v4, q4, q2"),
        (["--rules", "most"], "no rule is called most; there are edgeq, 64+64, 4+64, none"),
        (["--context", "300"], "a window of 300 tokens is not of whole chunks: a multiple of 256 is needed"),
        (["--context", "1024"], "the window is 1024 tokens, but must be at most the model's context of 512"),
    ],
)
def test_what_is_refused(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text(TEXT)
    command = ["bench.windows", str(demo.checkpoint()), "--text", str(tmp_path / "text"), *words]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=re.escape(said)):
        windows.main()


MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 64}


def test_a_sliding_window_is_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "sliding", **MISTRAL)
    with pytest.raises(UnsupportedError, match="a window of 64"):
        Forward(source)
