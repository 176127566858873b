"""The engine's promises to its callers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq import engine
from edgeq.errors import FormatError, UsageError
from edgeq.runtime import rotary


@pytest.fixture(scope="module")
def model(demo_file: Callable[[str], Path]) -> Iterator[engine.Model]:
    with engine.load(demo_file("q4"), threads=2, context=64) as model:
        yield model


def test_logits_have_one_row_per_id(model: engine.Model) -> None:
    logits = model.logits([1, 403, 407])
    assert logits.shape == (3, 512) and logits.dtype == np.float32


@pytest.mark.parametrize(
    ("ids", "word"),
    [
        ([], "at least one"),
        ([1, 512], "512"),
        ([-1], "-1"),
        ([1] * 65, "context of 64"),
        ([[1]], "list"),
        ([1.5], "list"),
    ],
)
def test_bad_ids_are_one_sentence(model: engine.Model, ids: list[int], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        model.logits(ids)


@pytest.mark.parametrize(
    "options",
    [{"kv": "q3"}, {"act": "int4"}, {"threads": 0}, {"threads": 1000}, {"context": 10**6}, {"context": -1}],
)
def test_bad_options_are_refused(demo_file: Callable[[str], Path], options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        engine.load(demo_file("q4"), **options)  # type: ignore[arg-type]


def test_the_context_can_be_filled_and_no_more(model: engine.Model) -> None:
    sequence = model.sequence()
    sequence.feed([5] * 63)
    sequence.feed([5])
    with pytest.raises(UsageError, match="64"):
        sequence.feed([5])
    assert len(sequence.ids) == 64


def test_sequences_do_not_disturb_each_other(model: engine.Model) -> None:
    one, two = model.sequence(), model.sequence()
    one.feed([1, 403])
    two.feed([1, 50, 60])
    np.testing.assert_array_equal(one.feed([407]), model.logits([1, 403, 407])[-1])


def test_calls_from_several_threads_queue(model: engine.Model) -> None:
    prompts = [[1, *range(n, n + 20)] for n in range(30, 38)]
    want = [model.logits(p) for p in prompts]
    got: list[np.ndarray | None] = [None] * len(prompts)

    def work(i: int) -> None:
        for _ in range(5):
            got[i] = model.logits(prompts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for w, g in zip(want, got, strict=True):
        np.testing.assert_array_equal(w, g)


def test_a_closed_model_says_so(demo_file: Callable[[str], Path]) -> None:
    model = engine.load(demo_file("q4"), threads=3)
    model.close()
    model.close()
    with pytest.raises(UsageError, match="closed"):
        model.logits([1])


def test_a_closed_sequence_says_so(model: engine.Model) -> None:
    sequence = model.sequence()
    sequence.feed([1])
    sequence.close()
    with pytest.raises(UsageError, match="closed"):
        sequence.feed([1])


def test_more_workers_than_work(demo_file: Callable[[str], Path]) -> None:
    """64 workers on few cores: slow, but the same and no deadlock."""
    with engine.load(demo_file("q4"), threads=64) as many, engine.load(demo_file("q4"), threads=1) as one:
        np.testing.assert_array_equal(many.logits([1, 403, 407]), one.logits([1, 403, 407]))


def test_rotary_tables_are_right() -> None:
    """Against NumPy in float64, over the angles of long contexts."""
    angle = (np.arange(200_000, dtype=np.float32) * np.float32(0.73)).astype(np.float32)
    cosine, sine = rotary.cosine_sine(angle)
    np.testing.assert_allclose(cosine, np.cos(angle.astype(np.float64)), rtol=0, atol=6.1e-8)
    np.testing.assert_allclose(sine, np.sin(angle.astype(np.float64)), rtol=0, atol=6.1e-8)


def test_the_mean_of_turned_heads() -> None:
    """Against a sum over every position; of pairs that turn slowly all remains, of fast ones nothing."""
    frequencies = np.array([0.0, 1e-6, 1e-4, 1e-3, 0.01, 1.0], np.float32)
    x = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    got = rotary.Tables(frequencies, 4096).mean(x, 4096)
    assert got.dtype == np.float32
    angle = np.arange(4096.0)[:, None] * frequencies.astype(np.float64)
    pairs = (x[:, None, :6] + 1j * x[:, None, 6:]) * np.exp(1j * angle)
    want = pairs.mean(1)
    np.testing.assert_allclose(got, np.concatenate([want.real, want.imag], -1), rtol=0, atol=2e-3)
    np.testing.assert_allclose(got[:, [0, 6]], x[:, [0, 6]], rtol=1e-6)
    assert np.abs(got[:, [5, 11]]).max() < 0.002


SIGNALLING = np.array(0x7F800001, np.uint32).view(np.float32)


@pytest.mark.parametrize("value", [np.nan, SIGNALLING, np.inf, -np.inf, 2.0**26 / 1000, -3e38])
def test_inverse_frequencies_that_no_table_is_right_for(value: float) -> None:
    frequencies = np.stack([np.float32(1), np.asarray(value, np.float32), np.float32(0)])
    with pytest.raises(FormatError, match="for 1000 positions less than 67108.9 is needed"):
        rotary.Tables(frequencies, 1000)
    rotary.Tables(np.array([-1.0, 0.0, 2.0**26 / 1001], np.float32), 1000).ensure(1000)


@pytest.mark.parametrize("steps", [(1000,), (1, 2, 255, 256, 257, 700, 1000), (5, 1200)])
def test_rotary_tables_grow_to_the_same_bits(steps: tuple[int, ...]) -> None:
    """However far they were asked for and in what steps; a context is not always whole blocks."""
    frequencies = (10000.0 ** -np.arange(0, 1, 1 / 24)).astype(np.float32)
    grown = rotary.Tables(frequencies, 1000)
    for step in steps:
        grown.ensure(step)
    angle = np.arange(1000, dtype=np.float32)[:, None] * frequencies
    cosine, sine = rotary.cosine_sine(angle)
    np.testing.assert_array_equal(grown.cosine, cosine)
    np.testing.assert_array_equal(grown.sine, sine)
