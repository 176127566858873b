"""A hub on this machine: it answers as huggingface.co does to what edgeq asks, and goes wrong on request."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

LFS = (".safetensors", ".gguf", ".edgeq", ".model", ".bin")  # what large file storage keeps


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repository:
    """Files by name, and what branches are called."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)

    @property
    def commit(self) -> str:
        tree = sorted((name, git_sha1(data)) for name, data in self.files.items())
        return hashlib.sha1(repr(tree).encode()).hexdigest()

    def listing(self) -> dict[str, Any]:
        return {
            "id": "o/n",
            "sha": self.commit,
            "private": False,
            "siblings": [self._sibling(name, data) for name, data in self.files.items()],
        }

    @staticmethod
    def _sibling(name: str, data: bytes) -> dict[str, Any]:
        row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
        if name.endswith(LFS):
            row["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            row["blobId"] = git_sha1(b"version https://git-lfs.github.com/spec/v1 ...")
        return row


@dataclass
class Hub:
    """What the server has, what it does wrong, and what it was asked. Faults are by a word in the path."""

    port: int
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    refuse: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)  # status and headers
    cut: dict[str, list[int]] = field(default_factory=dict)  # bytes after which each answer ends
    spoil: set[str] = field(default_factory=set)  # other bytes than promised
    silent: set[str] = field(default_factory=set)  # no answer
    junk: dict[str, bytes] = field(default_factory=dict)  # an answer of something else
    ranges: bool = True  # whether it goes on in the middle of a file
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self, word: str = "") -> list[str]:
        return [path for _, path, _ in self.asked if word in path]

    def starts(self, word: str) -> list[str]:
        """The ranges that were asked for of a file's bytes."""
        return [head.get("range", "") for _, path, head in self.asked if word in path and "/bytes/" in path]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True
    hub: Hub

    def do_GET(self) -> None:
        self.hub.asked.append(
            (self.command, unquote(self.path), {key.lower(): value for key, value in self.headers.items()})
        )
        path = unquote(urlsplit(self.path).path)
        if any(word in path for word in self.hub.silent):
            self.hub.closing.wait()
            self.close_connection = True
            return
        for word, (status, headers) in self.hub.refuse.items():
            if word in path:
                return self.answer(status, b"", headers)
        for word, data in self.hub.junk.items():
            if word in path:
                return self.answer(200, data)
        words = path.strip("/").split("/")
        if words[:2] == ["api", "models"] and words[4:5] == ["revision"]:
            return self.model("/".join(words[2:4]), "/".join(words[5:]))
        if words[2:3] == ["resolve"]:
            return self.resolve("/".join(words[:2]), words[3], "/".join(words[4:]))
        if words[:1] == ["bytes"]:
            return self.content("/".join(words[1:3]), "/".join(words[3:]))
        return self.answer(404, b"")

    do_HEAD = do_GET

    def repository(self, name: str, revision: str) -> Repository | None:
        """The repository, or None after a refusal as the hub's."""
        found = self.hub.repositories.get(name)
        if found is None:  # the hub does not tell what is missing from what is private
            self.answer(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return None
        if revision not in (*found.revisions, found.commit):
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return None
        return found

    def model(self, name: str, revision: str) -> None:
        if found := self.repository(name, revision):
            self.answer(200, json.dumps(found.listing()).encode(), {"Content-Type": "application/json"})

    def resolve(self, name: str, revision: str, file: str) -> None:
        """Large files are elsewhere, on a host that must not get the token; small ones are here."""
        if not (found := self.repository(name, revision)):
            return
        if file not in found.files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.commit})
        data = found.files[file]
        place, headers = f"/bytes/{name}/{file}", {"X-Repo-Commit": found.commit}
        if file.endswith(LFS):
            headers |= {"X-Linked-ETag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
            return self.answer(302, b"", headers | {"Location": f"http://localhost:{self.hub.port}{place}"})
        return self.answer(307, b"", headers | {"ETag": f'"{git_sha1(data)}"', "Location": place})

    def content(self, name: str, file: str) -> None:
        data = self.hub.repositories[name].files[file]
        if any(word in file for word in self.hub.spoil):
            data = bytes(255 - byte for byte in data)
        start, total = 0, len(data)
        asked = self.headers.get("Range", "")
        if asked and self.hub.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= total:
                return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
        status, headers = 200, {"Accept-Ranges": "bytes"}
        if start:
            status, headers = 206, {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        for word, cuts in self.hub.cut.items():
            if word in file and cuts:
                self.close_connection = True
                return self.answer(status, data[start:], headers, cuts.pop(0))
        return self.answer(status, data[start:], headers)

    def answer(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, sent: int | None = None
    ) -> None:
        """An answer whose connection ends after `sent` bytes."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])

    def log_message(self, *_: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no news."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that runs in threads of this process."""
    handler = type("Handler", (Handler,), {})
    with Server(("127.0.0.1", 0), handler) as server:
        hub = handler.hub = Hub(server.server_port)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.closing.set()
            server.shutdown()
            thread.join()
