"""Each way in which a hub gives nothing is a sentence of its own, with what to do."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeq.errors import EdgeqError, NetworkError, UnsupportedError, UsageError
from edgeq.hub import client, fetch, parse, reasons
from tests.hub.server import Hub

GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model o/story is restricted."}
BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}
DISABLED = {"X-Error-Message": "Access to this resource is disabled."}

# what part of the hub refuses, the status, its headers: what is said, how often it is asked
REFUSALS: dict[str, tuple[str, int, dict[str, str], str, int]] = {
    "gated": (
        "/api/",
        403,
        GATED,
        "it is gated: ask for access at {}/o/story, then log in with `hf auth login`",
        1,
    ),
    "gated file": ("/resolve/", 401, GATED, "it is gated: ask for access at", 1),
    "bad token": (
        "/api/",
        401,
        BAD_TOKEN,
        "the hub refuses the token or wants one (status 401); log in with",
        1,
    ),
    "forbidden": (
        "/resolve/",
        403,
        {},
        "the hub refuses the token or wants one (status 403); log in with",
        1,
    ),
    "disabled": ("/api/", 403, DISABLED, "it is disabled there; another repository is needed", 1),
    "gone": ("/bytes/", 404, {}, "the hub has nothing there (status 404); check name and revision", 1),
    "too many": ("/api/", 429, {}, "too many requests (status 429); wait a few minutes and try again", 3),
    "wait long": ("/api/", 429, {"Retry-After": "7200"}, "(status 429); wait 7200 s and try again", 1),
    "wait": ("/api/", 429, {"Retry-After": "0"}, "(status 429); wait 0 s and try again", 3),
    "rate": ("/api/", 429, {"RateLimit": '"api";r=0;t=7201'}, "(status 429); wait 7201 s and try again", 1),
    "too many files": ("/bytes/", 429, {}, "too many requests (status 429); wait a few minutes", 3),
    "down": ("/api/", 500, {}, "the hub has trouble (status 500); try again later", 3),
    "gateway": ("/resolve/", 503, {}, "the hub has trouble (status 503); try again later", 3),
    "teapot": ("/api/", 418, {}, "418", 1),
}


def refused(name: str) -> str:
    """What is said of a name that is not to be had: one sentence."""
    wanted = parse(name)
    assert wanted is not None
    with pytest.raises(NetworkError) as caught:
        fetch(wanted)
    said = str(caught.value)
    assert said.startswith(
        f"'{name}' is no local file or directory, and it could not be fetched from the hub: "
    )
    assert "\n" not in said and len(said) < 400
    return said


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name: str, hub: Hub, tmp_path: Path) -> None:
    word, status, headers, sentence, times = REFUSALS[name]
    hub.refuse[word] = (status, headers)
    assert sentence.format(hub.endpoint) in refused("o/story")
    assert len(hub.paths(word)) == times
    assert not list(tmp_path.glob("hf/hub/*/snapshots/*/*"))


def test_missing(hub: Hub) -> None:
    assert "it was not found there; check the name, and if it is private, log in with" in refused("o/other")
    assert f"it has no revision 'v9'; {hub.endpoint}/o/story lists its branches and tags" in refused(
        "o/story@v9"
    )


def test_trouble_that_passes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that is over at the second try is told to nobody."""
    hub.refuse["/api/"] = (503, {})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        hub.refuse.clear()

    monkeypatch.setattr(reasons, "FIRST_PAUSE_S", 1.0)
    monkeypatch.setattr(client.time, "sleep", sleep)
    name = parse("o/story")
    assert name is not None and fetch(name).repository == "o/story" and slept == [1.0]


@pytest.mark.parametrize("word", ["/api/", "/resolve/", "/bytes/"])
def test_a_server_that_never_answers(word: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever question it leaves open, its list of files having come or not."""
    hub.silent.add(word)
    waits: list[float] = []
    within = client.within

    def waited(seconds: float, ask: Callable[[], Any]) -> Any:
        if word != "/api/" and not waits:  # the list of files comes, however long it takes here
            waits.append(seconds)
            return within(seconds, ask)
        waits.append(seconds)
        return within(0.05, ask)

    monkeypatch.setattr(client, "within", waited)
    said = refused("o/story")
    assert "the hub cannot be reached: it does not answer; check the connection and try again" in said
    assert waits == [client.ANSWER_S] * (client.TRIES + (word != "/api/"))


def test_the_end_comes_within_30_seconds() -> None:
    """Of a server that never answers, as the limits are: tries, each with its time, and pauses between."""
    assert reasons.pause(TimeoutError(), 1) == 1 and reasons.pause(TimeoutError(), 2) == 2
    assert client.TRIES * client.ANSWER_S + 1 + 2 <= 25  # a slow machine imports for some seconds


def test_it_is_said_whom_it_asks_before_it_is_asked(hub: Hub) -> None:
    name = parse("o/story")
    assert name is not None
    asked: list[int] = []
    fetch(name, tell=lambda _: asked.append(len(hub.asked)))
    assert asked[0] == 0 and len(asked) == 2


def test_a_limit_of_the_persons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for word, seconds in (
        ("3", 3.0),
        ("9" * 30, client.WAIT_S_MAX),
        ("0", client.ANSWER_S),
        ("x", client.ANSWER_S),
        ("", client.ANSWER_S),
    ):
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", word)
        assert client.answer_seconds() == seconds
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "4")
    assert client.answer_seconds(client.FACTS) == 4.0


def test_a_commit_that_is_named_is_the_one_that_comes(hub: Hub) -> None:
    listing = hub.repositories["o/story"].listing()
    hub.junk["/api/"] = json.dumps(listing | {"sha": "1" * 40}).encode()
    name = parse(f"o/story@{'2' * 40}")
    assert name is not None
    with pytest.raises(NetworkError, match=r"does not answer as the hub does \(another commit, 1{12}\)"):
        fetch(name)


def test_what_cannot_be_a_size_is_no_file(hub: Hub) -> None:
    listing = hub.repositories["o/story"].listing()
    for row in listing["siblings"]:
        row["size"] = 10**400
        row.pop("lfs", None)
    hub.junk["/api/"] = json.dumps(listing).encode()
    name = parse("o/story")
    assert name is not None
    with pytest.raises(UnsupportedError, match="neither weights in safetensors nor a GGUF file"):
        fetch(name)


@pytest.mark.parametrize(
    ("steps", "is_followed"),
    [
        (["https://hub", "https://cdn"], True),
        (["http://localhost", "http://cdn"], True),  # what the person themselves named
        (["https://hub", "http://cdn"], False),
        (["https://hub", "http://between", "https://cdn"], False),
    ],
)
def test_nothing_is_taken_from_where_https_leads_to_http(
    monkeypatch: pytest.MonkeyPatch, steps: list[str], is_followed: bool
) -> None:
    *history, last = (SimpleNamespace(url=SimpleNamespace(scheme=s.split(":")[0], host=s)) for s in steps)
    closed: list[bool] = []
    last.history, last.close = history, lambda: closed.append(True)
    session = SimpleNamespace(build_request=lambda *_, **__: None, send=lambda *_, **__: last)
    monkeypatch.setattr(client, "client", lambda: (session, {}, lambda _: None))
    try:
        with client.opened(steps[0]):
            assert is_followed
    except NetworkError as error:
        assert "without encryption, which edgeq does not follow" in str(error) and not is_followed
    assert closed == [True]


def test_nobody_listens(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "the hub cannot be reached (offline?); check the connection" in refused("o/story")


@pytest.mark.parametrize("address", ["hub", "file:///etc", "http://[", "https://", "ftp://hub", "http://@"])
def test_an_endpoint_that_is_none(hub: Hub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    name = parse("o/story")
    assert name is not None
    with pytest.raises(UsageError, match="HF_ENDPOINT is .*, but must be an address such as https://hugg"):
        fetch(name)


def test_who_asks_is_not_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("//", "//me:secret@"))
    assert client.host() == f"127.0.0.1:{hub.port}"


def test_a_token_that_is_none(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ä")
    said = refused("o/story")
    assert "the token has letters that no token has; log in with" in said and "hf_ä" not in said


def test_a_late_answer_is_closed() -> None:
    class Answer:
        closed = threading.Event()

        def close(self) -> None:
            self.closed.set()

    go = threading.Event()

    def ask() -> Answer:
        go.wait()
        return Answer()

    with pytest.raises(TimeoutError):
        client.within(0.01, ask)
    go.set()
    assert Answer.closed.wait(900)


def test_no_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    name = parse("o/story")
    assert name is not None
    with pytest.raises(EdgeqError, match=r"^'o/story' is no local .*pip install 'edgeq\[hub\]'$"):
        fetch(name)
