"""What kernels read of a pass's batch: see `catalog.Batch`."""

from __future__ import annotations

from edgeq.simd.verbs import native, peek_i64

from .catalog import CHUNK, QUERIES, Batch

OUTPUTS, ROWS, WANTED, SEGMENT = Batch.OUTPUTS, Batch.ROWS, Batch.WANTED, Batch.SEGMENT
SEGMENTS, SEGMENT_BYTES = Batch.SEGMENTS, Batch.SEGMENT_BYTES
POSITION, PAGES, ROW_BYTES, WANTED_BYTES = Batch.POSITION, Batch.PAGES, Batch.ROW_BYTES, Batch.WANTED_BYTES
FIRST, LENGTH, START = Batch.FIRST, Batch.LENGTH, Batch.START
OLD_STATE, NEW_STATE = Batch.OLD_STATE, Batch.NEW_STATE
ALL = 1 << 40  # more queries than any pass has


@native
def counted_row(batch, count_at, n):
    """The n-th row of those whose number stands at count_at: of all, or of the outputs."""
    if count_at == OUTPUTS:
        return peek_i64(peek_i64(batch + WANTED) + n * WANTED_BYTES)
    return n


@native
def position_of(batch, n):
    """The position of row n in its sequence."""
    return peek_i64(peek_i64(batch + ROWS) + n * ROW_BYTES + POSITION)


@native
def page_of(pages, position):
    """The page of a position, of those listed at `pages`."""
    return peek_i64(pages + position // CHUNK * 8)


@native
def page_of_row(batch, n, pages_at):
    """The page of row n, in its sequence's list of pages that begins at pages_at."""
    row = peek_i64(batch + ROWS) + n * ROW_BYTES
    return page_of(peek_i64(row + PAGES) + pages_at, peek_i64(row + POSITION))


# ---- blocks: up to QUERIES queries that share a key-value head, of one segment ----
@native
def blocks_of(segment, share):
    """How many a segment has, where so many queries of a row share a head."""
    return (peek_i64(segment + LENGTH) * share + QUERIES - 1) // QUERIES


@native
def blocks_in(batch, share):
    """How many the pass has."""
    total, segment = 0, peek_i64(batch + SEGMENT)
    for _ in range(peek_i64(batch + SEGMENTS)):
        total += blocks_of(segment, share)
        segment += SEGMENT_BYTES
    return total


@native
def block_at(batch, share, n):
    """The segment of the pass's n-th block, and the first and last + 1 of its queries: query h of the pass's
    row r is the r * share + h-th.
    """
    segment = peek_i64(batch + SEGMENT)
    while n >= blocks_of(segment, share):
        n -= blocks_of(segment, share)
        segment += SEGMENT_BYTES
    first = peek_i64(segment + FIRST)
    begin = first * share + n * QUERIES
    return segment, begin, min(begin + QUERIES, (first + peek_i64(segment + LENGTH)) * share)


@native
def reach(segment, share, whole):
    """(zero, each): the pass's query n, of `share` of a row, sees the positions of its segment's sequence up
    to zero + n // each. That is its own, and where `whole` is not 0 the segment's last.
    """
    first = peek_i64(segment + FIRST)
    zero = peek_i64(segment + START) - first  # the position that row 0 would have, were it of the segment
    if whole != 0:
        return zero + first + peek_i64(segment + LENGTH) - 1, ALL
    return zero, share


# ---- what recurrent layers keep: a worker takes a part of a layer's columns, of one segment ----
@native
def segment_of(batch, n):
    """The n-th segment."""
    return peek_i64(batch + SEGMENT) + n * SEGMENT_BYTES


@native
def states_of(segment, at):
    """(old, new): where a layer's numbers are before the pass, 0 where there are none yet, and where those
    behind it go; `at` is their place on a page.
    """
    old = peek_i64(segment + OLD_STATE)
    return old + at if old != 0 else 0, peek_i64(segment + NEW_STATE) + at
