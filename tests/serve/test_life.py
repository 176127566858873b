"""From the command to its end: starting, loading, draining, sockets, and what goes wrong."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import FormatError, UsageError
from edgeq.serve import sockets
from edgeq.serve.http import Limits
from edgeq.serve.turns import Turns
from tests.patience import STUCK_S, until
from tests.serve.conftest import Start
from tests.serve.live import Live, Shared

LONG = {"prompt": "Once", "max_tokens": 450, "logit_bias": {"2": -100}, "stream": True}


def test_it_answers_while_the_model_is_loaded(model: Any) -> None:
    go = threading.Event()

    def load() -> Any:
        go.wait(STUCK_S)
        return Shared(model)

    server = Live(model, load=load, ready=False)
    until(lambda: server.life is not None and server.life.server.started, "that it listens")
    try:
        for path in ("/health", "/v1/models"):
            early = server.get(path)
            assert early.status == 503 and early.error["code"] == "loading" and early.headers["retry-after"]
        assert server.complete().error["code"] == "loading"
        go.set()
        until(lambda: server.get("/health").status == 200, "that it is ready")
        assert server.complete(max_tokens=1).status == 200
    finally:
        go.set()
        server.stop()


def test_several_models(start: Start) -> None:
    pytest.importorskip("prometheus_client")
    server = start(models=("one", "two"))
    listed = server.get("/v1/models").json["data"]
    assert [model["id"] for model in listed] == ["one", "two"]
    assert [model["name"] for model in server.get("/api/tags").json["models"]] == ["one:latest", "two:latest"]
    assert len(server.get("/api/ps").json["models"]) == 2
    assert server.get("/v1/models/two").json["id"] == "two"
    for asked, found in (("two", "two"), ("two:latest", "two"), ("one", "one"), (None, "one")):
        for path in ("/v1/chat/completions", "/v1/messages", "/api/chat"):
            body = {"model": asked, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
            assert server.post(path, {**body, "stream": False}).json["model"] == found
        assert server.complete(model=asked, max_tokens=2).json["model"] == found
    assert server.get("/props").json["model_alias"] == "one"
    assert server.get("/props?model=two").json["model_alias"] == "two"
    assert server.post("/api/show", {"name": "two"}).status == 200
    for path in ("/v1/completions", "/tokenize"):
        missing = server.post(path, {"model": "gpt", "prompt": "Tom"})
        assert missing.status == 404 and missing.error["code"] == "model_not_found"
        assert "'one', 'two'" in missing.error["message"]
    assert server.post("/api/show", {"model": "gpt"}).status == 404
    assert server.get("/v1/models/gpt").status == server.get("/props?model=gpt").status == 404
    server.wait_idle()
    idle = {"running": 0, "waiting": 0}
    assert server.get("/health").json == {"status": "ok", "models": {"one": idle, "two": idle}}
    text = server.get("/metrics").body.decode()
    for name in ("one", "two"):
        assert f'edgeq_requests_running{{model="{name}"}} 0.0' in text
        assert f'edgeq_step_seconds_count{{model="{name}"}}' in text
    assert text.count("edgeq_build_info{") == 2


def test_each_of_several_models_has_places_of_its_own(start: Start) -> None:
    server = start(models=("one", "two"), parallel=1, queue=0)
    body = {"prompt": "Tom", "max_tokens": 2, "model": "one"}
    with server.halted(), server.begin("/v1/completions", body):
        until(lambda: server.worker.taken == 1, "the first")
        assert server.complete(max_tokens=1, model="one").status == 429
    server.wait_idle()
    assert server.complete(max_tokens=1, model="two").status == 200


def test_models_take_turns_by_the_time_that_they_take() -> None:
    """Of those that can move, the one that had the least is next; who was idle saved nothing up."""

    class Fake:
        def __init__(self, cost: float) -> None:
            self.used, self.cost, self.idle, self.stuck = 0.0, cost, False, False

        def step(self) -> bool:
            if self.stuck:
                return False
            self.used += self.cost
            order.append(self)
            return True

    async def run() -> Turns:
        return Turns(asyncio.get_running_loop())

    turns, order = asyncio.run(run()), list[Fake]()
    slow, quick = Fake(3.0), Fake(1.0)
    turns.join(slow)
    turns.join(quick)
    quick.idle = True
    for _ in range(5):
        assert turns._next()
    assert order == [slow] * 5
    quick.idle, slow.stuck = False, False
    order.clear()
    for _ in range(40):
        assert turns._next()
    assert 28 <= order.count(quick) <= 33  # three to one
    quick.stuck = True
    order.clear()
    assert turns._next() and order == [slow]
    slow.idle = True
    assert not turns._next()


def test_two_models_of_one_name_are_refused(model: Any) -> None:
    server = Live(model, models=("one", "one"), ready=False)
    server.join()
    assert isinstance(server.error, UsageError) and "--alias" in str(server.error)


def test_a_model_that_cannot_be_loaded_ends_it(model: Any) -> None:
    def load() -> Any:
        raise FormatError("model.edgeq is no model file")

    server = Live(model, load=load, ready=False)
    server.join()
    assert isinstance(server.error, FormatError)


def test_answers_may_end_and_nothing_new_begins(start: Start) -> None:
    server = start()
    with server.begin("/v1/completions", LONG) as connection:
        connection.recv(1)
        with server.halted():
            server.end()
            until(lambda: server.app.draining, "the draining")
            late = server.get("/health")
            assert late.status == 503 and late.error["code"] == "draining"
            assert server.complete().status == 503
        data = b""
        while part := connection.recv(1 << 16):
            data += part
        assert data.rstrip().endswith(b"0") and b"[DONE]" in data
    server.join()
    assert server.error is None


def test_answers_that_take_too_long_end_with_an_error(start: Start) -> None:
    server = start(limits=Limits(drain_s=0.1))
    with server.begin("/v1/completions", LONG) as connection:
        connection.recv(1)
        with server.halted():
            server.end()
            data = b""
            while b"draining" not in data:
                part = connection.recv(1 << 16)
                assert part
                data += part
        assert b"[DONE]" not in data
    server.join()


def test_a_second_signal_does_not_wait(start: Start) -> None:
    server = start(limits=Limits(drain_s=STUCK_S))
    with server.begin("/v1/completions", LONG) as connection:
        connection.recv(1)
        with server.halted():
            server.end()
            until(lambda: server.app.draining, "the draining")
            server.end()
            data = b""
            while part := connection.recv(1 << 16):
                data += part
        assert b"[DONE]" not in data
    server.join()


def test_a_fault_of_the_engine_ends_the_server(start: Start) -> None:
    """In-flight requests are told, and whoever started it may start it anew."""
    server = start()
    scheduler = server.batch._scheduler
    scheduler.engine = type("Broken", (), {"pass_tokens": 64, "pass_outputs": 64, "advance": None})()
    found = server.complete(max_tokens=3)
    assert found.status == 500 and found.headers["x-should-retry"] == "false"
    server.join()
    assert isinstance(server.error, TypeError)


def test_a_model_that_does_not_move_is_not_healthy(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.serve.worker.STALLED_S", 0.0)
    server = start()
    worker = server.worker
    assert server.get("/health").status == 200
    worker._step_began = 0.0
    assert server.get("/health").error["code"] == "stalled"
    worker._step_began = None
    assert server.get("/health").status == 200


# sockets ------------------------------------------------------------------------------------------------


def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = sockets.listener(f"unix:{path}", 0)
    first.socket.listen()
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(UsageError, match="cannot be had"):
        sockets.listener(f"unix:{path}", 0)  # somebody listens
    first.socket.close()
    again = sockets.listener(f"unix:{path}", 0)  # nobody does any more
    again.close()
    assert not path.exists()
    path.write_text("a file")
    with pytest.raises(UsageError, match="cannot be had"):
        sockets.listener(f"unix:{path}", 0)
    assert path.read_text() == "a file"


def test_ports_and_names_that_cannot_be_had() -> None:
    taken = sockets.listener("127.0.0.1", 0)
    taken.socket.listen()
    port = taken.socket.getsockname()[1]
    with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 cannot be had: .*--port takes another"):
        sockets.listener("127.0.0.1", port)
    taken.close()
    with pytest.raises(UsageError, match="is no address"):
        sockets.listener("no such name", 1)
    with open(os.devnull) as file, pytest.raises(UsageError, match="is no socket"):
        sockets.listener("", 0, file.fileno())
    with pytest.raises(UsageError, match="is no socket"):
        sockets.listener("", 0, 9999)


def test_what_is_local() -> None:
    local = ("127.0.0.1", "127.8.8.8", "::1", "localhost", "unix:/run/x")
    assert all(map(sockets.is_local, local))
    assert not any(map(sockets.is_local, ("0.0.0.0", "::", "10.0.0.1", "box", "")))


def test_a_socket_that_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert sockets.handed_over() is None
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert sockets.handed_over() == 3
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(UsageError, match="2 sockets"):
        sockets.handed_over()


# the command --------------------------------------------------------------------------------------------


@contextmanager
def command(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "edgeq", "serve", *words]
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, **piped, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def served_at(process: subprocess.Popen[str]) -> str:
    """The URL in the line that tells that it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " is served at " in line, (line, process.stderr.read() if process.stderr else "")
    return line.split(" is served at ")[1].split(": context")[0]


def test_the_command_serves_and_ends(served_file: Path) -> None:
    words = ["--port", "0", "-np", "2", "-c", "128", "--alias", "me", "--temp", "0"]
    with command(str(served_file), *words) as process, ExitStack() as stack:
        url = served_at(process)
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=STUCK_S)
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "Tom", "max_tokens": 4}))
        found = json.loads(connection.getresponse().read())
        stack.callback(connection.close)
        assert found["model"] == "me" and found["usage"]["completion_tokens"] == 4
        connection.request("GET", "/v1/models")
        assert json.loads(connection.getresponse().read())["data"][0]["meta"]["n_ctx"] == 128
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=STUCK_S)
        assert process.returncode == 0 and "POST /v1/completions 200" in err
        assert "Tom" not in err


def test_a_socket_is_handed_to_the_command(served_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        fd = listening.fileno()
        with command(str(served_file), "--fd", str(fd), "-q", pass_fds=[fd]) as process:
            assert served_at(process) == f"unix:{path}"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /health HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=STUCK_S)
            assert process.returncode == 0 and err == ""
        assert path.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines ask: give --api-key-file"),
        (["--cors-origin", "*"], "--cors-origin '*' lets every page"),
        (["--cors-origin", "localhost:3000"], "is no origin"),
        (["--api-key-file", "absent"], "cannot be read"),
        (["--alias", ""], "--alias must be"),
        (["--temp", "-1"], "temperature is -1.0"),
        (["--fd", "777"], "--fd 777 is no socket"),
        (["--chat-template", "absent"], "absent"),
    ],
)
def test_what_the_command_refuses_at_once(tmp_path: Path, words: list[str], told: str) -> None:
    with command("no-model.edgeq", "--port", "0", *words, cwd=tmp_path, env={**os.environ}) as process:
        _, err = process.communicate(timeout=STUCK_S)
    assert process.returncode in (1, 2) and told in err and err.count("\n") == 1, err


def test_without_the_extra_the_command_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import edgeq.serve

    monkeypatch.setattr(edgeq.serve, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(
        UsageError, match=r"needs uvicorn, which is not installed: pip install 'edgeq\[serve\]'"
    ):
        edgeq.serve.check_extra()


def test_units_of_systemd(served_file: Path) -> None:
    words = ["-np", "2", "--port", "9000", "--alias", "50% $x", "--drain=20", "--print-systemd-unit"]
    with command(str(served_file), *words) as process:
        out, err = process.communicate(timeout=STUCK_S)
    assert process.returncode == 0 and err == ""
    assert "ListenStream=127.0.0.1:9000\n" in out and "TimeoutStopSec=25\n" in out
    (line,) = (line for line in out.splitlines() if line.startswith("ExecStart="))
    assert line.endswith(f" serve {served_file} -np 2 --alias '50%% $$x' --drain=20")
