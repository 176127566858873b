"""Connections: what is asked wrongly, what comes slowly or not at all, and too many of them."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import pytest

from edgeq.errors import GrammarError
from edgeq.generate.results import Timings, Usage
from edgeq.serve.choice import timings_of
from edgeq.serve.http import Limits, whole_post
from edgeq.serve.timed import SLOW_MASKS, TimedMask
from tests.patience import until
from tests.serve.conftest import Start
from tests.serve.live import Live


def test_paths_and_methods(live: Live) -> None:
    assert live.get("/v1/models/").status == 200
    assert live.get("/v1/models").json["data"][0]["id"] == "stories"
    assert live.get("/v1/models/stories").json["owned_by"] == "edgeq"
    assert live.get("/v1/models/stories:latest").status == 200
    assert live.get("/v1/models/other").error["code"] == "model_not_found"
    nothing = live.get("/v1/nothing")
    assert nothing.status == 404 and nothing.error["type"] == "not_found_error"
    wrong = live.get("/v1/chat/completions")
    assert wrong.status == 405 and wrong.headers["allow"] == "POST"
    assert live.ask("DELETE", "/v1/models").headers["allow"] == "GET, HEAD"
    head = live.ask("HEAD", "/v1/models")
    assert head.status == 200 and head.body == b"" and int(head.headers["content-length"]) > 100
    assert live.get("/v1/models?x=1&y").status == 200
    for each in (live.get("/health"), nothing, wrong):
        assert len(each.headers["x-request-id"]) == 16 and "server" not in each.headers


def test_facts_of_the_model(live: Live, model: Any) -> None:
    meta = live.get("/models").json["data"][0]["meta"]
    assert meta["n_ctx"] == model.context and meta["n_vocab"] == 512 and meta["quant"] == "q4"
    assert 250_000 < meta["n_params"] < 300_000 and meta["size"] == model.file.path.stat().st_size
    props = live.get("/props").json
    assert props["total_slots"] == 4 and "/" not in props["model_path"]
    info = live.get("/tokenizer_info").json
    assert info["eos_token"] == "</s>" and info["bos_token"] == "<s>" and info["chat_template"]


def test_tokens_and_back(live: Live, model: Any) -> None:
    text = "Once upon a <s> time"
    plain = live.post("/tokenize", {"content": text, "parse_special": False}).json
    assert plain["tokens"] == model.tokenizer.encode(text, add_bos=False)
    assert plain["count"] == len(plain["tokens"]) and plain["max_model_len"] == model.context
    asked = live.post("/tokenize", {"prompt": text}).json
    assert asked["tokens"] == model.tokenizer.encode(text, special=True)
    assert live.post("/tokenize", {"content": text, "add_special": True}).json["tokens"] == asked["tokens"]
    back = live.post("/detokenize", {"tokens": plain["tokens"]}).json
    assert back == {"content": text, "prompt": text}
    pieces = live.post("/tokenize", {"content": "a cat", "with_pieces": True}).json["tokens"]
    assert "".join(piece["piece"] for piece in pieces).strip() == "a cat"
    messages = [{"role": "user", "content": "Hi"}]
    shown = live.post("/apply-template", {"messages": messages}).json["prompt"]
    assert shown == "<s>user: Hi</s>\n<s>assistant: "
    for path, body in (
        ("/tokenize", {}), ("/tokenize", {"content": "a", "prompt": "b"}), ("/tokenize", {"content": 5}),
        ("/detokenize", {}), ("/detokenize", {"tokens": [512]}), ("/detokenize", {"tokens": ["a"]}),
        ("/apply-template", {"messages": []}), ("/apply-template", {}),
    ):  # fmt: skip
        assert live.post(path, body).status == 400, (path, body)


def test_metrics(start: Start) -> None:
    pytest.importorskip("prometheus_client")
    server = start()
    server.complete(max_tokens=3, nonsense=1, ignore_eos=True)
    server.complete(temperature=9)
    server.wait_idle()
    text = server.get("/metrics").body.decode()
    for line in (
        'edgeq_requests_total{endpoint="/v1/completions",status="200"} 1.0',
        'edgeq_requests_total{endpoint="/v1/completions",status="400"} 1.0',
        'edgeq_ignored_fields_total{field="other"} 1.0',
        'edgeq_ignored_fields_total{field="ignore_eos"} 1.0',
        "edgeq_generated_tokens_total 3.0",
        "edgeq_requests_running 0.0",
        "edgeq_time_to_first_token_seconds_count 1.0",
        "edgeq_connections 1.0",
        "edgeq_preempted_total 0.0",
        "edgeq_structured_failed_total 0.0",
        'edgeq_kv_pages{state="held"}',
        "edgeq_mask_seconds_count 0.0",
    ):
        assert line in text, line
    assert "edgeq_step_seconds_bucket" in text and 'model="stories"' in text


def test_metrics_of_forms(start: Start) -> None:
    pytest.importorskip("prometheus_client")
    pytest.importorskip("llguidance")
    server = start()
    assert server.complete(guided_regex="[ab]{3}", n=2).status == 200
    server.wait_idle()
    counts = dict(
        line.rsplit(" ", 1)
        for line in server.get("/metrics").body.decode().splitlines()
        if not line.startswith("#")
    )
    assert counts["edgeq_grammar_compile_seconds_count"] == "1.0"
    assert float(counts["edgeq_mask_seconds_count"]) >= 2
    steps = counts["edgeq_step_rows_count"]
    assert steps == counts["edgeq_sample_seconds_count"] == counts["edgeq_step_seconds_count"]
    assert float(counts["edgeq_step_rows_sum"]) >= float(steps)


def test_masks_that_take_long_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Free:
        def fill(self, bits: Any) -> bool:
            return False

        def copy(self) -> Free:
            return self

    for seconds, count in ((-1.0, 1), (60.0, 0)):
        monkeypatch.setattr("edgeq.serve.timed.SLOW_S", seconds)
        told: list[float] = []
        slow: list[float] = []
        mask = TimedMask(Free(), told.append, slow.append).copy()
        for _ in range(2 * SLOW_MASKS):
            assert not mask.fill(np.zeros(1, np.uint32))
        assert len(told) == 2 * SLOW_MASKS and len(slow) == count


def test_an_answer_that_cannot_have_its_form_is_an_error_and_counted(start: Start) -> None:
    pytest.importorskip("prometheus_client")

    class Failing:
        def fill(self, bits: Any) -> bool:
            return False

        def accept(self, id: int) -> None:
            raise GrammarError("the answer cannot go on as its grammar says")

    server = start()
    make = server.batch.make
    server.batch.make = lambda *args, **options: make(*args, **{**options, "mask": Failing()})
    for stream in (False, True):
        response = server.complete(max_tokens=3, stream=stream)
        error = response.events[-1]["error"] if stream else response.error
        assert error["code"] == "structured_output_failed" and "cannot go on" in error["message"]
    assert "edgeq_structured_failed_total 2.0" in server.get("/metrics").body.decode()


def test_a_draft_changes_no_text_and_is_told(start: Start) -> None:
    pytest.importorskip("prometheus_client")
    plain, guesses = start(), start(draft="prompt")
    guessed = accepted = 0
    for seed in range(3):
        asked = {"prompt": "Tom and Tom and Tom and Tom", "max_tokens": 60, "seed": seed, "top_k": 2}
        found = guesses.post("/v1/completions", asked).json
        assert found["choices"] == plain.post("/v1/completions", asked).json["choices"]
        guessed += found["timings"].get("draft_n", 0)
        accepted += found["timings"].get("draft_n_accepted", 0)
    guesses.wait_idle()
    text = guesses.get("/metrics").body.decode()  # how many pay is the machine's to say
    assert f"edgeq_draft_tokens_total {float(guessed)}" in text
    assert f"edgeq_accepted_tokens_total {float(accepted)}" in text


def test_timings_of_guesses() -> None:
    class Generation:
        usage, timings = Usage(3, 0, 5), Timings(draft_tokens=4, accepted_tokens=2)

    told = timings_of(Generation())  # type: ignore[arg-type]
    assert told["draft_n"] == 4 and told["draft_n_accepted"] == 2
    Generation.timings = Timings()
    assert "draft_n" not in timings_of(Generation())  # type: ignore[arg-type]


RUBBISH = (
    b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\nHost\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost : localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip


def test_what_is_no_http_is_refused(live: Live) -> None:
    for data in RUBBISH:
        with live.connect() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := connection.recv(1 << 16):
                    answer += part
            except ConnectionResetError:
                pass
        assert not answer or answer.split()[1] in (b"400", b"403", b"404", b"431"), (data, answer)
    assert live.get("/health").status == 200


def test_long_headers(live: Live) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "
    assert live.raw(head + b"x" * (15 << 10) + b"\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert live.raw(head + b"x" * (40 << 10)).startswith(b"HTTP/1.1 431 ")


def test_headers_that_do_not_come_are_not_waited_for(start: Start) -> None:
    server = start(limits=Limits(header_s=0.2))
    with ExitStack() as stack:
        halves = [stack.enter_context(server.connect()) for _ in range(100)]
        for n, half in enumerate(halves):
            half.sendall(b"GET /health HTTP/1.1\r\nHost: loc"[: n % 33])
        assert server.get("/health").status == 200
        for half in halves:
            with suppress(ConnectionResetError):
                assert half.recv(1) == b""
    until(lambda: len(server.life.server.server_state.connections) == 0, "their end")  # type: ignore[union-attr]


def test_half_a_second_request_is_not_waited_for(start: Start) -> None:
    server = start(limits=Limits(header_s=0.2))
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        data = b""
        try:
            while part := connection.recv(1 << 16):
                data += part
        except ConnectionResetError:
            pass
        assert data.count(b"HTTP/1.1 200") == 1


def test_a_body_that_does_not_come_is_not_waited_for(start: Start) -> None:
    server = start(limits=Limits(body_idle_s=0.1))
    told = server.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    assert told.startswith(b"HTTP/1.1 408 ") and b"body_timeout" in told


def test_connections_have_a_limit(start: Start) -> None:
    server = start(limits=Limits(connections=5))
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(server.connect())
        until(lambda: len(server.life.server.server_state.connections) == 5, "connections")  # type: ignore[union-attr]
        told = server.raw(b"")
        assert told.startswith(b"HTTP/1.1 503 ") and b"too_many_connections" in told
    until(lambda: len(server.life.server.server_state.connections) == 0, "their end")  # type: ignore[union-attr]
    assert server.get("/health").status == 200


def test_all_at_once_are_served_or_turned_away(start: Start) -> None:
    """1000 requests: as many as have places are served, whatever else comes."""
    server = start(parallel=4, queue=16)
    body = {"prompt": "Tom", "max_tokens": 8, "seed": 1}
    wanted = server.post("/v1/completions", body).json["choices"]

    def ask(_: int) -> int:
        response = server.post("/v1/completions", body)
        if response.status == 200:
            assert response.json["choices"] == wanted
        else:
            assert response.status == 429 and response.error["code"] == "queue_full"
            assert 1 <= int(response.headers["retry-after"]) <= 30
        return response.status

    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(ask, range(1000)))
    assert found.count(200) >= 20 and set(found) <= {200, 429}
    server.wait_idle()


def test_places_are_counted(start: Start) -> None:
    server = start(parallel=2, queue=3)
    body = {"prompt": "Tom", "max_tokens": 2, "stream": True}
    with ExitStack() as stack:
        halted = stack.enter_context(ExitStack())
        halted.enter_context(server.halted())
        open_ = [stack.enter_context(server.begin("/v1/completions", {**body, "n": 2})) for _ in range(2)]
        worker = server.worker
        until(lambda: worker.taken == 4, "places")
        assert server.complete(max_tokens=1, n=2).status == 429
        assert server.complete(["a"] * 6, max_tokens=1).status == 400  # more than there ever are
        halted.close()
        for connection in open_:
            data = b""
            while b"[DONE]" not in data:
                data += connection.recv(1 << 16)
    server.wait_idle()
    assert server.complete(max_tokens=1, n=2).status == 200


def test_requests_under_way_have_a_limit(start: Start) -> None:
    server = start(limits=Limits(requests=2))
    with ExitStack() as stack:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        for _ in range(2):
            stack.enter_context(server.connect()).sendall(head)
        until(lambda: server.app.running == 2, "requests")
        assert server.complete(max_tokens=1).status == 429
        whole = head.replace(b"9", b"2") + b"{}"
        found = server.raw(whole)
        assert found.startswith(b"HTTP/1.1 429 ") and b"\r\nretry-after: 1\r\n" in found
        assert b'"queue_full"' in found and b"\r\nx-request-id: " in found
        page = whole.replace(b"localhost", b"localhost\r\nConnection: close\r\nOrigin: http://localhost:1")
        assert server.raw(page).startswith(b"HTTP/1.1 403 ")
        told = server.raw(whole.replace(b"completions", b"messages"))
        assert told.startswith(b"HTTP/1.1 429 ") and b'"type":"rate_limit_error"' in told
        assert server.app.running == 2
    until(lambda: server.app.running == 0, "their end")
    assert sum("POST /v1/completions 429" in line for line in server.lines) == 2


def test_what_is_turned_away_unparsed() -> None:
    whole = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    assert whole_post(whole) == whole_post(whole.replace(b"Length: ", b"length:")) == "/v1/completions"
    for data in (
        whole[:-1], whole + b"x", whole + whole, whole.replace(b"POST", b"GET"), whole.replace(b"1.1", b"1"),
        whole.replace(b"Host: a", b"Content-Length: 2"), whole.replace(b"Host: a", b"origin : null"),
        whole.replace(b"Host: a", b"Transfer-Encoding: chunked"), whole.replace(b": 2", b": 2, 2"),
        whole.replace(b": 2", b": 99999999999"), whole.replace(b"\r\n\r\n", b"\r\n"),
        whole.replace(b"/v1", b"http://a/v1"), b"", b"\r\n\r\n",
    ):  # fmt: skip
        assert whole_post(data) is None, data
