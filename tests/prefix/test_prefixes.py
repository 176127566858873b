"""What an engine calls, with sequences that say what they compute: each token once, in memory and on disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgeq.formats import ModelFile
from edgeq.prefix import Folder, Layout, Prefixes, identity, prefixes
from tests.prefix.fakes import LAYOUTS, FakePool, FakeSequence, NearFar, Plain, said

MODEL = b"m" * 32
BIG = 1 << 40
PAGE = Plain().nbytes("") or 0


def made(
    pool: FakePool, path: Path | None = None, layout: Layout | None = None, limit: int = BIG, **words: bool
) -> Prefixes:
    layout = layout or Plain()
    folder = None if path is None else Folder(path, MODEL, layout, **words)
    return Prefixes(pool, layout, limit=limit, folder=folder)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: type(layout).__name__)
def test_the_turns_of_a_chat(layout: Layout) -> None:
    """Each turn computes what is new, whether its sequence is the last turn's or another."""
    pool = FakePool()
    found, ids = made(pool, layout=layout), list(range(9))
    assert said(found, pool, ids) == (0, 9)
    for turn in range(5):
        ids = [*ids, *range(100 * turn, 100 * turn + 7)]
        assert said(found, pool, ids) == (len(ids) - 7, 7)


def test_all_but_one_token_are_found() -> None:
    """Logits come out of feeding, so one is fed whatever is known."""
    pool = FakePool()
    found = made(pool)
    assert said(found, pool, [1, 2, 3, 4, 5]) == (0, 5)
    assert said(found, pool, [1, 2, 3, 4, 5]) == (4, 1)
    assert said(found, pool, [1]) == (0, 1)


def test_a_sequence_keeps_what_it_holds_where_that_is_more() -> None:
    pool = FakePool()
    found, sequence = made(pool), FakeSequence(pool, Plain())
    sequence.feed([1, 2, 3, 4, 5, 6, 7])
    held = sequence.pages[0][""]
    assert found.start(sequence, [1, 2, 3, 4, 5, 9, 9]) == 5
    assert sequence.ids == [1, 2, 3, 4, 5] and sequence.pages[0][""] is held
    said(found, pool, [1, 2, 3, 4, 5, 9, 9, 8])
    assert found.start(sequence, [1, 2, 3, 4, 5, 9, 9, 8, 7]) == 8
    assert found.start(sequence, [3]) == 0 and sequence.ids == []


def test_a_cut_that_loses_more_is_made_good_by_what_is_kept() -> None:
    """A sequence whose far pages cannot be near again is cut to nothing; the tree has what it was before."""
    pool = FakePool()
    found, sequence = made(pool, layout=NearFar()), FakeSequence(pool, NearFar())
    sequence.feed(list(range(10)))
    found.keep(sequence)
    sequence.feed(list(range(10, 30)))
    assert found.start(sequence, [*range(10), 99, 98]) == 10


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: type(layout).__name__)
@pytest.mark.parametrize("limit", [BIG, 10 * PAGE])
def test_random_talks(tmp_path: Path, layout: Layout, limit: int) -> None:
    """Memory, folder and pool run short in turn; every page that a sequence is given is the right one."""
    rng, pool, texts = random.Random(limit), FakePool(limit=40 * PAGE), [[0, 0, 0, 0, 1]]
    found = made(pool, tmp_path / "cache", layout, limit)
    for step in range(120):
        ids = list(rng.choice(texts))[: rng.randrange(1, 30)]
        ids += [rng.randrange(2) for _ in range(rng.randrange(1, 9))]
        cached, computed = said(found, pool, ids, rng.choice(["", "salt"]))
        assert cached + computed == len(ids)
        texts = [*texts[-6:], ids]
        if step % 40 == 39:
            found.close()
            assert pool.used == 0
            found = made(pool, tmp_path / "cache", layout, limit)


def test_another_process_reads_what_this_one_wrote(tmp_path: Path) -> None:
    pool, ids = FakePool(), list(range(60))
    first = made(pool, tmp_path)
    assert said(first, pool, ids) == (0, 60)
    first.close()
    again = made(pool, tmp_path)
    assert said(again, pool, [*ids, 1]) == (60, 1)
    assert said(again, pool, [*ids[:41], 1, 1]) == (41, 2)
    assert again.tree.find([*ids, 1]).length == 61  # memory has it now
    assert said(made(pool, tmp_path), pool, ids[:10]) == (0, 10)  # so few are computed as fast as read


def test_what_memory_has_is_not_read(tmp_path: Path) -> None:
    pool, ids = FakePool(), list(range(60))
    first = made(pool, tmp_path)
    said(first, pool, ids)
    first.close()
    again = made(pool, tmp_path)
    said(again, pool, ids[:20])
    used = pool.used
    assert said(again, pool, [*ids, 1]) == (60, 1)
    assert pool.used == used + (10 + 1) * PAGE  # chunks 5 to 14, and the one that goes on


def test_when_a_prefix_is_written(tmp_path: Path) -> None:
    """At an answer's end where the folder has much less of it, else when there is time; never twice."""
    pool = FakePool()
    found, sequence = made(pool, tmp_path), FakeSequence(pool, Plain())
    tokens: list[int | None] = []

    def on_disk() -> int | None:
        stored = Folder(tmp_path, MODEL, Plain()).find(sequence.ids)
        return stored.length if stored else None

    for n in (3, 9, 4, 10, 2):  # 3, 12, 16, 26, 28 tokens
        sequence.feed(list(range(n)))
        found.keep(sequence, ended=False)
        found.keep(sequence)
        tokens.append(on_disk())
    assert tokens == [None, 12, 12, 26, 26]
    found.save()
    assert on_disk() == 28 and len(list(tmp_path.iterdir())) == 1 and not found._waiting


def test_a_prompt_whose_answer_did_not_end_is_not_written(tmp_path: Path) -> None:
    pool = FakePool()
    found, sequence = made(pool, tmp_path), FakeSequence(pool, Plain())
    sequence.feed(list(range(20)))
    found.keep(sequence, ended=False)
    found.close()
    assert not list(tmp_path.iterdir())


def test_only_reading(tmp_path: Path) -> None:
    pool, ids = FakePool(), list(range(30))
    first = made(pool, tmp_path)
    said(first, pool, ids)
    first.close()
    reader = made(pool, tmp_path, writable=False)
    assert said(reader, pool, [*ids, *ids]) == (30, 30)
    reader.close()
    assert said(made(pool, tmp_path), pool, [*ids, *ids])[0] == 30


def test_what_memory_lost_is_not_written(tmp_path: Path) -> None:
    """A prefix that waits may be shorter when its turn comes, or gone."""
    pool, ids = FakePool(), list(range(40))
    found = made(pool, tmp_path, limit=6 * PAGE)
    said(found, pool, ids)
    assert Folder(tmp_path, MODEL, Plain()).find(ids).length < 24  # type: ignore[union-attr]
    said(found, pool, ids[:25])
    said(found, pool, [9] * 30)
    found.close()
    assert pool.used == 0


def test_the_pool_asks_the_tree() -> None:
    pool = FakePool(limit=6 * PAGE)
    found = made(pool)
    for n in range(5):
        assert said(found, pool, [n] * 12) == (0, 12)
    (ask,) = pool.short
    pool.short.clear()
    with pytest.raises(MemoryError):
        said(found, pool, [9] * 12)
    del found  # the pool does not keep it
    assert pool.used == 0 and ask(PAGE) is False


def test_the_limit_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, limit in ((1 << 40, 2 << 30), (1 << 30, 1 << 28), (0, 0)):
        monkeypatch.setattr(prefixes, "free_memory", lambda free=free: free)
        assert Prefixes(FakePool(), Plain()).tree.limit == limit


def test_what_is_known_of_a_model(model_files: tuple[ModelFile, ModelFile]) -> None:
    """Another file, kind of cache or code is another identity; the same file elsewhere is not."""
    one, other = model_files
    assert identity(one, kv="q8") == identity(one, kv="q8")
    assert (
        len({identity(one, kv="q8"), identity(one, kv="f16"), identity(one), identity(other, kv="q8")}) == 4
    )


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, ModelFile]:
    import numpy as np

    from edgeq.formats import open_model
    from edgeq.formats.writer import TensorPlan, Writer

    found = []
    for n in range(2):
        path = tmp_path_factory.mktemp("models") / "x.edgeq"
        with Writer(
            path, {"family": "llama", "config": {}}, [TensorPlan("a", "f32", "plain", [4])]
        ) as writer:
            writer.write("a", np.full(16, n, np.uint8))
            writer.commit()
        found.append(open_model(path))
    return found[0], found[1]
