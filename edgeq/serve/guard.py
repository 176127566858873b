"""Who may ask: the names a server answers to, the pages that may call it, and keys.

A browser on any page of the web can send requests to a server on the same machine. It names the server it
means (Host) and, where it matters, the page it comes from (Origin); so both are looked at before anything
else, whatever the method.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.errors import UsageError
from edgeq.serve.errors import ApiError

KEY_CHARS_MAX = 512
OPEN = frozenset(["/health", "/v1/health"])  # answered without a key
FILES = "/web/"  # of the page, in which nothing is secret
METHODS = "GET, HEAD, POST, OPTIONS"


class Keys:
    """The keys of which a request must have one; none at all lets everybody in.

    Only digests are kept, and all of them are compared each time, so that how long it takes tells nothing.
    """

    def __init__(self, given: Iterable[str] = (), file: str | os.PathLike[str] | None = None) -> None:
        self._given, self._file = list(given), None if file is None else Path(file)
        self._digests: list[bytes] = []
        self.load()

    def load(self) -> None:
        """Read the file anew. UsageError where it cannot be taken; the keys stay what they were then."""
        keys = [*self._given, *(keys_of(self._file) if self._file is not None else ())]
        for key in keys:
            if not key or len(key) > KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
                raise UsageError(
                    f"a key must be 1 to {KEY_CHARS_MAX} printable ASCII characters, but one is not"
                )
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def knows(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        found = False
        for each in self._digests:
            found |= hmac.compare_digest(each, digest)
        return found


def keys_of(path: Path) -> list[str]:
    """The keys in a file, one a line. UsageError for a file that others can read, and for none."""
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1 << 20)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the file of keys {path} cannot be read: {error}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"the file of keys {path} can be read by others: chmod 600 {path}")
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"the file of keys {path} has no key: one a line is expected")
    return keys


@dataclass
class Guard:
    """hosts: names that the server answers to besides IP addresses and localhost. origins: pages that may
    call it from elsewhere, such as http://localhost:3000; "*" for all. unix: behind a socket in the file
    system, where there are no browsers."""

    keys: Keys = field(default_factory=Keys)
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    unix: bool = False
    pages: frozenset[str] = frozenset(["/"])

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers that an answer must have. ApiError for who may not ask."""
        self._host(headers.get("host"))
        found = self._origin(method, path, headers)
        is_open = path in OPEN or path in self.pages or path.startswith(FILES)
        if self.keys and not is_open and method != "OPTIONS":
            self._key(headers)
        return found

    def salt(self, headers: Mapping[str, str]) -> str:
        """What parts those who have different keys: how fast a prompt is read tells none of them what
        another asked."""
        key = key_of(headers)
        return hashlib.sha256(f"salt {key}".encode()).hexdigest()[:32] if self.keys and key else ""

    def _host(self, host: str | None) -> None:
        if self.unix or self.keys or (host is not None and self._is_known(host)):
            return
        name = "no name" if host is None else f"the name {host[:80]!r}"
        raise ApiError(
            403,
            f"the server was asked under {name}, which it does not answer to; "
            "--allowed-host NAME lets it, at its start",
            code="host_not_allowed",
        )

    def _is_known(self, host: str) -> bool:
        name = name_of(host)
        if name is None:
            return False
        if name == "localhost" or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _origin(self, method: str, path: str, headers: Mapping[str, str]) -> dict[str, str]:
        origin = headers.get("origin")
        if origin is None:
            is_visit = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            if headers.get("sec-fetch-site") == "cross-site" and not (is_visit and path in self.pages):
                raise self._foreign("another site")
            return {}
        host = headers.get("host", "").lower()
        if origin.lower() in (f"http://{host}", f"https://{host}"):
            return {}
        if origin not in self.origins and "*" not in self.origins:
            raise self._foreign(origin[:80])
        found = {"access-control-allow-origin": origin, "vary": "Origin"}
        if method == "OPTIONS":
            asked = headers.get("access-control-request-headers", "")
            found |= {"access-control-allow-methods": METHODS, "access-control-max-age": "600"}
            if asked and len(asked) < 1024 and asked.isascii() and asked.isprintable():
                found["access-control-allow-headers"] = asked
        return found

    @staticmethod
    def _foreign(who: str) -> ApiError:
        return ApiError(
            403,
            f"a page of {who!r} may not ask this server; --cors-origin URL lets it, at the server's start",
            code="origin_not_allowed",
        )

    def _key(self, headers: Mapping[str, str]) -> None:
        key = key_of(headers)
        if key is None:
            raise ApiError(
                401,
                "a key is needed: as Authorization: Bearer KEY, or as x-api-key",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        if not self.keys.knows(key):
            raise ApiError(
                401,
                "the key is none of the server's",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


def name_of(host: str) -> str | None:
    """The name in a Host header, without its port; None for what is none."""
    host = host.strip().lower()
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not (port[0] == ":" and port[1:].isdecimal())):
            return None
        return name
    name, colon, port = host.partition(":")
    if colon and not (port.isascii() and port.isdecimal()):
        return None
    return name.removesuffix(".") or None


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key of a request; None where there is none, or an empty one."""
    kind, _, key = headers.get("authorization", "").strip().partition(" ")
    if kind.lower() == "bearer" and key.strip():
        return key.strip()
    for name in ("x-api-key", "api-key"):
        if headers.get(name, "").strip():
            return headers[name].strip()
    return None
