"""What is taken from logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.kernels.catalog import Batch

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder


def argmax(p: Recorder, logits: Rows) -> None:
    """Where the largest of each row of the logits, [outputs, vocabulary], stands, into `p.likeliest`."""
    p.emit("argmax", y=logits, likeliest=p.likeliest, count_at=Batch.OUTPUTS)
