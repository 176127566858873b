"""Vectors of texts against sentence-transformers, and what a call promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.embed.reading import MANY
from edgeq.errors import CancelledError, UsageError
from edgeq.passes import Part

from .conftest import TEXTS, Loaded, expected

TOLERANCE = 1e-5


def test_the_last_token_with_an_end_behind_it(loaded: Loaded) -> None:
    model, theirs = loaded("embedding"), expected("embedding")
    ours = model.embed(TEXTS, truncate=True)
    assert ours.shape == (len(TEXTS), 64) and ours.dtype == np.float32
    assert np.abs(ours - theirs["vectors"]).max() < TOLERANCE
    assert np.abs(model.embed(TEXTS[:1], prompt="query") - theirs["query"]).max() < TOLERANCE
    assert np.abs(ours[0] - theirs["query"][0]).max() > 1e-2


def test_a_text_is_the_same_whatever_is_beside_it(loaded: Loaded) -> None:
    model = loaded("embedding")
    texts = [text[:n] for text in TEXTS for n in (1, 9, 40)] * 3
    assert len(texts) > 2 * MANY
    for pooling in ("last", "mean", "cls"):
        together = model.embed(texts, pooling=pooling)
        alone = np.concatenate([model.embed([text], pooling=pooling) for text in texts[:15]])
        assert (together[:15] == alone).all() and (together[15:30] == alone).all()
    assert not model.pool.used


def test_rows_are_what_logits_are_made_of(loaded: Loaded) -> None:
    model = loaded("embedding")
    ids = model.tokenizer.encode(TEXTS[1])
    sequence = model.sequence()
    (fed,) = model.advance([Part(sequence, ids, len(ids))], rows=True)
    assert sequence.likeliest == -1 and (fed.likeliest == -1).all()
    embed = model.file.tensors["embed"].array()  # the head, too
    logits = model.logits(ids)
    assert np.abs(fed.logits @ embed.T - logits).max() < 1e-4 * np.abs(logits).max()
    sequence.close()
    rows = fed.logits
    for pooling, row in (("last", rows[-1]), ("cls", rows[0]), ("mean", rows.mean(0))):
        (ours,) = model.embed([ids], pooling=pooling, normalize=False)
        assert np.allclose(ours, row, atol=1e-6)
    (cut,) = model.embed([ids], dimensions=5)
    assert np.allclose(cut, rows[-1, :5] / np.linalg.norm(rows[-1, :5]), atol=1e-6)


def test_a_text_longer_than_a_pass(loaded: Loaded) -> None:
    model = loaded("reranker")  # of a longer context
    ids = [7 + n % 200 for n in range(600)]
    sequence = model.sequence()
    last = [model.advance([Part(sequence, ids[n : n + 200], 1)], rows=True)[0] for n in (0, 200, 400)][-1]
    sequence.close()
    (ours,) = model.embed([ids], pooling="last", normalize=False)
    assert (ours == last.logits[0]).all()
    (mean,) = model.embed([ids], pooling="mean", normalize=False)
    assert mean.shape == (64,) and not (mean == ours).all()


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        (TEXTS, {}, "text 3 has 181 tokens, but at most 128 are read"),
        (["a"], {"prompt": "querry"}, "no prompt 'querry'; did you mean 'query'"),
        (["a"], {"pooling": "max"}, "must be one of last, mean, cls"),
        (["a"], {"dimensions": 65}, "have 64 numbers"),
        (7, {}, "must be a list of texts"),
        ([[]], {}, "empty"),
        ([[9999]], {}, "outside the vocabulary"),
        ([""], {"pooling": "mean", "progress": 3}, "must be a function"),
    ],
)
def test_what_is_refused(loaded: Loaded, texts: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        loaded("embedding").embed(texts, **options)


def test_control_tokens_in_a_text_are_text(loaded: Loaded) -> None:
    model = loaded("embedding")
    marks = model.tokenizer.spec.behind
    assert len(marks) == 1 and model.tokenizer.spelling(marks[0]) == "<|endoftext|>"
    spelled = list(b"<|endoftext|>")
    (ours,) = model.embed(["<|endoftext|>"])
    (theirs,) = model.embed([[*map(model.tokenizer.id, map(chr, spelled)), *marks]])
    assert (ours == theirs).all()
    assert model.embed([]).shape == (0, 64) and model.embed("a text").shape == (1, 64)
    assert model.embed([""]).shape == (1, 64)


def test_progress_and_a_cancelled_call(loaded: Loaded) -> None:
    model, told = loaded("embedding"), list[tuple[int, int]]()
    model.embed(TEXTS[:2], progress=lambda done, total: told.append((done, total)))
    assert told and told[-1][0] == told[-1][1]
    with pytest.raises(CancelledError):
        model.embed(TEXTS[:2], cancelled=lambda: True)
    assert not model.pool.used


def test_a_model_that_says_nothing_of_vectors(demo_checkpoint: Any, tmp_path: Any) -> None:
    from edgeq import engine
    from edgeq.converters import convert

    convert(demo_checkpoint, tmp_path / "m.edgeq", scheme="q8")
    with engine.load(tmp_path / "m.edgeq", threads=1) as model:
        assert model.pooling is None
        with pytest.raises(UsageError, match="name pooling"):
            model.embed(["Once upon a time"])
        assert model.embed(["Once upon a time"], pooling="mean").shape == (1, 64)
        with pytest.raises(UsageError, match="not made to rank"):
            model.rerank("a", ["b"])


def test_the_mean_of_an_encoder(loaded: Loaded) -> None:
    """BERT: all of a text is seen by all of it, in one pass, of more rows than others have."""
    model, theirs = loaded("encoder"), expected("encoder")["vectors"]
    ours = model.embed(TEXTS, truncate=True)
    assert np.abs(ours - theirs).max() < TOLERANCE
    long = model.embed([TEXTS[3] * 3], truncate=True)
    assert np.abs(long - expected("encoder")["long"]).max() < TOLERANCE and model.pass_tokens == 320
    alone = np.concatenate([model.embed([text], truncate=True) for text in TEXTS])
    assert (ours == alone).all()
    assert np.abs(model.embed(TEXTS[:1], pooling="cls") - ours[0]).max() > 1e-3
    texts = [TEXTS[n % 3] for n in range(40)]
    assert (model.embed(texts)[:3] == ours[:3]).all()


def test_what_an_encoder_does_not_do(loaded: Loaded, converted: Any) -> None:
    from edgeq import engine

    model = loaded("encoder")
    with pytest.raises(UsageError, match="predicts no token"):
        model.logits([2, 5, 3])
    with pytest.raises(UsageError, match="predicts no token"):
        model.generate("the capital", max_tokens=1).read()
    sequence = model.sequence()
    model.advance([Part(sequence, [2, 5, 3], 3)], rows=True)
    with pytest.raises(UsageError, match="nothing can be fed behind"):
        model.advance([Part(sequence, [5], 1)], rows=True)
    sequence.close()
    with pytest.raises(UsageError, match="text 0 has 4.. tokens, but at most 320 are read"):
        model.embed([TEXTS[3] * 3])
    with pytest.raises(UsageError, match="a model that reads a text whole"):
        engine.load(converted("encoder"), kv="q4")


def test_word_pieces_and_their_text(loaded: Loaded) -> None:
    tokenizer = loaded("encoder").tokenizer
    ids = tokenizer.encode("The capitals of Gravity? [SEP]")
    spelled = [tokenizer.spelling(id) for id in ids]
    assert spelled[:5] == ["[CLS]", "the", "capital", "##s", "of"]
    assert spelled[5:] == ["gr", "##avi", "##ty", "?", "[UNK]", "s", "##e", "##p", "[UNK]"]
    assert tokenizer.decode(ids[:8]) == "the capitals of gravity"
    assert [tokenizer.spelling(id) for id in tokenizer.spec.behind] == ["[SEP]"]


@pytest.mark.parametrize("kv", ["q8", "f16"])
@pytest.mark.parametrize("act", ["int8", "f32"])
def test_an_encoder_rounded(converted: Any, kv: str, act: str) -> None:
    from edgeq import engine

    with engine.load(converted("encoder"), kv=kv, act=act, threads=2) as model:
        ours = model.embed(TEXTS, truncate=True)
    assert (ours * expected("encoder")["vectors"]).sum(1).min() > 0.99
