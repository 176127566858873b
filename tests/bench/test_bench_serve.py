"""What the bench of servers reads out of streams, and what it says of figures; no server of a model."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from bench.serve import Row, ratio
from bench.servers import Stream, body, read_all
from tests.patience import STUCK_S


@contextmanager
def answering(parts: Sequence[bytes]) -> Iterator[int]:
    """A port where whoever asks gets these bytes, each in a packet of its own, and the connection's end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                asked = b""
                while not asked.endswith(b"}"):
                    asked += connection.recv(1 << 16)
                head, _, data = asked.partition(b"\r\n\r\n")
                assert b"POST /v1/completions" in head and json.loads(data)["stream"] is True
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(STUCK_S)


EVENT = b'data: {"choices": [{"text": "a"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}\n\n'


@pytest.mark.parametrize("cut", range(1, len(EVENT) - 1, 5))
def test_events_count_once_wherever_packets_end(cut: int) -> None:
    whole = EVENT + EVENT[:cut], EVENT[cut:] + USAGE + b"data: [DONE]\n\n"
    with answering(whole) as port:
        stream = Stream(port, body([1], 3, 2))
        read_all([stream])
    assert len(stream.times) == 3 and stream.tokens == 3 and stream.over
    assert stream.first_s >= 0


def test_a_stream_that_breaks_off_is_no_measurement() -> None:
    with answering([EVENT]) as port, pytest.raises(RuntimeError, match="broke off"):
        read_all([Stream(port, body([1], 3, 2))])


def test_figures_beside_bars() -> None:
    assert Row("rate", 1.7, "x", 1.6).held and not Row("rate", 1.5, "x", 1.6).held
    assert Row("time", 1.5, "s", 1.6, most=True).held and not Row("time", 1.7, "s", 1.6, most=True).held
    assert Row("alone", 3.0, "tokens/s").held is None
    assert "MISSED" in Row("rate", 1.5, "x", 1.6).line() and "MISSED" not in Row("alone", 3.0, "x").line()
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0  # of turns beside each other
