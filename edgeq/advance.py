"""One pass over several sequences of a model."""

from __future__ import annotations

from collections.abc import Sequence as Ids
from typing import TYPE_CHECKING

import numpy as np

from edgeq import arguments
from edgeq.errors import UsageError
from edgeq.ownership import Turn
from edgeq.passes import Fed, Part
from edgeq.sequence import Cancelled, Sequence, run_pass, wanted_of

if TYPE_CHECKING:
    from edgeq.engine import Model


def advance(model: Model, parts: Ids[Part], *, rows: bool, cancelled: Cancelled | None) -> list[Fed]:
    """What `Model.advance` says."""
    arguments.callback("cancelled", cancelled)
    checked = []
    for part in parts:
        ids = arguments.token_ids(part.ids, model.vocab_size, model.context)
        checked.append((part.sequence, ids, wanted_of(part.wanted, len(ids))))
    check(model, checked, model.pass_tokens if rows else model.pass_outputs)
    turn = Turn("the sequence is being fed")
    try:
        for sequence, ids, _ in checked:
            sequence._calls.claim(turn, "be fed")
            sequence._check_open()
            sequence._check_room(len(ids))
        pieces = [pieces_of(*part) for part in checked]
        fed: list[list[Fed]] = [[] for _ in pieces]
        for n in range(max(map(len, pieces))):
            now = [(own[n], all) for own, all in zip(pieces, fed, strict=True) if n < len(own)]
            found = run_pass(model, [piece for piece, _ in now], cancelled, rows)
            for (_, some), one in zip(now, found, strict=True):
                some.append(one)
        return [some[0] if len(some) == 1 else joined(some) for some in fed]
    finally:
        turn.over = True


def check(model: Model, parts: Ids[tuple[Sequence, np.ndarray, int]], most: int) -> None:
    """UsageError where the parts are no pass."""
    sequences = [sequence for sequence, _, _ in parts]
    if any(not isinstance(sequence, Sequence) or sequence.model is not model for sequence in sequences):
        raise UsageError("a pass of this model is over sequences that it made.")
    if len({id(sequence) for sequence in sequences}) < len(sequences) or not sequences:
        raise UsageError("a pass is over at least one sequence, and over none twice.")
    count, outputs = sum(len(ids) for _, ids, _ in parts), sum(wanted for _, _, wanted in parts)
    if count > model.pass_tokens or outputs > most:
        raise UsageError(
            f"{count} ids with the logits of {outputs} are more than a pass of {model.pass_tokens} with "
            f"those of {most}."
        )


def pieces_of(sequence: Sequence, ids: np.ndarray, wanted: int) -> list[tuple[Sequence, np.ndarray, int]]:
    """What a sequence is fed in one pass, or where it goes beyond a chunk that it may not in one after the
    other.
    """
    at = sequence.pass_room
    if at >= len(ids):
        return [(sequence, ids, wanted)]
    rest = len(ids) - at
    return [(sequence, ids[:at], max(0, wanted - rest)), (sequence, ids[at:], min(wanted, rest))]


def joined(fed: Ids[Fed]) -> Fed:
    """What came of pieces, one after another."""
    return Fed(*map(np.concatenate, zip(*fed, strict=True)))
