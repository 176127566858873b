"""A language model behind a Unix socket: a client sends a text, and reads what the model makes of it.

usage: python answer.py serve MODEL SOCKET [--context N] [--threads N] [--max-tokens N]
       python answer.py ask SOCKET TEXT

A client connects, writes UTF-8 text, ends its side of the connection, and reads lines until the other end
does. Each line is a JSON object. The last one is "done" or "error"; an answer without either was cut off.

    {"text": "…"}                                              a piece of the answer, as it is made
    {"done": {"finish_reason": "eos", "prompt_tokens": 9, "tokens": 40}}
    {"error": {"kind": "usage", "message": "…"}}               one sentence; KINDS has the kinds

A model with a chat template answers the text as a message; another continues it. One client is served at a
time and the others wait. One that does not send its text, or take its answer, within a minute is dropped, and
so is one that leaves: nothing more is computed for it. What fails ends that answer and never the service.

This is an example to start from, and what edgeq.service runs: `edgeq serve` is the server for HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import socketserver
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import edgeq
from edgeq.chat import encode_chat
from edgeq.cli import terminal
from edgeq.errors import EdgeqError, UsageError
from edgeq.generate import Generation, stream

TEXT_BYTES_MAX = 1 << 20
SECONDS_MAX = 60  # in which a client sends its text, and in which it takes what was written to it

# Who is at fault, for a client that must decide whether to try again: the first row that an error belongs to.
KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (UsageError, "usage"),  # the text: no UTF-8, too long; another one may be answered
    (TimeoutError, "timeout"),  # the text did not come
    (MemoryError, "memory"),  # the machine, just now; edgeq's own error is one too
    (EdgeqError, "model"),  # the model file: it will not answer this text
    (SystemExit, "stopping"),  # nobody: the service was told to end
    (BaseException, "internal"),  # the service; its log says more
)


class Left(Exception):
    """The client has left."""


def kind_of(error: BaseException) -> str:
    return next(kind for known, kind in KINDS if isinstance(error, known))


def sentence_of(error: BaseException) -> str:
    """What a client is told: of errors that are edgeq's own what they say."""
    if isinstance(error, SystemExit):
        return "the service is being stopped"
    if isinstance(error, EdgeqError | TimeoutError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the machine has not enough memory for this text just now"
    return "the service failed at this text; its log says where"


# ---- a connection ----
def received(connection: socket.socket, most: int, seconds: float) -> str:
    """The text that a client sends until it ends its side. UsageError for more than `most` bytes, which are
    read to their end but not kept, and for what is no UTF-8; TimeoutError after so many seconds.
    """
    end, parts, count = time.monotonic() + seconds, [], 0
    while True:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        try:
            data = connection.recv(1 << 16)
        except TimeoutError:
            raise TimeoutError(
                f"the text did not end within {seconds:g} s; a client sends it and then ends its side"
            ) from None
        if not data:
            break
        count += len(data)
        if count <= most:
            parts.append(data)
    if count > most:
        raise UsageError(f"the text has {count} bytes, but at most {most} are taken")
    try:
        return b"".join(parts).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the text is no UTF-8: byte {error.start} cannot be decoded") from None


def left(connection: socket.socket) -> bool:
    """Whether the other side is closed altogether. One that has only ended its side still waits."""
    poll = select.poll()
    poll.register(connection, 0)  # what is always told: the other end is closed, or broken
    return bool(poll.poll(0))


# ---- the service ----
class Server(socketserver.UnixStreamServer):
    """One model, one client at a time."""

    def __init__(self, path: str, model: Any, max_tokens: int) -> None:
        self.model, self.max_tokens = model, max_tokens
        if Path(path).is_socket():  # of a server that was killed; nothing else is removed
            Path(path).unlink(missing_ok=True)
        super().__init__(path, Handler)


class Handler(socketserver.BaseRequestHandler):
    """One client: its text, its answer, and what became of it."""

    request: socket.socket

    def handle(self) -> None:
        try:
            for line in self.answer():
                self.tell(line)
        except (Left, BrokenPipeError, ConnectionResetError):
            log("a client left before its answer was complete")
        except BaseException as error:
            self.refuse(error)
            if not isinstance(error, Exception):  # the service is being stopped
                raise

    def answer(self) -> Iterator[dict[str, Any]]:
        """The lines of an answer. Looks at each token, and in a long prompt, whether the client has left."""
        text = received(self.request, TEXT_BYTES_MAX, SECONDS_MAX)
        self.check()
        if not text.strip():
            raise UsageError("the text is empty, so there is nothing to answer")
        with self.begin(text) as generation:
            for piece in generation:
                self.check()
                if piece:
                    yield {"text": piece}
            yield {
                "done": {
                    "finish_reason": generation.finish_reason,
                    "prompt_tokens": len(generation.prompt_ids),
                    "tokens": len(generation.ids),
                }
            }

    def begin(self, text: str) -> Generation:
        assert isinstance(self.server, Server)
        model = self.server.model
        prompt: str | list[int] = text
        if model.chat_template is not None:
            messages = [{"role": "user", "content": text}]
            prompt = encode_chat(model.tokenizer, model.chat_template, messages)
        return stream(model, prompt, max_tokens=self.server.max_tokens, progress=self.check)

    def check(self, *_: object) -> None:
        if left(self.request):
            raise Left

    def tell(self, line: dict[str, Any]) -> None:
        """BrokenPipeError or ConnectionResetError where the client has left, or takes nothing."""
        self.request.settimeout(SECONDS_MAX)
        try:
            self.request.sendall(json.dumps(line).encode() + b"\n")
        except TimeoutError:
            raise BrokenPipeError(f"nothing was taken for {SECONDS_MAX} s") from None

    def refuse(self, error: BaseException) -> None:
        """Tell the client, if it is there, and the log."""
        kind, sentence = kind_of(error), sentence_of(error)
        log(f"a text was not answered ({kind}): {sentence}")
        if kind == "internal":
            traceback.print_exception(error)
        try:
            self.tell({"error": {"kind": kind, "message": sentence}})
        except OSError:
            log("and its client left")


def log(text: str) -> None:
    print(terminal.one_line(text), file=sys.stderr, flush=True)


def serve(model: str, path: str, context: int | None, threads: int | None, max_tokens: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # leave through the `with` blocks
    with (
        edgeq.load(model, context=context, threads=threads) as loaded,
        Server(path, loaded, max_tokens) as server,
    ):
        print(f"{model} is ready at {path}", flush=True)
        server.serve_forever()


# ---- a client ----
def ask(path: str, text: str) -> None:
    """Print the answer as it comes; SystemExit with the service's sentence where it has failed."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        try:
            connection.sendall(os.fsencode(text))
            connection.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass  # it has heard enough, and says why
        with connection.makefile("rb") as lines:
            for said in map(json.loads, lines):
                if "text" not in said:
                    return finished(said)
                terminal.write(said["text"])
    sys.exit("answer.py: the service ended before its answer did; its log may say why (journalctl -u edgeq)")


def finished(said: dict[str, Any]) -> None:
    if error := said.get("error"):
        sys.exit(f"answer.py: {error['kind']}: {terminal.one_line(error['message'])}")
    terminal.write("\n")
    if said["done"]["finish_reason"] == "length":
        log(f"answer.py: cut after {said['done']['tokens']} tokens (--max-tokens, or the end of the context)")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    does = parser.add_subparsers(dest="does", required=True)
    serving = does.add_parser("serve", help="answer whoever connects, until stopped")
    serving.add_argument("model", metavar="MODEL")
    serving.add_argument("path", metavar="SOCKET")
    serving.add_argument("--context", type=int, help="positions of a conversation at the most")
    serving.add_argument("--threads", type=int)
    serving.add_argument("--max-tokens", type=int, default=512, help="of an answer at the most  [512]")
    asking = does.add_parser("ask", help="send a text and print the answer as it comes")
    asking.add_argument("path", metavar="SOCKET")
    asking.add_argument("text", metavar="TEXT")
    return parser.parse_args(words)


def main() -> None:
    arguments = vars(parse())
    try:
        if arguments.pop("does") == "serve":
            serve(**arguments)
        else:
            ask(**arguments)
    except (EdgeqError, OSError) as error:
        sys.exit(f"answer.py: {error}")


if __name__ == "__main__":
    main()
