"""A file of requests over several servers: the answers of one process, whichever server ends or refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import EdgeqError, UsageError
from edgeq.serve import batch, remote, spread
from edgeq.serve.guard import Guard, Keys
from edgeq.serve.remote import Busy, Failed, Unfit, address, judged
from edgeq.serve.served import Served
from tests.patience import STUCK_S, until
from tests.serve.conftest import Start
from tests.serve.live import TEMPLATE, Live
from tests.serve.test_batch import request, written

OK = json.dumps({"choices": [{"text": "fine"}]}).encode()
Told = tuple[int, dict[str, str], bytes]


def answers(path: Path) -> set[str]:
    """Each line without what no two runs have alike: ids, times, and what was known of prompts."""
    found = []
    for line in path.read_bytes().splitlines():
        answer = json.loads(line)
        body = answer["response"]["body"]
        for name in ("id", "created", "timings"):
            body.pop(name, None)
        body.get("usage", {}).pop("prompt_tokens_details", None)
        found.append(json.dumps([answer["custom_id"], answer["response"]["status_code"], body]))
    assert len(set(found)) == len(found)
    return set(found)


def requests() -> list[dict[str, Any]]:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "seed": 3, "stream": True}
    chat = {"custom_id": "chat", "url": "/v1/chat/completions", "body": body}
    return [*(request(n, n=1 + n % 3) for n in range(40)), chat, request(99, temperature=9)]


def to(*servers: Live | str, key: str | None = None) -> list[remote.Address]:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return spread.addresses([(url, key) for url in urls])


@pytest.fixture
def alone(model: Any, tmp_path: Path) -> Callable[[Path], set[str]]:
    """What one process without a server answers."""

    def alone(source: Path) -> set[str]:
        batch.run(Served(model, "stories", template=TEMPLATE), source, tmp_path / "alone", parallel=3)
        return answers(tmp_path / "alone")

    return alone


def test_one_of_two_servers_ends(start: Start, alone: Callable[[Path], set[str]], tmp_path: Path) -> None:
    first, second = start(parallel=2), start(parallel=2)
    source, out = written(tmp_path / "in", *requests()), tmp_path / "out"

    def end(done: int, failed: int, known: int) -> None:
        if done == 5:
            first.end()
            first.end()

    told: list[str] = []
    found = spread.run(to(first, second), source, out, parallel=3, progress=end, note=told.append)
    assert found == (41, 1, 0)
    assert answers(out) == alone(source)
    first.join()
    assert spread.run(to(first, second), source, out) == (0, 0, 42)
    second.wait_idle()


def test_it_goes_on_where_it_was_stopped(
    start: Start, alone: Callable[[Path], set[str]], tmp_path: Path
) -> None:
    """Ctrl-C ends it at once, and the server has nothing left to do."""
    server = start()
    source, out = written(tmp_path / "in", *requests()), tmp_path / "out"

    def stop(done: int, failed: int, known: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spread.run(to(server), source, out, parallel=4, progress=stop)
    server.wait_idle()
    before = answers(out)
    assert out.read_bytes().endswith(b"}\n") and 7 <= len(before) < 42
    assert sum(spread.run(to(server), source, out, parallel=4)) == 42
    assert answers(out) == alone(source) >= before


def test_servers_that_are_full(start: Start, alone: Callable[[Path], set[str]], tmp_path: Path) -> None:
    """Three places for twelve askers: whoever is turned away comes again."""
    server = start(parallel=3, queue=0)
    source, out = written(tmp_path / "in", *requests()), tmp_path / "out"
    spread.run(to(server), source, out, parallel=12)
    assert answers(out) == alone(source)


def test_keys(start: Start, tmp_path: Path) -> None:
    server = start(guard=Guard(Keys(["secret"])))
    source, out = written(tmp_path / "in", request(1)), tmp_path / "out"
    with pytest.raises(EdgeqError, match="no worker is left .*it answers with 401"):
        spread.run(to(server, key="wrong"), source, out)
    assert out.read_bytes() == b""
    assert spread.run(to(server, key="secret"), source, out) == (1, 0, 0)


@contextmanager
def scripted(*told: Told) -> Iterator[tuple[str, list[Any]]]:
    """A server that answers so, one after the other and the last for ever; the URL, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            status, headers, body = told[min(len(asked), len(told)) - 1]
            if status == 0:
                return  # it goes away
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_S", 0.0)
    monkeypatch.setattr(remote, "RETRY_MAX_S", 0.01)
    monkeypatch.setattr(spread, "PAUSE_MAX_S", 0.01)


def test_tries_until_there_is_an_answer(tmp_path: Path) -> None:
    source, out = written(tmp_path / "in", request(1)), tmp_path / "out"
    broken = (200, {"content-length": "999"}, b'{"choi')
    busy: Told = (503, {"retry-after": "1"}, b"{}")
    full: Told = (429, {}, b"")
    with scripted((0, {}, b""), busy, full, broken, full, (500, {}, b"oh"), (200, {}, OK)) as (url, asked):
        assert spread.run(to(url), source, out, parallel=2) == (1, 0, 0)
    assert len(asked) == 7 and all(sent["prompt"] == "Tom 1" and sent["stream"] is False for sent in asked)
    assert json.loads(out.read_text())["response"]["body"] == json.loads(OK)


def test_a_request_that_ends_servers_is_given_up(tmp_path: Path) -> None:
    source, out = written(tmp_path / "in", request(1), request(2)), tmp_path / "out"
    with (
        scripted(*[(0, {}, b"")] * spread.TRIES, (200, {}, OK)) as (url, asked),
        pytest.raises(EdgeqError, match="1 requests have no answer"),
    ):
        spread.run(to(url), source, out, parallel=1)
    assert len(asked) == spread.TRIES + 1
    assert [json.loads(line)["custom_id"] for line in out.read_text().splitlines()] == ["2"]


def test_a_fault_of_each_server_is_the_answer_in_the_end(tmp_path: Path) -> None:
    source, out = written(tmp_path / "in", request(1)), tmp_path / "out"
    with scripted((500, {}, b'{"error": {"message": "m"}}')) as (url, asked):
        assert spread.run(to(url), source, out) == (0, 1, 0)
    assert len(asked) == spread.TRIES and json.loads(out.read_text())["response"]["status_code"] == 500


def test_another_server_tries_what_one_failed_at(start: Start, tmp_path: Path) -> None:
    source, out = written(tmp_path / "in", *requests()), tmp_path / "out"
    server = start()
    with scripted((0, {}, b"")) as (url, asked):
        assert spread.run(to(url, server), source, out, parallel=1) == (41, 1, 0)
    assert len({sent["prompt"] for sent in asked if "prompt" in sent}) >= len(asked) - 1


def test_nobody_is_there(tmp_path: Path) -> None:
    source, out = written(tmp_path / "in", request(1), request(2)), tmp_path / "out"
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        told: list[str] = []
        with pytest.raises(EdgeqError, match="no worker is left .*refused.*: 0 requests were answered"):
            spread.run(to(url), source, out, patience=0.05, note=told.append)
    assert len(told) == 1 and "is left out" in told[0]


@pytest.mark.parametrize(
    ("status", "retry_after", "data", "wanted"),
    [
        (200, None, OK, None),
        (400, None, b'{"error": {"message": "m"}}', None),
        (404, None, b'{"error": {"code": "model_not_found"}}', None),
        (501, None, b'{"error": {}}', None),
        (200, None, b"[1]", Failed),
        (200, None, b"[" * 100_000, Failed),
        (408, None, b"{}", Failed),
        (502, None, b"<html>", Failed),
        (503, None, b'{"error": {"code": "request_timeout"}}', Failed),
        (503, "3", b"", Busy),
        (429, "soon", b"", Busy),
        (301, None, b"", Unfit),
        (400, None, b"<html>", Unfit),
        (401, None, b'{"error": {"message": "no key"}}', Unfit),
        (404, None, b'{"error": {"code": "not_found"}}', Unfit),
        (405, None, b'{"error": {"message": [1]}}', Unfit),
    ],
)
def test_what_an_answer_means(
    status: int, retry_after: str | None, data: bytes, wanted: type[Exception] | None
) -> None:
    if wanted is None:
        assert judged(status, retry_after, data) == (status, json.loads(data))
    else:
        with pytest.raises(wanted):
            judged(status, retry_after, data)


def test_how_long_a_busy_server_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    headers = (None, "0", "7", "99999999999", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "٣")
    assert [remote.seconds(header) for header in headers] == [1, 1, 7, 60, 1, 1, 1, 1]


def test_addresses() -> None:
    assert address("http://pi1:8080/v1/") == address("http://pi1:8080/v1")
    found = address("https://[::1]/edgeq/v1", "k")
    assert found.is_secure and (found.host, found.port) == ("::1", None)
    assert (found.path, found.key) == ("/edgeq", "k")
    wrong = (
        "pi1:8080",
        "ftp://pi1",
        "http://",
        "http://a:b@pi1",
        "http://pi1:99999",
        "http://pi1/?a",
        "http://a b",
    )
    for url in wrong:
        with pytest.raises(UsageError, match="is no URL of a server"):
            address(url)
    with pytest.raises(UsageError, match="twice"):
        to("http://pi1:8080", "http://pi1:8080/v1")
    with pytest.raises(UsageError, match="names no server"):
        to()


# the command ----------------------------------------------------------------------------------------------


def command(*words: str, **options: Any) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "edgeq", "batch", *words]
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, **piped, **options)


def test_the_command(start: Start, alone: Callable[[Path], set[str]], tmp_path: Path) -> None:
    servers = [start(guard=Guard(Keys([key]))) for key in ("one", "two")]
    source, out = written(tmp_path / "in", *requests()), tmp_path / "out"
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    keys.chmod(0o600)
    urls = ",".join(server.url for server in servers)
    words = [str(source), "-o", str(out), "--workers", urls, "--workers-key-file", str(keys)]
    with command(*words) as process:
        _, told = process.communicate(timeout=STUCK_S)
    assert process.returncode == 0 and told.startswith("41 answered, 1 refused"), told
    assert answers(out) == alone(source)


def test_the_command_is_stopped(start: Start, tmp_path: Path) -> None:
    server = start()
    source, out = written(tmp_path / "in", *(request(n) for n in range(8))), tmp_path / "out"
    with server.halted(), command(str(source), "-o", str(out), "--workers", server.url) as process:
        worker = server.worker
        until(lambda: worker.taken == 8, "the requests' arrival")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=STUCK_S)
        assert process.returncode == 130 and "Traceback" not in told, told
    server.wait_idle()
    assert out.read_bytes() == b""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "pi1"], "pi1 is no URL of a server"),
        (["--workers", ""], "is no URL of a server"),
        (["--workers", "http://a,http://a/v1"], "names a server twice"),
        (["--workers", "http://a", "-c", "64"], "--ctx-size says how a model is run"),
        (["--workers", "http://a", "-m", "x"], "--model"),
        (["--workers", "http://a", "--workers-key-file", "absent"], "cannot be read"),
        (["--workers-key-file", "absent"], "is for --workers"),
    ],
)
def test_what_the_command_refuses(tmp_path: Path, words: list[str], told: str) -> None:
    written(tmp_path / "in", request(1))
    with command("in", "-o", "out", *words, cwd=tmp_path, env={**os.environ}) as process:
        _, err = process.communicate(timeout=STUCK_S)
    assert process.returncode == 2 and told in err and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()
