"""llama.cpp as a `LanguageModel` of edgeq: token ids in, its own logits out, so that both are scored alike.

On its low-level API, by its own defaults: float16 cache if no other is asked for, flash attention where it
takes it, memory mapping and repacked weights. The vocabulary is not asked for: it takes ids.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.worker import ggml
from edgeq.passes import Fed


def version() -> str:
    """Of the library and its ggml; ImportError without it."""
    import llama_cpp

    return f"llama-cpp-python {llama_cpp.__version__}{ggml(llama_cpp)}"


class LlamaCpp:
    """A GGUF file, loaded; a context manager. `kv`: the types of keys and of values in the cache, in ggml's
    words. RuntimeError where llama.cpp does not load it.
    """

    tokenizer: Any = None
    file: Any = None

    def __init__(self, path: Path, context: int, threads: int, kv: tuple[str, str] | None = None) -> None:
        import llama_cpp

        self.api: Any = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # must outlive C
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        defaults = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), defaults)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = context
        params.n_threads = params.n_threads_batch = threads
        if kv == ("f32", "f32"):  # which flash attention would make float16 of
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if kv:
            params.type_k, params.type_v = (getattr(llama_cpp, f"GGML_TYPE_{word.upper()}") for word in kv)
        self.pointer = llama_cpp.llama_init_from_model(self._model, params) if self._model else None
        if not self.pointer:
            self.close()
            raise RuntimeError(f"llama.cpp does not load {path.name}")
        self.context = context
        self.vocab_size = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model)))

    def sequence(self) -> Tokens:
        """The one sequence there is."""
        return Tokens(self)

    def close(self) -> None:
        if self.pointer:
            self.api.llama_free(self.pointer)
        if self._model:
            self.api.llama_model_free(self._model)
        self.pointer = self._model = None

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Tokens:
    """See `edgeq.generate.TokenSequence`."""

    def __init__(self, model: LlamaCpp) -> None:
        self._model = model
        self.ids: list[int] = []
        self.truncate(0)

    def feed(
        self, ids: Sequence[int], *, all_logits: bool = False, progress: Callable[..., Any] | None = None
    ) -> NDArray[np.float32]:
        """float32 [tokens, vocabulary] with all_logits, else [vocabulary] of the last; RuntimeError."""
        api, count = self._model.api, len(ids)
        batch = api.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, len(self.ids) + i, 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = all_logits or i == count - 1
            if api.llama_decode(self._model.pointer, batch):
                raise RuntimeError(f"llama_decode fails on {count} tokens after {len(self.ids)}")
        finally:
            api.llama_batch_free(batch)
        self.ids += ids
        shape = (count if all_logits else 1, self._model.vocab_size)
        logits = np.ctypeslib.as_array(api.llama_get_logits(self._model.pointer), shape).copy()
        return logits if all_logits else logits[0]

    def step(
        self,
        ids: Sequence[int],
        *,
        wanted: int = 1,
        progress: Callable[..., Any] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Fed:
        """The logits after each of the last `wanted` ids and the token that is likeliest there."""
        logits = self.feed(ids, all_logits=True)[-wanted:] if wanted > 1 else self.feed(ids)[None]
        return Fed(logits, logits.argmax(axis=1))

    def truncate(self, n: int) -> int:
        api = self._model.api
        api.llama_memory_seq_rm(api.llama_get_memory(self._model.pointer), 0, n, -1)
        del self.ids[n:]
        return n

    def close(self) -> None:
        pass
