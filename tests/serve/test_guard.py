"""Who may ask: names, pages and keys, for every method."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import UsageError
from edgeq.serve.errors import ApiError
from edgeq.serve.guard import Guard, Keys, key_of, name_of
from tests.serve.conftest import Start

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
GOOD_HOSTS = (
    "localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "10.0.0.7:80", "[::1]",
    "[::1]:8080", "box.local", "BOX.local:8080", "localhost.", "192.168.1.5",
)  # fmt: skip
BAD_HOSTS = (
    "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", " ", ":80",
    "localhost:x", "[::1", "[::1]x", "[localhost]x", "box.local.evil", "127.0.0.1@evil.example", "local host",
    "localhost/", "xn--localhost", "0x7f.1", "2130706433", "127.1", "١٢٧.0.0.1", "localhost:80:80",
)  # fmt: skip
ORIGINS: dict[str | None, bool] = {
    None: True, "http://HOST": True, "https://HOST": True, "http://localhost:3000": True, "null": False,
    "http://evil.example": False, "http://HOST.evil.example": False, "": False, "file://": False,
    "http://localhost:3001": False, "http://localhost:3000/": False, "HTTP://localhost:3000x": False,
    "http://LOCALHOST:3000": False,
}  # fmt: skip


def passes(guard: Guard, method: str, headers: dict[str, str | None], path: str = "/v1/models") -> int:
    given = {name: value for name, value in headers.items() if value is not None}
    try:
        guard.check(method, path, given)
    except ApiError as error:
        return error.status
    return 200


def test_only_those_who_may_pass() -> None:
    """Each method under each name, from each page, with and without a key."""
    for has_keys, method in itertools.product((False, True), METHODS):
        guard = Guard(
            Keys(["secret"] if has_keys else []),
            frozenset(["box.local"]),
            frozenset(["http://localhost:3000"]),
        )
        for host, (origin, may_ask), key in itertools.product(
            [*GOOD_HOSTS, *BAD_HOSTS, None],
            ORIGINS.items(),
            (None, "Bearer secret", "Bearer wrong", "Bearer "),
        ):
            came = None if origin is None else origin.replace("HOST", host or "")
            headers = {"host": host, "origin": came, "authorization": key}
            may_ask = may_ask or (came is not None and came == f"http://{host}")
            is_known = has_keys or host in GOOD_HOSTS
            knows = not has_keys or key == "Bearer secret" or method == "OPTIONS"
            wanted = 403 if not (is_known and may_ask) else 200 if knows else 401
            assert passes(guard, method, headers) == wanted, (method, headers, has_keys)


def test_another_sites_requests_without_an_origin_are_seen() -> None:
    guard = Guard()
    local = {"host": "localhost"}
    assert passes(guard, "GET", {**local, "sec-fetch-site": "cross-site"}) == 403
    assert passes(guard, "GET", {**local, "sec-fetch-site": "same-origin"}) == 200
    visit: dict[str, str | None] = {**local, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert passes(guard, "GET", visit, "/") == 200 and passes(guard, "GET", visit) == 403
    assert passes(guard, "POST", visit, "/") == 403


def test_a_page_that_may_ask_is_told_so() -> None:
    guard = Guard(origins=frozenset(["http://localhost:3000"]))
    asked = {"host": "localhost:8080", "origin": "http://localhost:3000"}
    assert guard.check("GET", "/v1/models", asked) == {
        "access-control-allow-origin": "http://localhost:3000",
        "vary": "Origin",
    }
    before = {**asked, "access-control-request-headers": "authorization, content-type"}
    found = guard.check("OPTIONS", "/v1/chat/completions", before)
    assert found["access-control-allow-headers"] == "authorization, content-type"
    assert not any("credentials" in name for name in found)
    hostile = {**asked, "access-control-request-headers": "x\r\nset-cookie: a"}
    assert "access-control-allow-headers" not in guard.check("OPTIONS", "/", hostile)


def test_names_in_hosts() -> None:
    assert [name_of(host) for host in ("A.b:1", "[::1]:80", "a.", ":1", "a:b", "[x", "")] == [
        "a.b", "::1", "a", None, None, None, None,
    ]  # fmt: skip


def test_keys_come_in_three_headers() -> None:
    with_key = [{"authorization": "Bearer k"}, {"authorization": "bearer  k "}, {"x-api-key": "k"}]
    for headers in (*with_key, {"api-key": "k"}):
        assert key_of(headers) == "k"
    for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Basic k"}, {"x-api-key": " "}):
        assert key_of(headers) is None
    assert key_of({"authorization": "Bearer ", "x-api-key": "k"}) == "k"


def test_a_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# mine\none\n\n two \n")
    path.chmod(0o600)
    keys = Keys(["three"], path)
    assert all(map(keys.knows, ["one", "two", "three"])) and keys
    assert not any(map(keys.knows, ["", "# mine", "on", "one ", "four", "ünï"]))
    path.write_text("four\n")
    keys.load()
    assert keys.knows("four") and keys.knows("three") and not keys.knows("one")
    path.write_text("# none\n")
    with pytest.raises(UsageError, match="has no key"):
        keys.load()
    assert keys.knows("four")
    path.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others: chmod 600"):
        Keys((), path)
    with pytest.raises(UsageError, match="cannot be read"):
        Keys((), tmp_path / "absent")
    for wrong in ("", "ü", "a\nb", "x" * 513):
        with pytest.raises(UsageError, match="printable"):
            Keys([wrong])
    assert not Keys()


def test_over_http(start: Start) -> None:
    server = start(guard=Guard(Keys(["secret"]), origins=frozenset(["http://localhost:3000"])))
    assert server.get("/health").status == server.get("/v1/health").status == 200
    for path in ("/v1/models", "/metrics", "/props", "/nothing"):
        refused = server.get(path)
        assert refused.status == 401 and refused.error["type"] == "authentication_error"
        assert refused.headers["www-authenticate"] == "Bearer" and refused.headers["x-request-id"]
    assert server.get("/v1/models", Authorization="Bearer secret").status == 200
    assert server.get("/v1/models", **{"x-api-key": "secret", "Host": "anything.example"}).status == 200
    assert server.post("/v1/completions", b"{", Authorization="Bearer wrong").status == 401
    before = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    told = server.ask("OPTIONS", "/v1/chat/completions", None, before)
    assert told.status == 204 and told.headers["access-control-allow-origin"] == "http://localhost:3000"
    foreign = server.post(
        "/v1/completions", b"{", Origin="http://evil.example", Authorization="Bearer secret"
    )
    assert foreign.status == 403 and "--cors-origin" in foreign.error["message"]


def test_a_name_is_refused_with_the_option_that_allows_it(start: Start) -> None:
    server = start()
    refused = server.get("/v1/models", Host="host.docker.internal:8080")
    assert refused.status == 403 and refused.error["code"] == "host_not_allowed"
    assert "--allowed-host" in refused.error["message"]
    assert server.get("/health", Host="evil.example").status == 403
    any_key: Any = server.get("/v1/models", Authorization="Bearer DUMMY")
    assert any_key.status == 200


def test_what_is_known_of_a_prompt_is_known_to_one_key(start: Start) -> None:
    server = start(guard=Guard(Keys(["one", "two"])))
    body = {"prompt": "A cat that nobody has ever asked for sat on the mat.", "max_tokens": 1}

    def cached(key: str, **fields: Any) -> int:
        found = server.post("/v1/completions", {**body, **fields}, Authorization=f"Bearer {key}").json
        server.wait_idle()
        return int(found["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert cached("one") == 0 < cached("one")
    assert cached("two") == 0 < cached("two")
    assert cached("one", cache_salt="mine") == 0 < cached("one", cache_salt="mine")
    assert cached("one", cache_prompt=False) == 0
