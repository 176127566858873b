"""Kinds of KV cache: what they take, and that tables elsewhere have the same ones."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.cache import CacheShape
from edgeq.cli import kv
from edgeq.errors import UnsupportedError
from edgeq.kernels.catalog import CHUNK, FAR_PARTS, KERNELS
from edgeq.kvkinds import DEFAULT, KINDS, Kind, stored

BITS = {"q8": 8.625, "k8v4": 7, "q4": 5.28125, "q2": 3.28125, "f16": 16, "f32": 32}


def test_tables_have_the_same_kinds() -> None:
    assert list(KINDS) == list(kv.KINDS) == list(BITS) and DEFAULT in KINDS
    assert {*kv.WORDS.values(), *kv.PAIRS.values()} == set(KINDS)
    assert [name for name, kind in KINDS.items() if kind.experimental] == ["q2"]


@pytest.mark.parametrize(
    ("header", "kind"),
    [({}, "q8"), ({"cache": None}, "q8"), ({"cache": {}}, "q8"), ({"cache": {"kind": "f16"}}, "f16")],
)
def test_a_file_names_its_kind(header: dict[str, Any], kind: str) -> None:
    assert stored(header) == kind


def test_a_kind_that_is_none_is_refused() -> None:
    for kind in ("q9", 4, None):
        with pytest.raises(UnsupportedError, match="this version knows q8, k8v4, q4, q2, f16, f32"):
            stored({"cache": {"kind": kind}})


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_bits(kind: Kind) -> None:
    """A number of a head of 128, its scales included."""
    assert kind.bits == BITS[kind.name]


@pytest.mark.parametrize("name", ["q8", "f16", "f32"])
def test_near_pages_are_what_a_cache_holds(name: str) -> None:
    shape = CacheShape.of(name, 3, 2, 80, CHUNK)
    assert KINDS[name].near_parts(2, shape.dims) == shape.parts == KINDS[name].far_parts(2, shape.dims)
    assert KINDS[name].context_bytes(3, 2, 80, 5 * CHUNK) == 5 * shape.nbytes


def test_first_pages_are_near() -> None:
    """Until there are four pages, a kind with far pages takes what its near form does."""
    q4, q8 = KINDS["q4"], KINDS["q8"]
    sizes = [q4.context_bytes(3, 2, 80, n * CHUNK) for n in range(6)]
    assert sizes[:4] == [q8.context_bytes(3, 2, 80, n * CHUNK) for n in range(4)]
    near, far = q4.page_bytes(3, 2, 96)
    assert sizes[5] - sizes[4] == sizes[4] - sizes[3] == far < near
    assert 0 <= q4.token_bytes(3, 2, 80) * CHUNK - far < CHUNK
    assert q4.context_bytes(3, 2, 80, 4 * CHUNK + 1) == sizes[5]


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.has_far], ids=str)
def test_far_pages_are_what_kernels_write(kind: Kind) -> None:
    """Besides what is copied from the near page."""
    written = [part for part in kind.far_parts(1, 32) if part not in ("keys", "key_scales")]
    assert tuple(written) == FAR_PARTS[kind.suffix]
    assert all(kind.scheme in KERNELS[f"{name}{kind.suffix}"].schemes for name in ("narrow", "attend_coded"))
    assert kind.keys in ("", kind.values)  # one scheme is what a kernel is compiled for
