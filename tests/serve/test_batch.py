"""A file of requests: each is answered once, whatever stops it in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import UsageError
from edgeq.serve import batch
from edgeq.serve.served import Served
from tests.serve.live import TEMPLATE


@pytest.fixture
def served(model: Any) -> Served:
    return Served(model, "stories", template=TEMPLATE)


def request(number: int, **fields: Any) -> dict[str, Any]:
    body = {"prompt": f"Tom {number}", "max_tokens": 5, "seed": number, **fields}
    return {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answers(path: Path) -> dict[str, Any]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["custom_id"] for line in found}) == len(found)
    return {line["custom_id"]: line["response"] for line in found}


def test_each_request_is_answered(served: Served, model: Any, tmp_path: Path) -> None:
    chat: dict[str, Any] = {"custom_id": "chat", "url": "/v1/chat/completions"}
    chat["body"] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "stream": True}
    requests = [request(n, n=1 + n % 3) for n in range(20)]
    source = written(tmp_path / "in", *requests, chat, request(99, temperature=9))
    assert batch.run(served, source, tmp_path / "out", parallel=3) == (21, 1, 0)
    found = answers(tmp_path / "out")
    assert len(found) == 22 and found["99"]["status_code"] == 400
    assert found["99"]["body"]["error"]["param"] == "temperature"
    assert found["chat"]["body"]["object"] == "chat.completion"
    for n in range(20):
        texts = [choice["text"] for choice in found[str(n)]["body"]["choices"]]
        wanted = [model.generate(f"Tom {n}", max_tokens=5, seed=n + i).read().text for i in range(1 + n % 3)]
        assert texts == wanted


def test_it_goes_on_where_it_was_stopped(served: Served, tmp_path: Path) -> None:
    source = written(tmp_path / "in", *(request(n) for n in range(8)))
    out = tmp_path / "out"

    class Stopped(Exception):
        pass

    def stop(done: int, failed: int, known: int) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        batch.run(served, source, out, parallel=2, progress=stop)
    before = answers(out)
    assert len(before) == 3
    with open(out, "ab") as file:
        file.write(b'{"custom_id": "7", "resp')  # a line that was not written to its end
    assert batch.run(served, source, out, parallel=2) == (5, 0, 3)
    after = answers(out)
    assert len(after) == 8 and all(after[key] == value for key, value in before.items())
    assert batch.run(served, source, out) == (0, 0, 8)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "line 2 of in is no request: it is no JSON"),
        (b'{"custom_id": "1", "url": "/v1/completions", "body": {}}', "of a line before it"),
        (b'{"custom_id": "2", "url": "/v1/embeddings", "body": {}}', "as url one of /v1/chat/completions"),
        (b'{"custom_id": 2, "url": "/v1/completions", "body": {}}', "must have custom_id"),
        (b'{"custom_id": "2", "url": "/v1/completions"}', "must have custom_id, body"),
    ],
)
def test_a_file_that_is_none(served: Served, tmp_path: Path, line: bytes, words: str) -> None:
    source = written(tmp_path / "in", request(1))
    source.write_bytes(source.read_bytes() + line + b"\n")
    with pytest.raises(UsageError, match=words):
        batch.run(served, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_is_not_written_to(served: Served, tmp_path: Path) -> None:
    source = written(tmp_path / "in", request(1))
    (tmp_path / "out").write_text("a letter\n")
    with pytest.raises(UsageError, match="is no file of answers: line 1"):
        batch.run(served, source, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a letter\n"
    with pytest.raises(UsageError, match="cannot be read"):
        batch.run(served, tmp_path / "absent", tmp_path / "out")
