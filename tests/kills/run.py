"""One life of a server after another: each is killed while it streams and writes its cache, and the next one
finds a cache that is whole, and answers as the first did."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.prefix import file as files
from tests.patience import until
from tests.serve.spawned import Spawned

WORDS = ("-np", "4", "-c", "512", "-q", "--prompt-cache-size", "8M")
CLIENTS = 4
EVENTS_MAX = 300  # of all streams, at which a life ends at the latest
STORY = (
    "Once upon a time there was a little girl who had a red ball and liked to play in the park. " * 12
)  # more than a page's tokens: fewer are not written
KNOWN: tuple[dict[str, Any], ...] = (
    {"prompt": STORY, "max_tokens": 40, "seed": 1},
    {"prompt": STORY + "One day", "max_tokens": 40, "seed": 2},
    {"prompt": "Tom", "max_tokens": 40, "temperature": 0},
    {"prompt": STORY + "Then", "max_tokens": 0, "echo": True, "logprobs": 1},
)


class Lives:
    """Lives of one server over one cache. wrong: what was not as it must be, one sentence each."""

    def __init__(self, model: Path, folder: Path, seed: int = 0) -> None:
        self.model, self.folder, self.log = model, folder / "cache", folder / "log"
        self.rng = random.Random(seed)
        self.wrong: list[str] = []
        self.ready_s: list[float] = []  # of each start
        self.ready_cpu_s: list[float] = []  # of it, what the process itself computed
        self.seen: Counter[str] = Counter()  # what the kills came upon
        self._answers: list[Any] = []  # of the first life

    def life(self) -> None:
        """Start, look at everything, load, kill."""
        server = Spawned(self.model, self.log, "--prompt-cache", str(self.folder), *WORDS)
        try:
            self.ready_s.append(server.ready_s)
            self.ready_cpu_s.append(server.cpu_s())
            self._check_folder()
            self._check_answers(server)
            self._load_and_kill(server)
        finally:
            server.kill()
        self.seen["files half written"] += len(list(self.folder.glob("*.partial")))
        for line in self.log.read_text(errors="replace").splitlines():
            self.wrong.append(f"the server said {line!r}")
        self.log.write_text("")

    # what the one before left ----------------------------------------------------------------------------

    def _check_folder(self) -> None:
        """Nothing half written is left, and every file can be read to its end."""
        self.wrong += [f"{path.name} was left" for path in self.folder.glob("*.partial")]
        import edgeq

        with edgeq.load(
            self.model, threads=1, context=512, prompt_cache=self.folder, prompt_cache_ro=True
        ) as model:
            prefixes = model.prefixes
            assert prefixes is not None and prefixes.folder is not None
            layout, identity = prefixes.layout, prefixes.folder.identity
            for path in self.folder.glob("*.prefix"):
                self.seen["files read"] += 1
                try:
                    with open(path, "rb") as file:
                        head = files.read_head(file, path.stat().st_size, layout, identity, "")
                        for row in head.rows.values():
                            files.read_page(file, row, np.empty(row.nbytes, np.uint8))
                except (files.DamagedError, OSError) as error:
                    self.wrong.append(f"{path.name}: {error}")

    def _check_answers(self, server: Spawned) -> None:
        answers = []
        for sent in KNOWN:
            status, data = server.post("/v1/completions", sent)
            if status != 200:
                self.wrong.append(f"a request is answered with {status}: {data[:300]!r}")
                return
            found = json.loads(data)
            self.seen["tokens of the cache"] += found["usage"]["prompt_tokens_details"]["cached_tokens"]
            answers.append(found["choices"])
        self._answers = self._answers or answers
        if answers != self._answers:
            self.wrong.append(f"answers differ: {answers} and before {self._answers}")

    # a life -----------------------------------------------------------------------------------------------

    def _load_and_kill(self, server: Spawned) -> None:
        """Streams and ends of answers, each of which writes a file; the end of it all comes after so many
        events, or as soon as a file is being written."""
        most, is_writing = self.rng.randrange(EVENTS_MAX), self.rng.random() < 0.5
        events = [0] * CLIENTS
        killed = threading.Event()

        def client(number: int, rng: random.Random) -> None:
            while not killed.is_set():
                words = " ".join(str(rng.randrange(1000)) for _ in range(75))
                body = {"prompt": words, "max_tokens": rng.randint(1, 60), "stream": True}
                try:
                    streamed(server, body, number, events)
                    self.seen["streams whole"] += 1
                except (OSError, http.client.HTTPException) as error:
                    self.seen["streams broken off"] += 1
                    if not killed.is_set():
                        self.wrong.append(f"a stream broke off: {error!r}")
                except AssertionError as error:
                    self.wrong.append(str(error))

        seeds = [random.Random(self.rng.random()) for _ in range(CLIENTS)]
        threads = [threading.Thread(target=client, args=each) for each in enumerate(seeds)]
        for thread in threads:
            thread.start()

        def due() -> bool:
            writes = is_writing and any(self.folder.glob("*.partial"))
            return writes or sum(events) >= (EVENTS_MAX if is_writing else most)

        try:
            until(due, "the load", pause=0.0005)
        finally:
            killed.set()
            server.kill()
            for thread in threads:
                thread.join()


def streamed(server: Spawned, body: dict[str, Any], number: int, events: list[int]) -> None:
    """Read a stream, counting its events. OSError or HTTPException where it is broken off, which it must not
    be in a way that looks like its end: AssertionError."""
    connection = server.connect()
    said = b""
    try:
        connection.request("POST", "/v1/completions", json.dumps(body))
        with connection.getresponse() as response:
            while part := response.read1(1 << 16):  # by lines http.client takes any end for a good one
                events[number] += part.count(b"data: ")
                said += part
    finally:
        connection.close()
    assert said.endswith(b"data: [DONE]\n\n"), f"a stream ended as if it were whole, with {said[-300:]!r}"
