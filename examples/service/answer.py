"""A language model behind a Unix socket: a client sends a text, and reads what the model makes of it.

usage: python answer.py serve MODEL SOCKET [--context N] [--threads N] [--max-tokens N]
       python answer.py ask SOCKET TEXT

A client connects, writes UTF-8 text, ends its side of the connection, and reads until the other end does. A
model with a chat template answers the text as a message; another continues it. One client is served at a time
and the others wait; one that is silent for a minute is dropped. What cannot be answered is a line in the log.

This is an example to start from, and what edgeq.service runs: edgeq itself is a library and has no server.
"""

from __future__ import annotations

import argparse
import signal
import socket
import socketserver
import sys
from collections.abc import Sequence
from pathlib import Path

import edgeq
from edgeq.chat import encode_chat
from edgeq.errors import EdgeqError, UsageError
from edgeq.generate import Generation, stream

TEXT_BYTES_MAX = 1 << 20
SILENCE_SECONDS = 60  # a client may take this long between two steps


class Server(socketserver.UnixStreamServer):
    """One model, one client at a time."""

    def __init__(self, path: str, model: edgeq.Model, max_tokens: int) -> None:
        self.model, self.max_tokens = model, max_tokens
        Path(path).unlink(missing_ok=True)  # of a server that was killed
        super().__init__(path, Handler)


class Handler(socketserver.StreamRequestHandler):
    timeout = SILENCE_SECONDS

    def handle(self) -> None:
        assert isinstance(self.server, Server)
        try:
            for piece in self.answer(self.server):
                self.wfile.write(piece.encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has read enough; the generation ends with the iterator
        except (EdgeqError, UnicodeDecodeError, TimeoutError) as error:
            print(f"a request was not answered: {error}", file=sys.stderr, flush=True)

    def answer(self, server: Server) -> Generation:
        data = self.rfile.read(TEXT_BYTES_MAX + 1)
        if len(data) > TEXT_BYTES_MAX:
            raise UsageError(f"it has more than {TEXT_BYTES_MAX} bytes")
        model, text = server.model, data.decode()
        if model.chat_template is None:
            return stream(model, text, max_tokens=server.max_tokens)
        message = {"role": "user", "content": text}
        ids = encode_chat(model.tokenizer, model.chat_template, [message])
        return stream(model, ids, max_tokens=server.max_tokens)


def serve(model: str, path: str, context: int | None, threads: int | None, max_tokens: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # leave through the `with` blocks
    with (
        edgeq.load(model, context=context, threads=threads) as loaded,
        Server(path, loaded, max_tokens) as server,
    ):
        print(f"{model} is ready at {path}", flush=True)
        server.serve_forever()


def ask(path: str, text: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(4096):
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()


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
