"""examples/service: the unit is sound; the service answers, says what fails, and goes on."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq import converters
from edgeq.errors import FormatError, OutOfMemoryError, UsageError
from examples.service import answer
from tests.fake_model import FakeModel, FakeSequence, script
from tests.patience import STUCK_S, until

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "examples" / "service"
SHORTER = ": a shorter prompt or a larger context is needed"
SONG = "A song of some length, sung by a model without weights."


# ---- the unit ----
def unit(tmp_path: Path) -> Path:
    """The unit with a program that this machine has, so that only the unit can be wrong."""
    text = (SERVICE / "edgeq.service").read_text(encoding="utf-8")
    path = tmp_path / "edgeq.service"
    path.write_text(text.replace("ExecStart=/opt/edgeq/bin/python", "ExecStart=/bin/true"))
    return path


def systemd_analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=STUCK_S)


def test_the_unit_is_right(tmp_path: Path) -> None:
    done = systemd_analyze("verify", str(unit(tmp_path)))
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def test_the_unit_is_closed(tmp_path: Path) -> None:
    """systemd's own measure of what a service could do, 0 to 10, is at most 1."""
    done = systemd_analyze("security", "--offline=true", "--threshold=10", str(unit(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_runs_what_there_is() -> None:
    """The command of the unit parses, and its quota is a processor for each thread."""
    text = (SERVICE / "edgeq.service").read_text(encoding="utf-8")
    (command,) = re.findall(
        r"^ExecStart=/opt/edgeq/bin/python /opt/edgeq/answer.py (.*)$", text, re.MULTILINE
    )
    given = answer.parse(command.split())
    assert f"CPUQuota={given.threads}00%" in text and given.does == "serve"
    assert given.path.startswith("/run/edgeq/") and "RuntimeDirectory=edgeq\n" in text


def test_the_manual_has_each_kind_of_error() -> None:
    manual = (ROOT / "docs" / "raspberry-pi.md").read_text(encoding="utf-8")
    table = manual[manual.index("| kind | what happened |") :].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [kind for _, kind in answer.KINDS]


# ---- in this process, with a model that fails as it is told ----
class Model(FakeModel):
    """Sings; fails with `failure` at the first token of its next answer."""

    chat_template = None
    failure: BaseException | None = None

    def sequence(self) -> FakeSequence:
        sequence = super().sequence()
        if failure := self.failure:
            self.failure = None

            def failing(*_: Any, **__: Any) -> Any:
                raise failure

            sequence.step = failing  # type: ignore[method-assign]
        return sequence


class Waiting(Model):
    """Waits in the middle of an answer until it is let go."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reached, self.go = threading.Event(), threading.Event()

    def next_logits(self, ids: list[int]) -> Any:
        if len(ids) == 20:
            self.reached.set()
            assert self.go.wait(STUCK_S)
        return super().next_logits(ids)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """serve(model) has it answered by a thread of this process; the socket's path."""
    servers = []

    def start(model: Model) -> Path:
        path = tmp_path / "socket"
        server = answer.Server(str(path), model, max_tokens=200)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return path

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join(STUCK_S)
        server.server_close()


def connected(path: Path, sent: bytes) -> socket.socket:
    """A client that has sent its text and ended its side."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(STUCK_S)
    connection.connect(str(path))
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    return connection


def lines(path: Path, sent: bytes) -> list[dict[str, Any]]:
    with connected(path, sent) as connection, connection.makefile("rb") as answered:
        return [json.loads(line) for line in answered]


def singer(kind: type[Model] = Model) -> Any:
    return kind(context=200, script=script(SONG))


def test_a_file_in_the_sockets_place_stays(tmp_path: Path) -> None:
    """As where somebody names two models, or the two words the other way round."""
    (tmp_path / "other.edgeq").write_bytes(b"a model")
    with pytest.raises(OSError, match="in use"):
        answer.Server(str(tmp_path / "other.edgeq"), singer(), max_tokens=1)
    assert (tmp_path / "other.edgeq").read_bytes() == b"a model"


def test_an_answer_is_pieces_and_an_end(serve: Any) -> None:
    *pieces, last = lines(serve(singer()), b"sing")
    assert "".join(piece["text"] for piece in pieces) == SONG
    assert last == {"done": {"finish_reason": "eos", "prompt_tokens": 5, "tokens": len(SONG)}}


FAILURES = [
    (UsageError("too much"), "usage", "too much"),
    (FormatError("the file is damaged"), "model", "the file is damaged"),
    (OutOfMemoryError("a cache has no room"), "memory", "a cache has no room"),
    (MemoryError(), "memory", "the machine has not enough memory for this text just now"),
    (ZeroDivisionError("a secret"), "internal", "the service failed at this text; its log says where"),
]


@pytest.mark.parametrize(("failure", "kind", "message"), FAILURES, ids=lambda value: str(value)[:12])
def test_what_fails_is_told_and_the_next_is_answered(
    serve: Any, capfd: pytest.CaptureFixture[str], failure: Exception, kind: str, message: str
) -> None:
    model = singer()
    path, model.failure = serve(model), failure
    assert lines(path, b"sing") == [{"error": {"kind": kind, "message": message}}]
    assert lines(path, b"sing")[-1]["done"]["finish_reason"] == "eos"
    told = capfd.readouterr().err
    assert f"({kind}): {message}" in told and ("a secret" in told) == (kind == "internal")


TEXTS = [
    (b"\xff\xfe", "the text is no UTF-8: byte 0 cannot be decoded"),
    (b" \n", "the text is empty, so there is nothing to answer"),
    (b"a" * 300, f"the prompt has 301 tokens, but the context holds 200{SHORTER}"),
    (b"a" * 5001, "the text has 5001 bytes, but at most 5000 are taken"),
]


@pytest.mark.parametrize(("sent", "message"), TEXTS, ids=["utf-8", "empty", "context", "bytes"])
def test_a_text_that_cannot_be_answered(
    serve: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes, message: str
) -> None:
    monkeypatch.setattr(answer, "TEXT_BYTES_MAX", 5000)
    path = serve(singer())
    assert lines(path, sent) == [{"error": {"kind": "usage", "message": message}}]
    assert lines(path, b"sing")[-1]["done"]


def test_a_text_that_does_not_end_is_not_waited_for(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "SECONDS_MAX", 0.05)
    path = serve(singer())
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as answered:
        connection.settimeout(STUCK_S)
        connection.connect(str(path))
        (line,) = answered
    error = json.loads(line)["error"]
    assert error["kind"] == "timeout" and "did not end within 0.05 s" in error["message"]


def test_nothing_is_computed_for_a_client_that_left(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(answer, "log", heard.append)
    model = singer(Waiting)
    path = serve(model)
    with connected(path, b"sing"):
        assert model.reached.wait(STUCK_S)
    model.go.set()
    until(lambda: bool(heard), "word of a client that left")
    assert heard == ["a client left before its answer was complete"]
    assert len(model.fed) < 25  # to the token it was at, not to the song's end
    assert lines(path, b"sing")[-1]["done"]["tokens"] == len(SONG)


def test_one_that_has_only_ended_its_side_has_not_left() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        theirs.shutdown(socket.SHUT_WR)
        assert not answer.left(ours)
        theirs.close()
        assert answer.left(ours)


def test_who_is_being_answered_is_told_of_the_end() -> None:
    """SIGTERM ends the service wherever it is."""
    model = singer()
    model.failure = SystemExit()
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        theirs.sendall(b"sing")
        theirs.shutdown(socket.SHUT_WR)
        server = answer.Server.__new__(answer.Server)
        server.model, server.max_tokens = model, 10
        with pytest.raises(SystemExit):
            answer.Handler(ours, None, server)
        assert json.loads(theirs.recv(1000))["error"]["kind"] == "stopping"


# ---- the program, with the bundled model ----
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1


def deny_write_execute() -> None:
    """What MemoryDenyWriteExecute= asks for, by the kernel's own means; before Linux 6.3 it does nothing."""
    ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Iterator[Path]:
    """Of a running answer.py with the bundled model which can make no memory executable; it ends if asked."""
    folder = tmp_path_factory.mktemp("service")
    model, path = folder / "demo.edgeq", folder / "socket"
    converters.convert(demo_checkpoint, model, scheme="q8")
    with edgeq.load(model):
        pass  # so that there is a pack with its kernels
    command = [sys.executable, str(SERVICE / "answer.py"), "serve", str(model), str(path)]
    with subprocess.Popen(
        [*command, "--max-tokens", "24", "--threads", "1"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=deny_write_execute,
    ) as service:  # fmt: skip
        assert service.stdout is not None and "is ready" in service.stdout.readline()
        yield path
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=STUCK_S) == 0
    assert not path.exists() or path.is_socket()


def ask(path: Path, text: str | bytes) -> subprocess.CompletedProcess[str]:
    """What comes of asking with the client that comes with the service."""
    command = [sys.executable, str(SERVICE / "answer.py"), "ask", str(path), text]
    return subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S, cwd=ROOT)


def test_the_service_answers_one_after_the_other(socket_path: Path) -> None:
    for text in ("Once upon a time", "There was a"):
        done = ask(socket_path, text)
        assert done.returncode == 0 and len(done.stdout) > 20
        assert "cut after 24 tokens" in done.stderr


def test_the_client_says_what_the_service_says(socket_path: Path) -> None:
    done = ask(socket_path, "word " * 2000)  # more than the context
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1
    assert re.match(rf"answer\.py: usage: the prompt has .* but the context holds 512{SHORTER}$", done.stderr)
    assert "usage: the text is no UTF-8: byte 0" in ask(socket_path, b"\xff").stderr
    with socket.socket(socket.AF_UNIX) as connection:  # gone before the answer
        connection.connect(str(socket_path))
        connection.sendall(b"Once upon a time")
    assert ask(socket_path, "Once upon a time").returncode == 0


def test_an_answer_that_is_cut_off_is_told(tmp_path: Path) -> None:
    """The service may be killed, as where memory is short."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(str(path))
        dying.listen()
        command = [sys.executable, str(SERVICE / "answer.py"), "ask", str(path), "sing"]
        with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=ROOT) as client:
            connection, _ = dying.accept()
            connection.sendall(b'{"text": "A so"}\n')
            connection.recv(100)
            connection.close()
            out, err = client.communicate(timeout=STUCK_S)
    assert (client.returncode, out) == (1, "A so") and "ended before its answer did" in err


def test_the_kernel_denies_what_the_unit_denies() -> None:
    """So that the tests above mean something where the kernel can do it."""
    code = "import mmap; mmap.mmap(-1, 4096, prot=7)"
    command = [sys.executable, "-c", code]
    denied = subprocess.run(command, preexec_fn=deny_write_execute, capture_output=True, text=True)
    if denied.returncode == 0:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert "PermissionError" in denied.stderr
