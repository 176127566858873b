"""What clients send: taken down between the server and its application, and kept as goldens.

A golden is a file of requests by the name of the test that made them. What differs from machine to machine or
from call to call is left out, and long texts are cut, so that a client's own prompts are not copied here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
WRITES = bool(os.environ.get("EDGEQ_TEST_WRITE"))  # goldens are written anew

# headers that decide how a request is answered
HEADERS = (
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "api-key",
    "authorization",
    "content-type",
    "origin",
    "x-api-key",
)
TEXT_MAX = 120  # characters of a text that is kept whole
VARIES = (
    (re.compile(r"(call|toolu)_[0-9A-Za-z]{8,}"), r"\1_0"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "DATE"),
)

Sent = dict[str, Any]  # method, path, headers, and the body: JSON, or null for none


class Wire:
    """An ASGI application that hands everything on, and keeps what was sent in `seen`."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.seen: list[Sent] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body: list[bytes] = []
        sent = {"method": scope["method"], "path": scope["path"], "headers": headers_of(scope), "body": None}
        self.seen.append(sent)

        async def received() -> Any:
            message = await receive()
            if data := message.get("body"):
                body.append(data)
                if not message.get("more_body"):
                    sent["body"] = json.loads(b"".join(body))
            return message

        await self._app(scope, received, send)


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    found = {name.decode(): value.decode() for name, value in scope["headers"]}
    return {name: found[name] for name in HEADERS if name in found}


def kept(value: Any) -> Any:
    """A request as it is compared: without what varies."""
    if isinstance(value, dict):
        return {name: kept(each) for name, each in value.items()}
    if isinstance(value, list):
        return [kept(each) for each in value]
    if isinstance(value, str):
        for pattern, word in VARIES:
            value = pattern.sub(word, value)
        if len(value) > TEXT_MAX:
            return f"{value[:60]} ... and more"
    return value


def goldens() -> dict[str, dict[str, list[Sent]]]:
    """By file and test."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("*.json"))}


def check(client: str, test: str, seen: list[Sent]) -> None:
    """AssertionError where a test's requests are not those of its golden. The order in which requests come
    that are under way at once says nothing, so all are sorted."""
    path = GOLDEN / f"{client}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = sorted((kept(each) for each in seen), key=lambda each: json.dumps(each, sort_keys=True))
    if WRITES:
        known[test] = found
        path.write_text(
            json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    assert found == known.get(test), "the client sends other requests: EDGEQ_TEST_WRITE=1 keeps these"
