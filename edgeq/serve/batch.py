"""Many requests from a file, answered into another: OpenAI's lines, and nothing lost where it was stopped.

Answers are written as they end, whole lines and in that order, so that whoever starts it again goes on with
the requests that have none.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from edgeq.errors import UsageError, printable, shown
from edgeq.generate import Batch, BatchGeneration
from edgeq.serve import fields
from edgeq.serve.completions import CompletionReply
from edgeq.serve.errors import ApiError, api_error
from edgeq.serve.openai import ChatReply
from edgeq.serve.request import Event, Reply
from edgeq.serve.served import Served
from edgeq.serve.wire import error_json
from edgeq.serve.worker import begin, made

LINE_BYTES_MAX = 8 << 20
SYNC_LINES = 100  # after which what was written is on the disk
AHEAD = 2  # times as many requests as run are read
DIALECTS: dict[str, Callable[[Served, dict[str, Any]], Reply]] = {
    "/v1/chat/completions": ChatReply,
    "/v1/completions": CompletionReply,
}


@dataclass
class Line:
    """A request of the file that is under way."""

    custom_id: str
    reply: Reply
    generations: list[BatchGeneration]
    left: int  # texts that are not over


class Output:
    """The file of answers; lines of an earlier run stay, but for one that was not written to its end."""

    def __init__(self, path: Path) -> None:
        self.done: set[str] = set()
        try:
            self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115  (closed by `close`)
        except OSError as error:
            raise UsageError(f"{printable(str(path))} cannot be written: {error.strerror}") from None
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                self.done.add(msgspec.json.decode(line)["custom_id"])
            except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
                self._file.close()
                raise UsageError(
                    f"{printable(str(path))} is no file of answers: line {number} has no custom_id; "
                    "name another with -o"
                ) from None
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        self._count = 0

    def write(self, custom_id: str, status: int, body: Any) -> None:
        response = {"status_code": status, "request_id": secrets.token_hex(8), "body": body}
        line = {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": custom_id, "response": response}
        self._file.write(msgspec.json.encode({**line, "error": None}) + b"\n")
        self._count += 1
        if self._count % SYNC_LINES == 0:
            self.sync()

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        self._file.close()


def lines_of(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(custom_id, url, body) of each request. UsageError names the line that is none."""
    seen: set[str] = set()
    try:
        file = open(path, "rb")  # noqa: SIM115  (below)
    except OSError as error:
        raise UsageError(f"{printable(str(path))} cannot be read: {error.strerror}") from None
    with file:
        number = 0
        while line := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            where = f"line {number} of {printable(path.name)}"
            if len(line) > LINE_BYTES_MAX:
                raise UsageError(f"{where} has more than {LINE_BYTES_MAX} bytes")
            if not line.strip():
                continue
            try:
                given = fields.decoded(line)
            except ApiError as error:
                raise UsageError(
                    f"{where} is no request: {error.message.replace('the body', 'it')}"
                ) from None
            custom_id, url, body = given.get("custom_id"), given.get("url"), given.get("body")
            is_known = isinstance(url, str) and url in DIALECTS
            if not isinstance(custom_id, str) or not isinstance(body, dict) or not is_known:
                raise UsageError(
                    f"{where} is no request: it must have custom_id, body, and as url one of "
                    f"{' and '.join(DIALECTS)}"
                )
            if custom_id in seen:
                raise UsageError(f"{where} has the custom_id {shown(custom_id)} of a line before it")
            seen.add(custom_id)
            yield custom_id, str(url), {**body, "stream": False}


def run(
    served: Served,
    source: Path,
    target: Path,
    *,
    parallel: int = 16,
    progress: Callable[[int, int, int], object] = lambda done, failed, known: None,
) -> tuple[int, int, int]:
    """Answer the requests of a file. (answered, refused, answered before); progress is told the same.

    UsageError for a file that is none, before anything is computed."""
    for _ in lines_of(source):  # all of them, so that the last one's fault is not found after hours
        pass
    with ExitStack() as stack:
        output = Output(target)
        stack.callback(output.close)
        batch = stack.enter_context(Batch(served.model, parallel=parallel))
        return _Run(served, output, batch, parallel, progress).all(lines_of(source))


class _Run:
    def __init__(self, served: Served, output: Output, batch: Batch, parallel: int, progress: Any) -> None:
        self.served, self.output, self.batch, self.parallel = served, output, batch, parallel
        self.progress = progress
        self.running: dict[int, tuple[Line, int]] = {}  # by their generations
        self.done = self.failed = self.known = 0

    def all(self, lines: Iterator[tuple[str, str, dict[str, Any]]]) -> tuple[int, int, int]:
        is_more = True
        while is_more or self.running:
            while is_more and len(self.running) < AHEAD * self.parallel:
                line = next(lines, None)
                is_more = line is not None
                if line is not None:
                    self._begin(*line)
            if self.running:
                self._step()
        return self.done, self.failed, self.known

    def _begin(self, custom_id: str, url: str, body: dict[str, Any]) -> None:
        if custom_id in self.output.done:
            self.known += 1
            return
        try:
            reply = DIALECTS[url](self.served, body)
            groups = [group for each in reply.requests for group in made(self.batch, each, self.parallel)]
            generations = [generation for group in groups for generation in group]
            begin(self.batch, groups)
        except Exception as error:
            self._refused(custom_id, error)
            return
        reply.begin(generations)
        line = Line(custom_id, reply, generations, len(generations))
        for index, generation in enumerate(generations):
            self.running[id(generation)] = line, index

    def _step(self) -> None:
        for generation, pieces in self.batch.step():
            if (found := self.running.get(id(generation))) is None:
                continue
            line, index = found
            if generation.error is None:
                line.reply.take([Event(index, pieces, generation.over)])
            if generation.over:
                del self.running[id(generation)]
                line.left -= 1
            if line.left == 0:
                self._ended(line)

    def _ended(self, line: Line) -> None:
        errors = [generation.error for generation in line.generations if generation.error is not None]
        if errors:
            self._refused(line.custom_id, errors[0])
            return
        self.output.write(line.custom_id, 200, line.reply.whole())
        self.done += 1
        self.progress(self.done, self.failed, self.known)

    def _refused(self, custom_id: str, error: BaseException) -> None:
        known = api_error(error)
        self.output.write(custom_id, known.status, error_json(known))
        self.failed += 1
        self.progress(self.done, self.failed, self.known)
