"""Whatever a caller passes is taken or refused with one sentence of edgeq's own."""

from __future__ import annotations

import array
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.arguments import token_ids
from edgeq.errors import EdgeqError, UsageError, shown, size


class Endless:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, n: int) -> int:
        return 1


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)


@pytest.fixture(scope="module")
def model(demo_file: Callable[[str], Path]) -> Iterator[engine.Model]:
    with engine.load(demo_file("q4"), threads=1, context=64) as model:
        yield model


def one_line(error: pytest.ExceptionInfo[EdgeqError]) -> None:
    text = str(error.value)
    assert text.isprintable() and len(text) < 300 and text.encode()


WRONG_IDS = [
    [[1], [2, 3]], RECURSIVE, np.array(5), np.zeros((2, 2), int), np.zeros(3, "datetime64[s]"), [1.0],
    np.ones(2), [True], np.ones(2, bool), [1, True], [1, None], [2**70], [-(2**70)], [10**5000], [Hostile()],
    np.array([2**64 - 1], np.uint64), None, 3, "text", b"bytes", bytearray(b"b"), {1: 2}, {1}, object(),
    itertools.count(), (i for i in (1, 2)), Endless(), range(10**9), range(10**30), np.int64(3), [],
]  # fmt: skip


@pytest.mark.parametrize("ids", WRONG_IDS, ids=range(len(WRONG_IDS)))
def test_wrong_ids(model: engine.Model, ids: Any) -> None:
    sequence = model.sequence()
    calls = [sequence.feed, model.logits] + ([] if isinstance(ids, str) else [model.generate])
    for call in calls:
        with pytest.raises(UsageError) as error:
            call(ids)
        one_line(error)
    assert sequence.ids == []


@pytest.mark.parametrize(
    "ids",
    [
        [1, 5], (1, 5), range(1, 6, 4), np.array([1, 5], np.uint8), array.array("H", [1, 5]),
        [np.int64(1), np.uint8(5)], memoryview(np.array([1, 5])),
    ],
)  # fmt: skip
def test_right_ids(model: engine.Model, ids: Any) -> None:
    assert token_ids(ids, 512).tolist() == [1, 5]
    np.testing.assert_array_equal(model.logits(ids), model.logits([1, 5]))


class Liar(int):
    """A whole number that is another whenever it is asked."""

    def __int__(self) -> int:
        return 10**12


def test_a_number_is_read_once(model: engine.Model) -> None:
    """What is checked is what counts: kernels check no id."""
    sequence = model.sequence()
    for ids in ([0, Liar(5), 9], np.array([0, Liar(5), 9], object).tolist()):
        with pytest.raises(UsageError, match="outside the vocabulary"):
            sequence.feed(ids)
    sequence.feed([1, 2, 3])
    with pytest.raises(UsageError, match="cannot be cut"):
        sequence.truncate(Liar(2))
    assert sequence.ids == [1, 2, 3]
    with pytest.raises(UsageError, match="this model was made for"):
        engine.load(model.file.path, context=Liar(5))


def test_words_about_ids(model: engine.Model) -> None:
    for ids, word in (
        ([2**70], "outside the vocabulary"),
        (itertools.count(), "a count, but must be a list"),
        (range(10**9), "1000000000 tokens do not fit"),
        ([1, True], "hold True"),
    ):
        with pytest.raises(UsageError, match=word):
            model.logits(ids)  # type: ignore[arg-type]


def test_nothing_is_copied_before_it_is_counted() -> None:
    class Long(list[int]):
        def __len__(self) -> int:
            return 65

        def __iter__(self) -> Iterator[int]:
            raise AssertionError("it is read")

    with pytest.raises(UsageError, match="65 tokens do not fit in the context of 64"):
        token_ids(Long(), 512, 64)


@pytest.mark.parametrize(
    "options",
    [
        {"kv": []}, {"kv": np.ones(3)}, {"kv": 8}, {"act": np.array(["int8", "f32"])}, {"act": []},
        {"act": Hostile()}, {"progress": 3}, {"threads": 2.0}, {"threads": True}, {"threads": 2**70},
        {"threads": 10**5000}, {"threads": 10**9}, {"threads": np.ones(2)}, {"threads": "2"},
        {"context": True}, {"context": np.zeros(2)}, {"context": 10**5000}, {"context": "0"},
        {"context": 0.0},
    ],
)  # fmt: skip
def test_wrong_options(demo_file: Callable[[str], Path], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        engine.load(demo_file("q4"), **options)
    one_line(error)


@pytest.mark.parametrize(
    "path", [None, 3, b"a\0b", b"name", "a\0b", "\ud800", "\udc80.edgeq", "a\nb", [], Hostile()]
)
def test_wrong_paths(path: Any) -> None:
    with pytest.raises(UsageError) as error:
        engine.load(path)
    one_line(error)


def test_numbers_of_numpy(demo_file: Callable[[str], Path]) -> None:
    threads: Any = np.int64(2)
    with engine.load(demo_file("q4"), threads=threads, context=np.int64(64)) as model:  # type: ignore[arg-type]
        assert (model.threads, model.context) == (2, 64) and type(model.context) is int
        sequence = model.sequence()
        sequence.feed([1, 5, 7])
        sequence.truncate(np.int64(2))  # type: ignore[arg-type]
        assert sequence.ids == [1, 5]


@pytest.mark.parametrize("n", [None, -1, 4, 1.0, True, "1", 10**5000, [], np.ones(2)], ids=range(9))
def test_wrong_lengths(model: engine.Model, n: Any) -> None:
    sequence = model.sequence()
    sequence.feed([1, 5, 7])
    with pytest.raises(UsageError, match="of 3 tokens cannot be cut to") as error:
        sequence.truncate(n)
    one_line(error)
    assert sequence.ids == [1, 5, 7]


@pytest.mark.parametrize(
    "options", [{"progress": 3}, {"stop": 3}, {"stop": itertools.count()}, {"options": 3}, {"max_tokens": []}]
)
def test_wrong_options_of_a_generation(model: engine.Model, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        model.generate([1], **options)
    one_line(error)
    with pytest.raises(UsageError, match="progress is 3"):
        model.sequence().feed([1], progress=3)  # type: ignore[arg-type]


def test_a_model_that_was_never_loaded() -> None:
    model = engine.Model.__new__(engine.Model)
    model.close()
    with pytest.raises(UsageError, match="closed"):
        model.sequence()


def test_what_is_shown() -> None:
    assert shown("a\ud800\n") == r"'a\ud800\n'" and shown(10**5000) == "a int" and shown(Hostile())
    assert len(shown("x" * 10**6)) <= 40 and len(shown(list(range(10**6)))) <= 40
    assert [size(n) for n in (0, 999, 12_300)] == ["0 B", "999 B", "12.3 kB"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt_cache": 5}, "prompt_cache is 5, but must name a folder"),
        ({"prompt_cache": ""}, "prompt_cache is '', but must name a folder"),
        ({"prompt_cache_size": -1}, "prompt_cache_size is -1, but a positive whole number"),
        ({"prompt_cache_size": "1 GB"}, "prompt_cache_size is '1 GB', but a positive whole number"),
        ({"cache_memory": 0}, "cache_memory is 0, but a positive whole number"),
    ],
)
def test_where_prompts_are_kept(
    options: dict[str, Any], words: str, demo_file: Callable[[str], Path]
) -> None:
    with pytest.raises(UsageError, match=words) as error:
        engine.load(demo_file("q4"), threads=1, **options)
    one_line(error)
