"""What the hub's client could not do reaches the person: why, and how to go on."""

from __future__ import annotations

import errno
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeq.converters import hub
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parents[2]


def failed(name: str, *bases: type[BaseException], status: int | None = None) -> BaseException:
    """An exception of a class of that name, as the client's are known here, with an answer of the server."""
    error = type(name, bases or (Exception,), {})("401 Client Error. (Request ID: x)\n\nlong and technical")
    if status is not None:
        error.response = SimpleNamespace(status_code=status)
    return error


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


MISSING = failed("RepositoryNotFoundError").__class__
OFFLINE = failed("OfflineModeIsEnabled", ConnectionError)
LOCAL = failed("LocalEntryNotFoundError", FileNotFoundError)
HTTP = "HfHubHTTPError"
SLOW = type("TimeoutException", (Exception,), {})
REASONS: dict[str, tuple[BaseException, str]] = {
    "gated": (failed("GatedRepoError", MISSING, status=401), "it is gated: ask for access at https://hugg"),
    "missing": (failed("RepositoryNotFoundError", status=404), "it was not found there; check the name"),
    "revision": (failed("RevisionNotFoundError", status=404), "it has no revision 'v2'"),
    "disabled": (failed("DisabledRepoError", status=403), "it is disabled"),
    "no token": (failed("LocalTokenNotFoundError", OSError), "no token was found; log in with"),
    "offline by wish": (caused(LOCAL, OFFLINE), "HF_HUB_OFFLINE keeps the client offline"),
    "no network": (caused(LOCAL.__class__(), failed("ConnectError")), "cannot be reached (offline?); check"),
    "proxy": (failed("ProxyError"), "the hub cannot be reached"),
    "slow": (failed("ReadTimeout", TimeoutError, SLOW), "the hub cannot be reached"),
    "forbidden": (failed(HTTP, OSError, status=403), "(status 403); log in with"),
    "too many": (failed(HTTP, OSError, status=429), "too many requests"),
    "down": (failed(HTTP, OSError, status=503), "the hub has trouble (status 503); try again later"),
    "full": (OSError(errno.ENOSPC, "No space", "/cache/x"), "the disk is full at /cache/x; make room"),
    "read-only": (OSError(errno.EROFS, "Read-only", "/x"), "/x cannot be written; set HF_HOME"),
    "other": (ValueError("something\n else"), "something else"),
    "silent": (ValueError(), "ValueError"),
}


@pytest.mark.parametrize("name", REASONS)
def test_reason(name: str) -> None:
    error, words = REASONS[name]
    said = hub.reason(error, "owner/name", "v2")
    assert words in said and "\n" not in said and "Client Error" not in said and len(said) < 250


def test_exceptions_that_cause_each_other() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    assert hub.reason(first, "o/n", "main") == "first"


class Answers(http.server.BaseHTTPRequestHandler):
    """A hub that refuses everything, as the real one does."""

    REFUSALS = {
        "gated": (401, "GatedRepo", "Access to model o/gated is restricted. Log in."),
        "missing": (404, "RepoNotFound", "Repository not found"),
        "revision": (404, "RevisionNotFound", "Invalid rev id: nope"),
        "down": (500, "", ""),
    }

    def do_GET(self) -> None:
        code, kind, why = next(answer for word, answer in self.REFUSALS.items() if word in self.path)
        self.send_response(code)
        for key, value in (("X-Error-Code", kind), ("X-Error-Message", why), ("Content-Length", "0")):
            self.send_header(key, value)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


ASK = """
import sys
from edgeq.converters.hub import open_hub
from edgeq.errors import UnsupportedError
for name in sys.argv[1:]:
    try:
        open_hub(name)
    except UnsupportedError as error:
        print(error)
"""


def test_with_the_client_itself(server: str, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    names = ["o/gated", "o/missing", "o/revision@nope", "o/down"]
    env = {**os.environ, "HF_ENDPOINT": server, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        env.pop(proxy, None)
    command = [sys.executable, "-c", ASK, *names]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=STUCK_S)
    said = done.stdout.splitlines()
    words = ["it is gated", "it was not found there", "it has no revision 'nope'", "the hub"]
    assert len(said) == 4, done.stderr
    assert all(word in line for word, line in zip(words, said, strict=True)), said
    env["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(
        [*command[:3], "o/n"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=STUCK_S
    )
    assert "HF_HUB_OFFLINE keeps the client offline" in done.stdout, done.stderr
