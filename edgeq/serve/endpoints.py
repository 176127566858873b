"""Paths, and what answers each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.routing import Match, Route

from edgeq.serve.answer import Receive, Scope, Send
from edgeq.serve.errors import ApiError

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Errors = Callable[[ApiError, str], dict[str, Any]]  # of a dialect: the error, the request's id


class Endpoint:
    """A path, how it is answered, and in which dialect errors are told."""

    def __init__(self, path: str, methods: list[str], handler: Handler, errors: Errors) -> None:
        self.path, self.handler, self.errors = path, handler, errors
        self.route = Route(path, endpoint=_unused, methods=methods)


async def _unused(_: Any) -> Any:
    raise AssertionError("endpoints are called by App")


def endpoint_of(endpoints: Sequence[Endpoint], path: str, scope: dict[str, Any]) -> Endpoint:
    """What answers a path. ApiError 404 and 405."""
    allowed: set[str] = set()
    for endpoint in endpoints:
        match, child = endpoint.route.matches({**scope, "path": path, "root_path": ""})
        if match is Match.FULL:
            scope["path_params"] = child["path_params"]
            return endpoint
        if match is Match.PARTIAL:
            allowed |= endpoint.route.methods or set()
    if allowed:
        raise ApiError(
            405,
            f"{path[:80]} is asked with {' or '.join(sorted(allowed))}, not with {scope['method'][:16]}",
            code="method_not_allowed",
            headers={"allow": ", ".join(sorted(allowed))},
        )
    raise ApiError(404, f"there is nothing at {path[:80]!r}", code="not_found")
