"""Pages promised to those who run, so that nobody is broken off for want of them."""

from __future__ import annotations

from edgeq.errors import UsageError, size
from edgeq.schedule.engine import Engine
from edgeq.schedule.requests import Request


class Promises:
    """Bytes of the pool that are promised. What a request could come to need is promised before it begins."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.promised = 0

    def need(self, request: Request) -> int:
        """Bytes of the pages that all texts of a request could come to hold: the first one's, and for each
        other what it does not share of the prompt, which is whole pages alone. A page that is shared in part,
        the prompt's last or that of a sequence that was given, is there until everyone has a copy."""
        bytes_of, prompt = self._engine.cache_bytes, request.prompt_tokens
        first, *others = [text.course.positions for text in request.texts]
        is_shared = request.given is not None or (others and prompt % self._engine.page_tokens)
        return (
            bytes_of(first)
            + sum(bytes_of(positions, prompt) for positions in others)
            + (bytes_of(self._engine.page_tokens) if is_shared else 0)
        )

    def check(self, request: Request) -> None:
        """UsageError for what could never begin."""
        need, limit = self.need(request), self._engine.pool.limit
        if need > limit:
            count, positions = len(request.texts), request.texts[0].course.positions
            raise UsageError(
                f"{'a prompt and its answer' if count == 1 else f'a prompt and {count} answers'} of up to "
                f"{positions} tokens need {size(need)} of cache, but the pool holds {size(limit)}: a smaller "
                "max_tokens, a shorter prompt or a larger pool is needed"
            )

    def make(self, request: Request) -> bool:
        """Promise a request what it needs; False where that is not free now."""
        need = self.need(request)
        if self.promised + need > self._engine.pool.limit:
            return False
        self.promised += need
        request.promised = need
        return True

    def end(self, request: Request) -> None:
        """What a request was promised is free again."""
        self.promised -= request.promised
        request.promised = 0
