"""Several models of one server: their names, and what each may have of the memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from edgeq.cli.drafting import PROMPT
from edgeq.cli.hosted import check_aliases, check_draft, opened, share
from edgeq.errors import OutOfMemoryError, UsageError

NO_DRAFT = {"name": None, "most": 16, "least": 0, "p_min": 0.4}


def test_each_model_has_a_name_or_none_has() -> None:
    check_aliases((), 3)
    check_aliases(("a", "b"), 2)
    for aliases, count in ((("a",), 2), (("a", "b"), 1), (("",), 1), (("a\n",), 1), ((129 * "a",), 1)):
        with pytest.raises(UsageError, match="--alias"):
            check_aliases(aliases, count)


def test_a_small_model_guesses_for_one() -> None:
    check_draft(NO_DRAFT, 2)
    check_draft({**NO_DRAFT, "name": PROMPT}, 2)
    check_draft({**NO_DRAFT, "name": "small.edgeq"}, 1)
    with pytest.raises(UsageError, match="small.edgeq guesses for one model"):
        check_draft({**NO_DRAFT, "name": "small.edgeq"}, 2)


def test_models_share_what_memory_their_weights_leave(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(bytes(1000))
    assert share(paths, 10_000, None) == 1000  # an eighth of what is left
    assert share(paths, 10_000, 5000) == 2500
    with pytest.raises(OutOfMemoryError, match="2 models need 2 kB, but the machine has 1.5 kB"):
        share(paths, 1500, None)
    with pytest.raises(OutOfMemoryError, match="with their caches"):
        share(paths, 3000, 2000)


def test_the_memory_that_is_asked_for_is_what_caches_may_take(story: Path) -> None:
    options = {"context": None, "threads": 1, "kv": None, "act": "int8", "cache_memory": 8 << 20}
    with ExitStack() as stack:
        for count, each in ((1, 8 << 20), (2, 4 << 20)):
            loaded = opened([str(story)] * count, (), options, NO_DRAFT, quiet=True, stack=stack)
            assert [one.model.pool.limit for one in loaded] == count * [each]
            for one in loaded:
                one.model.close()
