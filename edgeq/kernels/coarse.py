"""Queries as bytes, for products with far pages: behind a query's numbers of 16 bits and their scale, in the
same row (`cache`), lie a float32 scale and two int16 sums for each 32 dimensions, and the bytes.
"""

from __future__ import annotations

from edgeq.simd.tag import Tag
from edgeq.simd.verbs import load_f32, native
from edgeq.simd.verbs.facts import fact

from .activations import quantize_group

NEAR = "q8"


@fact
def has_far(tag: Tag) -> int:
    """Whether the cache has far pages, in the tag's scheme."""
    return int(tag.scheme != NEAR)


@native
def query_scales(q, groups):
    """Where the scales of the query at q lie; the sums and the bytes follow."""
    return q + groups * 64 + 4


@native
def store_coarse(a, q, dims):
    """The turned query a [dims] as bytes into its row q."""
    groups = dims // 32
    scales = query_scales(q, groups)
    sums = scales + groups * 4
    x = sums + groups * 4
    for g in range(groups):
        p = a + g * 128
        quantize_group(load_f32(p), load_f32(p + 64), x + g * 32, scales + g * 4, sums + g * 4)
