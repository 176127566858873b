"""Which tokens of a text are scored, and with what before them: llama.cpp's protocol or GPTQ's, so that
figures compare.

The text is encoded whole, with the beginning-of-text token (BOS) where the tokenizer puts one. The ids are
cut into windows of `context` tokens that do not overlap; what is left at the end is not used. Each window
starts from an empty cache, and each scored token is given all tokens before it in the window. In llama.cpp's
protocol the first token of every window is replaced by BOS where the text began with it, and the tokens of
the second half are scored: those at positions context // 2 + 1 to context - 1. In that of GPTQ's paper
(Frantar et al. 2022), which most papers follow, windows have 2048 tokens as they come, and all but the first
of each are scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.arguments import one_of
from edgeq.errors import UsageError
from edgeq.generate import LanguageModel, encode
from edgeq.sampling import check_logits

CONTEXT_MIN = 8
ROWS_AT_ONCE = 32  # of logits whose distributions are computed
BLOCK_BYTES = 16 << 20  # of logits held at a time: 128 Ki words of vocabulary are 32 rows


@dataclass(frozen=True)
class Protocol:
    """A way to cut and score."""

    context: int  # the usual window
    bos: bool  # whether each window begins with BOS where the text does
    half: bool  # whether the second half of a window is scored, or all of it
    text: str

    def first(self, context: int) -> int:
        """The first place whose prediction is scored."""
        return context // 2 if self.half else 0


LLAMA_CPP = "llama.cpp"
PROTOCOLS = {
    LLAMA_CPP: Protocol(
        512, True, True,
        "windows of {context} tokens without overlap, BOS first where the tokenizer adds it, "
        "second half scored",
    ),
    "gptq": Protocol(
        2048, False, False,
        "windows of {context} tokens as they come, without overlap, all but the first scored",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Windows:
    """The windows of one text: ids int64 [windows, context]; `tokens` scored in all."""

    ids: NDArray[np.int64]
    text_tokens: int
    text_sha256: str  # of the UTF-8 text, or of the little-endian int64 ids where ids were given
    name: str = LLAMA_CPP  # of the protocol

    @property
    def first(self) -> int:
        """The first place of a window whose prediction is scored."""
        return PROTOCOLS[self.name].first(self.context)

    @property
    def context(self) -> int:
        return self.ids.shape[1]

    @property
    def count(self) -> int:
        return self.ids.shape[0]

    @property
    def scored_per_window(self) -> int:
        return self.context - 1 - self.first

    @property
    def tokens(self) -> int:
        return self.count * self.scored_per_window

    @property
    def protocol(self) -> str:
        return PROTOCOLS[self.name].text.format(context=self.context)

    def blocks(self, vocab_size: int) -> list[tuple[int, int]]:
        """The scored places of a window in blocks, (first, end): they depend on the vocabulary's size alone,
        so two models of one vocabulary can be walked together.
        """
        rows = max(8, min(256, BLOCK_BYTES // (4 * vocab_size)))
        last = self.context - 1
        return [(start, min(start + rows, last)) for start in range(self.first, last, rows)]


def protocol_of(name: str) -> Protocol:
    """UsageError for a name that none has."""
    return PROTOCOLS[one_of("protocol", name, tuple(PROTOCOLS))]


def cut(
    model: LanguageModel, text: str | Sequence[int], context: int | None, protocol: str = LLAMA_CPP
) -> Windows:
    """The windows of `text` (or of token ids). `context` None takes the protocol's, or the model's when that
    is less.

    Raises UsageError when the context is out of range, the text fills no window, or no protocol has the name.
    """
    way = protocol_of(protocol)
    if context is None:
        context = min(way.context, model.context)
    if not CONTEXT_MIN <= context <= model.context:
        few = context < CONTEXT_MIN
        right = f"at least {CONTEXT_MIN}" if few else f"at most the model's context of {model.context}"
        raise UsageError(f"the window is {context} tokens, but must be {right}")
    ids = np.array(encode(model, text), dtype=np.int64)
    count = len(ids) // context
    if count == 0:
        raise UsageError(
            f"the text has {len(ids)} tokens, but one window needs {context}: give a longer text, or a "
            "smaller context"
        )
    windows = ids[: count * context].reshape(count, context).copy()
    bos = model.tokenizer.bos_id if model.tokenizer is not None else None
    if way.bos and bos is not None and ids[0] == bos:
        windows[:, 0] = bos
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else ids.astype("<i8").tobytes()
    return Windows(windows, len(ids), hashlib.sha256(data).hexdigest(), protocol)


def scored(
    model: LanguageModel, windows: Windows
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.int64]]]:
    """Blocks of (window number, logits float32 [n, vocab], the ids they should have predicted [n]), in order.

    A sequence keeps its bits however it is fed, so the size of a block does not touch the figures.
    """
    blocks = windows.blocks(model.vocab_size)
    sequence = model.sequence()
    try:
        for number, window in enumerate(windows.ids.tolist()):
            sequence.truncate(0)
            if windows.first:
                sequence.feed(window[: windows.first])
            for start, end in blocks:
                logits = sequence.feed(window[start:end], all_logits=True)
                check_logits(logits)
                yield number, logits, windows.ids[number, start + 1 : end + 1]
    finally:
        sequence.close()


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Natural logarithms of the softmax over the last axis, float64; no finite logits overflow it."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def kld_of_rows(p: NDArray[np.floating], q: NDArray[np.floating]) -> NDArray[np.float64]:
    """float64 [n]: KLD, in nats, of the distribution of each row of logits q [n, vocabulary] from that of p.

    Some rows at a time: float64 of all of them, several times over, may not fit in memory.
    """
    found = np.empty(len(p))
    for at in range(0, len(p), ROWS_AT_ONCE):
        log_p, log_q = (log_softmax(x[at : at + ROWS_AT_ONCE]) for x in (p, q))
        found[at : at + ROWS_AT_ONCE] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return found


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of `values`, as if they were independent (words of one text are not quite); 0 for one
    value.
    """
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
