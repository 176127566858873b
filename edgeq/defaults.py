"""What a model is opened with where nobody says."""

from __future__ import annotations

from typing import Any

from edgeq import arguments
from edgeq.cache import Plan
from edgeq.cores import free_memory
from edgeq.errors import UsageError, shown

CONTEXT_DEFAULT = 8192  # unless the model ends earlier


def context_of(config: Any, context: int | None) -> int:
    """Positions of a sequence at the most, from what was asked for: 0 is all that the model has. UsageError
    for more than that."""
    most: int = config.max_position_embeddings
    if context is None:
        return min(most, CONTEXT_DEFAULT)
    if arguments.is_int(context) and context == 0:
        return most
    wanted = arguments.whole("context", context)
    if wanted > most:
        raise UsageError(
            f"context is {shown(context)}, but this model was made for at most {most} positions."
        )
    return wanted


def cache_memory_of(plan: Plan) -> int:
    """Bytes of the caches of all sequences."""
    free = free_memory()
    return max(plan.page_bytes, min(plan.context_bytes, free), free // 4)
