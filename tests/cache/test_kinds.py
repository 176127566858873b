"""Kinds of KV cache: what they take, and that tables elsewhere have the same ones."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.cache import DEFAULT, KINDS, Kind, LayerShape, Plan, stored
from edgeq.cli import kv
from edgeq.errors import UnsupportedError
from edgeq.kernels.catalog import CHUNK
from edgeq.kernels.rows_attention import FAR_PARTS
from edgeq.kernels.table import KERNELS

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


def plan_of(kind: str, context: int = 10 * CHUNK) -> Plan:
    return Plan.of(KINDS[kind], context, [LayerShape(2, 80)] * 3)


@pytest.mark.parametrize("name", ["q8", "f16", "f32"])
def test_a_kind_without_far_pages(name: str) -> None:
    plan = plan_of(name)
    assert plan.page_bytes == 3 * sum(KINDS[name].near_parts(2, 80).values())
    assert plan.bytes_for(5 * CHUNK) == plan.bytes_for(4 * CHUNK + 1) == 5 * plan.page_bytes
    assert plan.token_bytes * CHUNK == plan.page_bytes and plan.near_bytes == 0


def test_first_pages_are_near() -> None:
    """Until there are four pages, a kind with far pages takes what its near form does; then one more stays
    near for a while beside the far one that was made of it, and another until the pass into the next page.
    """
    q4, q8 = plan_of("q4"), plan_of("q8")
    sizes = [q4.bytes_for(n * CHUNK) for n in range(9)]
    assert sizes[:4] == [q8.bytes_for(n * CHUNK) for n in range(4)]
    near, far = q4.page_bytes, q4.groups[0].far_bytes
    assert sizes[5] - sizes[4] == sizes[4] - sizes[3] == near + far
    assert sizes[7] - sizes[6] == sizes[6] - sizes[5] == far < near
    assert 0 <= q4.token_bytes * CHUNK - far < CHUNK
    assert abs(q4.near_bytes + q4.token_bytes * 8 * CHUNK - (sizes[8] - near)) < 8 * CHUNK


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.has_far], ids=str)
def test_far_pages_are_what_kernels_write(kind: Kind) -> None:
    written = list(kind.far_parts(1, 32))
    assert tuple(written) == FAR_PARTS[kind.suffix]
    assert all(kind.scheme in KERNELS[f"{name}{kind.suffix}"].schemes for name in ("narrow", "attend_coded"))
    assert kind.keys in ("", kind.values)  # one scheme is what a kernel is compiled for
