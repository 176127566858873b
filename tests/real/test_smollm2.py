"""A real chat model, as people have it: kept number for number, like llama.cpp's, and able to answer.

What `python -m tests.real.fetch` fetches; without it these tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.converters import KEEP, convert
from edgeq.evaluate import perplexity
from edgeq.formats import open_model
from edgeq.models import expected, family
from tests.golden import gguf_checkpoint
from tests.patience import STUCK_S
from tests.real import fetch

HERE = Path(__file__).parent
TALK = "What is 2 plus 2?\n/clear\nHow many days are in a week?\n"
# The same with float activations, and with every matrix rounded to q8.
ANSWERS = "The answer to this classic math problem is 4.\nA week is approximately 7 days.\n"
# llama.cpp rounds activations to 8 bits, too: its largest logits, 17 to 25, are up to 0.4 from ours, and 0.85
# where weights are rounded to q8. Its mean loss, 3.133, is 0.003 from ours.
TOLERANCE = 0.75
NLL_TOLERANCE = 0.015
GOLDEN = json.loads((HERE / "smollm2.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def source() -> Path:
    """The GGUF file; its bytes are those that the goldens were made from."""
    path = fetch.path()
    if not path.exists():
        pytest.skip(f"there is no {path}; python -m tests.real.fetch fetches it")
    fetch.check(path)
    return path


@pytest.fixture(scope="session")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smollm2") / "smollm2.edgeq"
    convert(source, path, scheme=KEEP)
    return path


@pytest.fixture(scope="module")
def model(converted: Path) -> Iterator[Any]:
    with edgeq.load(converted) as model:
        yield model


def test_every_number_is_kept(source: Path, converted: Path) -> None:
    theirs = gguf_checkpoint.read(source).weights
    with open_model(converted) as file:
        config = family(file.family).Config.from_header(file.config)
        names = {want.hf_name: want.name for want in expected(file.family, config) if want.hf_name}
        assert set(names) == set(theirs)
        for hf_name, name in names.items():
            assert np.array_equal(file.tensors[name].array(), theirs[hf_name]), name


@pytest.mark.parametrize("prompt", GOLDEN["prompts"], ids=lambda prompt: prompt["text"][:20])
def test_logits_are_like_llamacpp(model: Any, prompt: dict[str, Any]) -> None:
    ids, top = prompt["ids"], prompt["top"]
    assert model.tokenizer.encode(prompt["text"]) == ids
    logits = model.logits(ids)[-1]
    assert np.abs(logits[top] - prompt["logits"]).max() < TOLERANCE
    best = top.index(int(logits.argmax()))
    assert prompt["logits"][0] - prompt["logits"][best] < TOLERANCE


def test_perplexity_is_that_of_llamacpp(model: Any) -> None:
    text = (HERE / "text.txt").read_text(encoding="utf-8")
    golden = GOLDEN["text"]
    found = perplexity(model, text, context=golden["context"])
    assert (found.text_tokens, found.tokens) == (golden["tokens"], golden["scored"])
    assert abs(found.nll - golden["nll"]) < NLL_TOLERANCE


def test_it_answers(converted: Path) -> None:
    """Two conversations through the command line."""
    command = [sys.executable, "-m", "edgeq", "chat", str(converted), "--temp", "0", "-n", "24", "-q"]
    done = subprocess.run(
        command, input=TALK, capture_output=True, text=True, env=dict(os.environ), timeout=STUCK_S
    )
    assert (done.returncode, done.stdout) == (0, ANSWERS), done.stderr
