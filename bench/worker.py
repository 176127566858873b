"""One engine in one process: loads a model once, then measures what it is asked for, a JSON line per request.

usage: python -m bench.worker ENGINE '{"model": PATH, "threads": N, ...}'     ENGINE: edgeq, llamacpp, machine

It writes a line when it is ready (load time), then answers each line of stdin:

    {"do": "prefill", "tokens": n, "after": m}     {"seconds": s, "cpu_s": c}, CPU time of all threads
    {"do": "decode", "prompt": m, "tokens": n}     the same
    {"do": "batch", "sequences": s, "prompt": m, "tokens": n}     {"seconds": s}, a row of each in a pass
    {"do": "memory"}                               {"peak_rss_mb": m}
    {"do": "read"} or {"do": "dot"}                {"rate": r}, from the machine

A worker does nothing between requests, so several can take turns on one machine. Only the engine that is
asked is imported: the llama.cpp worker needs numpy and llama_cpp, and may run under another interpreter.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

START = time.perf_counter()
BATCH = 512  # tokens that llama.cpp takes at once, as its own commands do
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Engine(Protocol):
    """What a worker asks of an engine."""

    about: str  # the engine's version, for the report

    def keep(self, count: int) -> None:
        """Forget every token after the first `count`."""

    def feed(self, ids: list[int]) -> int:
        """Append ids to the context; return the id with the largest logit after the last one."""

    def together(self, sequences: int, prompt: int, tokens: int) -> float:
        """Seconds of `tokens` steps of so many sequences, each with a prompt of its own, one row of each in a
        pass."""


def token_ids(count: int) -> list[int]:
    """The same ids for every engine (all below 259): what they are does not matter to the time."""
    return [1] + [3 + (i * 37) % 256 for i in range(count - 1)]


def peak_rss_mb() -> float:
    """The most memory this process ever had resident, mapped files included, in MB (10^6 bytes)."""
    try:
        with open("/proc/self/status") as status:
            lines = [line for line in status if line.startswith("VmHWM")]
        return int(lines[0].split()[1]) * 1024 / 1e6
    except (OSError, IndexError):  # no /proc: macOS and others
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Edgeq:
    """options: model, threads, context, kv, act."""

    def __init__(self, options: dict[str, Any]) -> None:
        import edgeq

        self.about = f"edgeq {edgeq.__version__}"
        self.model = edgeq.load(
            options["model"],
            threads=options["threads"],
            context=options["context"],
            kv=options.get("kv", "q8"),
            act=options.get("act", "int8"),
        )
        self.sequence = self.model.sequence()

    def keep(self, count: int) -> None:
        self.sequence.truncate(count)

    def feed(self, ids: list[int]) -> int:
        return int(self.sequence.feed(ids).argmax())

    def together(self, sequences: int, prompt: int, tokens: int) -> float:
        from edgeq.passes import Part

        every = [self.model.sequence() for _ in range(sequences)]
        for n, sequence in enumerate(every):
            sequence.feed(token_ids(prompt + 1)[: prompt - 1] + [3 + n])
        start = time.perf_counter()
        for _ in range(tokens):
            self.model.advance([Part(sequence, [7], 1) for sequence in every])
        took = time.perf_counter() - start
        for sequence in every:
            sequence.close()
        return took


def ggml(api: Any) -> str:
    """Version and commit of the ggml that llama_cpp was built with, where it tells them."""
    words = []
    for name in ("ggml_version", "ggml_commit"):
        function = getattr(api.llama_cpp._lib, name, None)
        if function is not None:
            function.restype = ctypes.c_char_p
            words.append(function().decode())
    return f" (ggml {' '.join(words)})" if words else ""


class LlamaCpp:
    """options: model, threads, context, flash (bool). Low-level API; logits of the last token only."""

    def __init__(self, options: dict[str, Any]) -> None:
        import llama_cpp
        import numpy as np

        self.api, self.numpy = llama_cpp, np
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # must outlive C
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        features = llama_cpp.llama_print_system_info().decode().split("|")
        self.about = f"llama-cpp-python {llama_cpp.__version__}{ggml(llama_cpp)}:" + ",".join(
            feature.split(":")[-1].split("=")[0].rstrip() for feature in features if "= 1" in feature
        )
        model_params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(options["model"]), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = options["context"]
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = options["threads"]
        params.flash_attn_type = int(bool(options.get("flash", True)))
        self.context = llama_cpp.llama_init_from_model(self.model, params) if self.model else None
        if not self.context:
            raise SystemExit(f"llama.cpp cannot load {options['model']}")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def keep(self, count: int) -> None:
        self.api.llama_memory_seq_rm(self.memory, 0, count, -1)

    def feed(self, ids: list[int]) -> int:
        for first in range(0, len(ids), BATCH):
            part = ids[first : first + BATCH]
            tokens = (ctypes.c_int32 * len(part))(*part)  # the batch points into it
            if self.api.llama_decode(self.context, self.api.llama_batch_get_one(tokens, len(part))):
                raise SystemExit("llama_decode failed")
        logits = self.api.llama_get_logits_ith(self.context, -1)
        return int(self.numpy.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def together(self, sequences: int, prompt: int, tokens: int) -> float:
        raise SystemExit("llama.cpp's batches of several sequences are not measured here")


class Measure:
    """Answers requests for one engine. All that is fed begins the same ids: a context is used again."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.length = 0  # tokens in the engine's context
        self.times = {"seconds": 0.0, "cpu_s": 0.0}  # spent in the engine since `begin`

    def begin(self, length: int) -> None:
        """Bring the context to `length` tokens and the times to zero."""
        if self.length < length:
            self.feed_to(length)
        self.engine.keep(length)
        self.length = length
        self.times = {"seconds": 0.0, "cpu_s": 0.0}

    def feed_to(self, count: int) -> None:
        """Feed ids until the context holds `count`."""
        ids = token_ids(count)[self.length :]
        cpu, start = time.process_time(), time.perf_counter()
        self.engine.feed(ids)
        self.times["seconds"] += time.perf_counter() - start
        self.times["cpu_s"] += time.process_time() - cpu
        self.length = count

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "memory":
            return {"peak_rss_mb": peak_rss_mb(), "about": self.engine.about}
        if request["do"] == "prefill":
            after = request.get("after", 0)
            self.begin(after)
            self.feed_to(after + request["tokens"])
            return self.times
        if request["do"] == "decode":
            self.begin(request["prompt"])
            for _ in range(request["tokens"]):
                self.feed_to(self.length + 1)
            return self.times
        if request["do"] == "batch":
            names = ("sequences", "prompt", "tokens")
            return {"seconds": self.engine.together(*(request[name] for name in names))}
        raise SystemExit(f"unknown request {request['do']!r}; known are prefill, decode, batch and memory")


def machine(options: dict[str, Any]) -> Answer:
    """The machine itself, at the threads of the options."""
    from bench.machine import Machine

    probe = Machine(options["threads"])
    probe.read_gbps()  # touches the buffer
    return lambda request: {"rate": probe.read_gbps() if request["do"] == "read" else probe.dot_gmacs()}


def main() -> None:
    name, options = sys.argv[1], json.loads(sys.argv[2])
    ready: dict[str, Any] = {}
    if name == "machine":
        answer = machine(options)
    else:
        engines: dict[str, Callable[[dict[str, Any]], Engine]] = {"edgeq": Edgeq, "llamacpp": LlamaCpp}
        measure = Measure(engines[name](options))
        ready["load_s"] = time.perf_counter() - START
        measure.feed_to(1)
        answer = measure
    ready["first_token_s"] = time.perf_counter() - START
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
