"""What the hub's client could not do reaches the person: why, and how to go on."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from edgeq.hub import reasons


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
    "clock": (caused(failed("ConnectError"), failed("SSLError", OSError)), "check this machine's clock"),
    "cut": (failed("RemoteProtocolError", failed("TransportError").__class__), "the hub cut the connection;"),
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
    said = reasons.reason(error, "owner/name", "v2")
    assert words in said and "\n" not in said and "Client Error" not in said and len(said) < 250


def test_exceptions_that_cause_each_other() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    assert reasons.reason(first, "o/n", "main") == "first"
