"""Why the hub gave nothing, in one sentence that ends with what to do, and what is worth another try."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterator

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
AGAIN = "what was fetched so far is kept for the next try"
# Kinds of exceptions, by name so that any version of the client will do; the first row that fits counts.
CLIENT: tuple[tuple[tuple[str, ...], str], ...] = (
    (("GatedRepoError",), f"it is gated: ask for access at {{page}}, then {LOG_IN}"),
    (("DisabledRepoError",), "it is disabled there; another repository is needed"),
    (("RevisionNotFoundError",), "it has no revision {revision!r}; {page} lists its branches and tags"),
    (("RepositoryNotFoundError",), f"it was not found there; check the name, and if it is private, {LOG_IN}"),
    (("LocalTokenNotFoundError",), f"no token was found; {LOG_IN}"),
    (("OfflineModeIsEnabled",), "it is not in the hub's cache and HF_HUB_OFFLINE keeps the client offline; "
     "unset HF_HUB_OFFLINE, or name a directory"),
    (("UnicodeEncodeError", "LocalProtocolError"), f"the token has letters that no token has; {LOG_IN}"),
    (("ProxyError",),
     f"the hub cannot be reached through the proxy; check HTTPS_PROXY and try again, {AGAIN}"),
    (("TimeoutException", "TimeoutError"),
     f"the hub cannot be reached: it does not answer; check the connection and try again, {AGAIN}"),
    (("RemoteProtocolError", "ReadError", "WriteError", "Cut"),
     f"the hub cut the connection; try again, {AGAIN}"),
    (("SSLError",),
     "the hub's certificate is not accepted; check this machine's clock, then who runs the network"),
    (("TransportError", "ConnectError", "ConnectionError"),
     f"the hub cannot be reached (offline?); check the connection and try again, {AGAIN}"),
)  # fmt: skip
STATUS: tuple[tuple[Collection[int], str], ...] = (
    ((401, 403), f"the hub refuses the token or wants one (status {{status}}); {LOG_IN}"),
    (
        (404, 410),
        "the hub has nothing there (status {status}); check name and revision, and HF_ENDPOINT if set",
    ),
    ((429,), f"too many requests (status {{status}}); wait {{wait}} and try again, {AGAIN}"),
    (range(500, 600), f"the hub has trouble (status {{status}}); try again later, {AGAIN}"),
)
FULL = "the disk is full at {file}; make room, or set HF_HOME to a directory on another disk"
SYSTEM = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EACCES: "{file} cannot be written; set HF_HOME to a directory that can",
    errno.EROFS: "{file} cannot be written; set HF_HOME to a directory that can",
}
WAITS = {  # headers, and where in them the seconds are
    "Retry-After": re.compile(r"(\d{1,6})", re.ASCII),
    "RateLimit": re.compile(r"[^;]*;\s*r=0;\s*t=(\d{1,6})", re.ASCII),
}
FIRST_PAUSE_S = 1.0  # before the second try; twice that before the third
PASSING = ("TransportError", "ConnectionError", "TimeoutError")  # kinds of what may be over a second later
PASSING_STATUS = (408, 429, 500, 502, 503, 504)


def reason(
    error: BaseException, repository: str, revision: str, endpoint: str = "https://huggingface.co"
) -> str:
    """Why the hub's client failed, and how to go on."""
    found = list(chain(error))
    kinds = kinds_of(error)
    words = {"page": f"{endpoint}/{repository}", "revision": revision}
    for one in found:
        if isinstance(one, OSError) and one.errno in SYSTEM:
            return SYSTEM[one.errno].format(file=one.filename or "the cache")
    for names, sentence in CLIENT:
        if kinds.intersection(names):
            return sentence.format(**words)
    status = status_of(error)
    for codes, sentence in STATUS:
        if status in codes:
            seconds = retry_after(error)
            wait = "a few minutes" if seconds is None else f"{seconds} s"
            return sentence.format(status=status, wait=wait, **words)
    said = " ".join(str(error).split())
    return said[:160] or type(error).__name__


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it came of."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        yield one
        one = one.__cause__ or one.__context__


def kinds_of(error: BaseException) -> set[str]:
    """The names of the classes of an exception and of those that it came of."""
    return {kind.__name__ for one in chain(error) for kind in type(one).__mro__}


def status_of(error: BaseException) -> int | None:
    """The HTTP status of the answer that an exception carries."""
    codes = (getattr(getattr(one, "response", None), "status_code", None) for one in chain(error))
    return next((code for code in codes if code is not None), None)


def retry_after(error: BaseException) -> int | None:
    """The seconds that the hub's answer asks to wait, in either of the headers that say so."""
    for one in chain(error):
        headers = getattr(getattr(one, "response", None), "headers", None) or {}
        for name, form in WAITS.items():
            if found := form.fullmatch(str(headers.get(name, ""))):
                return int(found[1])
    return None


def pause(error: BaseException, tries: int) -> float | None:
    """Seconds to wait before another try, after so many; None where another would end the same."""
    kinds, status = kinds_of(error), status_of(error)
    if status in PASSING_STATUS:
        asked = retry_after(error)
        return FIRST_PAUSE_S * 2 ** (tries - 1) if asked is None else float(asked)
    passing = (
        status is None and kinds.intersection(PASSING) and not kinds.intersection(("OfflineModeIsEnabled",))
    )
    return FIRST_PAUSE_S * 2 ** (tries - 1) if passing else None
