"""The server's own page: the files of `web`, sent under rules by which nothing else is loaded."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from edgeq.serve.answer import Receive, Scope, Send, headers_of, start
from edgeq.serve.errors import ApiError

TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",  # asked for each time, and sent where it has changed
}


@dataclass(frozen=True)
class File:
    media: str
    whole: bytes
    packed: bytes
    digest: str


@cache
def pages() -> dict[str, File]:
    """The files by their names."""
    found = {}
    for each in files("edgeq.serve").joinpath("web").iterdir():
        media = TYPES.get(each.name.rpartition(".")[2])
        if media is not None:
            data = each.read_bytes()
            digest = hashlib.sha256(data).hexdigest()[:32]
            found[each.name] = File(f"{media}; charset=utf-8", data, gzip.compress(data, mtime=0), digest)
    return found


def wants_page(headers: Mapping[str, str]) -> bool:
    """Whether it is a browser that asks, and not a client of ollama that looks whether somebody is there."""
    return "text/html" in headers.get("accept", "")


def page_answer(file: File, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for one file."""
    packs = any(
        word.strip() in ("gzip", "gzip;q=1", "gzip;q=1.0")
        for word in headers.get("accept-encoding", "").lower().split(",")
    )
    tag = f'"{file.digest}{"-gzip" if packs else ""}"'
    found = {**HEADERS, "etag": tag, "vary": "Accept, Accept-Encoding"}
    known = [word.strip().removeprefix("W/") for word in headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return 304, found, b""
    body = file.packed if packs else file.whole
    if packs:
        found["content-encoding"] = "gzip"
    return 200, {**found, "content-type": file.media, "content-length": str(len(body))}, body


async def root(scope: Scope, receive: Receive, send: Send) -> None:
    """The page, for browsers; else what clients of ollama ask to see whether somebody is there."""
    if wants_page(headers_of(scope)):
        await _send("index.html", scope, send)
        return
    text = b"edgeq is running\n"
    found = {"content-type": "text/plain", "content-length": str(len(text)), "vary": "Accept"}
    await start(send, 200, found)
    await send({"type": "http.response.body", "body": text})


async def file(scope: Scope, receive: Receive, send: Send) -> None:
    """A file of the page."""
    await _send(scope["path_params"]["name"], scope, send)


async def _send(name: str, scope: Scope, send: Send) -> None:
    found = pages().get(name)
    if found is None:
        raise ApiError(404, f"the page has no file {name[:80]!r}", code="not_found")
    status, headers, body = page_answer(found, headers_of(scope))
    await start(send, status, headers)
    await send({"type": "http.response.body", "body": body})
