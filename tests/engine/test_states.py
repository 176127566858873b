"""Models whose layers keep states: what can be taken back, what is kept of prompts, and drafts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq import runner
from edgeq.cache import PageLayout
from edgeq.converters import convert
from edgeq.engine import Model
from edgeq.errors import CancelledError
from edgeq.speculate import Drafting, ModelDrafter

ROOT = Path(__file__).resolve().parents[2]
LONG = 1400
FAMILIES = ("lfm2", "qwen3_5", "granitemoehybrid", "falcon_h1")


@pytest.fixture(scope="module", params=FAMILIES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose layers but one keep states."""
    folder = tmp_path_factory.mktemp("states") / request.param
    shutil.copytree(ROOT / "tests/golden/families" / request.param, folder)
    words = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": LONG}
    (folder / "config.json").write_text(json.dumps(words))
    convert(folder, folder / "model.edgeq", scheme="q8")
    convert(folder, folder / "q4.edgeq", scheme="q4")  # which guesses what follows, often wrong
    return folder / "model.edgeq"


def ids(count: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(3, 96, count).tolist()


def test_the_last_pass_can_be_taken_back_and_what_ends_chunks(path: Path) -> None:
    with edgeq.load(path, threads=2) as model:
        sequence, text = model.sequence(), ids(700)
        for at in range(0, 690, 30):
            sequence.feed(text[at : at + 30])
        states = [state.length for state in sequence.pages.states]
        kept = 256 * model.cache.state_chunks
        assert states == [*range(kept, 690, kept), 660, 690]
        assert sequence.truncate(680) == 660
        assert np.array_equal(sequence.feed(text[660:700]), model.logits(text)[-1])
        assert sequence.truncate(659) == 659 // kept * kept


def test_what_is_broken_off_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between layers, of which some have written their states."""
    monkeypatch.setattr(runner, "PAUSE_WORK", 1.0)
    with edgeq.load(path, threads=2) as model:
        sequence, text = model.sequence(), ids(120)
        sequence.feed(text[:60])
        answers = iter([False, False, False])
        with pytest.raises(CancelledError):
            sequence.feed(text[60:100], cancelled=lambda: next(answers, True))
        assert sequence.ids == text[:60] and not list(answers)
        assert np.array_equal(sequence.feed(text[60:]), model.logits(text)[-1])


def test_steps_take_no_new_memory(path: Path) -> None:
    """Pages of states go round: of two, and the one that a pass writes."""
    with edgeq.load(path, threads=1) as model:
        sequence = model.sequence()
        seen = set()
        for _ in range(20):
            sequence.feed([5])
            seen |= {state.page.address for state in sequence.pages.states}
        assert len(seen) == 3
        assert model.pool.used == sequence.pages.nbytes
        assert model.pool.used == model.cache.page_bytes + 2 * model.cache.state_bytes
        sequence.close()
        assert model.pool.used == 0


def text_of(model: Model, prompt: list[int], **options: Any) -> tuple[list[int | None], Any]:
    generation = model.generate(prompt, max_tokens=60, ignore_eos=True, **options)
    return [piece.id for piece in generation], generation.timings


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 7}])
def test_drafts_change_nothing(path: Path, options: dict[str, Any]) -> None:
    draft = Drafting(path.with_name("q4.edgeq"), p_min=0, most=4)
    with edgeq.load(path, threads=2) as model:
        prompt = ids(8) * 20
        want, _ = text_of(model, prompt, **options)
        found, timings = text_of(model, prompt, draft=draft, **options)
        assert found == want and timings.draft_tokens > timings.accepted_tokens


def test_a_small_model_with_states_follows_on_forks(path: Path) -> None:
    """Once a cut lost much, none of a text is computed twice but what was guessed rightly."""
    with edgeq.load(path.with_name("q4.edgeq"), threads=1) as small, edgeq.load(path, threads=1) as model:
        drafter, text, fed = ModelDrafter(small, model), ids(300), list[int]()
        advance = small.runner.run

        def counted(segments: Any, *given: Any, **more: Any) -> Any:
            fed.append(sum(len(s.ids) for s in segments))
            return advance(segments, *given, **more)

        small.runner.run = counted  # type: ignore[method-assign]
        for n in range(270, 300, 3):
            fed.clear()
            guesses = drafter.draft(text[:n], 4)
            sequence = small.sequence()
            want = [int(sequence.step(text[:n]).likeliest[-1])]
            while len(want) < 4:
                want.append(int(sequence.step(want[-1:]).likeliest[-1]))
            assert guesses == want
            sequence.close()
            if n > 273:
                assert fed[:4] == [3, 1, 1, 1]
        drafter.close()


def test_prompts_that_begin_alike(path: Path, tmp_path: Path) -> None:
    """What ended a prompt, or an answer, is gone on from; across processes where a file ends."""
    text = ids(400)
    with edgeq.load(path, threads=2) as model:
        first, second = model.sequence(), model.sequence()
        model.prefixes.start(first, text)
        first.feed(text)
        model.prefixes.keep(first)
        first.feed(ids(30, 2))
        model.prefixes.keep(first)
        more = ids(20, 3)
        assert model.prefixes.start(second, text + more) == 400
        assert np.array_equal(second.feed(more), model.logits(text + more)[-1])
        other = text[:300] + more
        kept = 256 * model.cache.state_chunks
        assert model.prefixes.start(second, other) == 300 // kept * kept
    whole = text + more
    for known in (0, 400):
        with edgeq.load(path, threads=2, prompt_cache=tmp_path / "kept") as model:
            sequence = model.sequence()
            assert model.prefixes.start(sequence, whole) == known
            got = sequence.feed(whole[known:])
            assert np.array_equal(got, model.logits(whole)[-1])
            sequence.truncate(0)
            sequence.feed(text)
            model.prefixes.keep(sequence)


def test_forms_of_pages(path: Path) -> None:
    with edgeq.load(path, threads=1) as model:
        layout = PageLayout(model.cache)
        assert layout.nbytes("state after 7") == layout.nbytes("state after 256") == model.cache.state_bytes
        for form in (
            "state after 0",
            "state after 257",
            "state after 07",
            "state after ",
            "state after x",
            "9",
        ):
            assert layout.nbytes(form) is None
        assert layout.needed(1, 300) == ["0", "state after 44"] and layout.needed(0, 300) == ["0"]
        assert layout.ends(1, 300, lambda chunk: ["0", "state after 9", "state after 90"]) == [265, 256]
