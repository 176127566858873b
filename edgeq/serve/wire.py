"""What OpenAI's answers are made of: ids, times, errors, and the events of a stream."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec

from edgeq.serve.errors import ApiError

SSE = "text/event-stream; charset=utf-8"
PING = b": ping\n\n"  # a comment, which clients skip


def new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(12)}"


def now() -> int:
    return int(time.time())


def error_json(error: ApiError) -> dict[str, Any]:
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": {**told, **error.facts}}


def sse(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
