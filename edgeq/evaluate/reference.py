"""What a model is compared with: another model, or what one said once and a file keeps.

The file is in safetensors' layout, so that other programs read it: `ids` I64 [windows, context], `logprobs`
F16 [tokens, vocabulary] of each scored token's place, `likeliest` I32 and `loss` F64 [tokens], and as
metadata the model, the text's hash, the protocol, and the mean divergence that rounding to 16 bits is alone
(`floor`). It takes 2 bytes for each scored token and each of the vocabulary.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import EdgeqError, FormatError, UsageError, shown
from edgeq.evaluate.windows import PROTOCOLS, Windows, cut, log_softmax, protocol_of, scored
from edgeq.formats.strictjson import parse
from edgeq.formats.temporary import create, remove_stale
from edgeq.generate import LanguageModel

FORMAT = "edgeq reference 1"
HEADER_MAX = 1 << 16
ALIGNMENT = 64
DTYPES = {
    "ids": ("I64", "<i8"),
    "logprobs": ("F16", "<f2"),
    "likeliest": ("I32", "<i4"),
    "loss": ("F64", "<f8"),
}


class Said(NamedTuple):
    """Of some places, one after another."""

    logprobs: NDArray[np.float64]  # [places, vocabulary]
    likeliest: NDArray[np.int64]  # ids
    loss: NDArray[np.float64]  # of the text's own tokens, nats


class Reference(Protocol):
    """Something to compare with."""

    vocab_size: int
    context: int  # the longest window

    def check(self, windows: Windows, text: str | Sequence[int]) -> None:
        """UsageError where it says nothing of these windows."""

    def said(self, windows: Windows) -> Iterator[Said]:
        """In the blocks of `windows.scored`."""


class OfModel:
    """A model that says it now."""

    def __init__(self, model: LanguageModel, protocol: str) -> None:
        self.model, self.vocab_size = model, model.vocab_size
        self.context = min(protocol_of(protocol).context, model.context)

    def check(self, windows: Windows, text: str | Sequence[int]) -> None:
        if not np.array_equal(windows.ids, cut(self.model, text, windows.context, windows.name).ids):
            raise UsageError(
                "model and reference turn the text into different tokens, so they cannot be compared"
            )

    def said(self, windows: Windows) -> Iterator[Said]:
        for _, logits, targets in scored(self.model, windows):
            logprobs = log_softmax(logits)
            yield Said(logprobs, logits.argmax(1), -np.take_along_axis(logprobs, targets[:, None], 1)[:, 0])


def _layout(windows: int, context: int, vocab: int, protocol: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays, in the order of the file."""
    tokens = windows * (context - 1 - PROTOCOLS[protocol].first(context))
    return {"ids": (windows, context), "likeliest": (tokens,), "loss": (tokens,), "logprobs": (tokens, vocab)}


def _entries(shapes: dict[str, tuple[int, ...]]) -> tuple[dict[str, Any], int]:
    """safetensors' entries, and the bytes of all data."""
    entries, at = {}, 0
    for name, shape in shapes.items():
        word, dtype = DTYPES[name]
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        entries[name] = {"dtype": word, "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    return entries, at


class Saved:
    """A file of what a model said, mapped. FormatError for a file that is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about, self._arrays = _read(path)
        _, self.vocab_size = self._arrays["logprobs"].shape
        self.context = self._arrays["ids"].shape[1]
        try:
            self.floor = float(self.about["floor"])
        except ValueError:
            raise FormatError(f"{path} says {shown(self.about['floor'])} of its floor, no number") from None

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether the file looks like one, whole or not."""
        try:
            with open(path, "rb") as file:
                return FORMAT.encode() in file.read(HEADER_MAX)
        except OSError:
            return False

    def check(self, windows: Windows, text: str | Sequence[int]) -> None:
        if windows.name != self.about["protocol"]:
            raise UsageError(f"{self.path} is of the protocol {self.about['protocol']}, not {windows.name}")
        if not np.array_equal(windows.ids, self._arrays["ids"]):
            count, context = self._arrays["ids"].shape
            raise UsageError(
                f"{self.path} keeps what was said of {count} windows of {context} tokens of the text with "
                f"SHA-256 {self.about['text_sha256'][:16]}…, but these are {windows.count} of "
                f"{windows.context} of {windows.text_sha256[:16]}…, or the tokens differ"
            )

    def said(self, windows: Windows) -> Iterator[Said]:
        done = 0
        for start, end in windows.blocks(self.vocab_size) * windows.count:
            at = slice(done, done + end - start)
            rows, loss = self._arrays["logprobs"][at].astype(np.float64), self._arrays["loss"][at]
            if not (np.isfinite(rows).all() and rows.max() <= 0 and np.isfinite(loss).all()):
                raise FormatError(f"{self.path} is damaged: it has probabilities that are none")
            yield Said(log_softmax(rows), self._arrays["likeliest"][at].astype(np.int64), loss)
            done += end - start


def _read(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The metadata and the arrays, mapped; all sizes are looked at."""
    where = f"{path} is no reference that edgeq keeps"
    try:
        nbytes = os.stat(path).st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= HEADER_MAX or 8 + length > nbytes:
                raise FormatError(f"{where}: its header would have {length} bytes")
            raw = file.read(length)
    except OSError as error:
        raise EdgeqError(f"{path} cannot be read: {error.strerror or error}") from None
    header = parse(raw, f"the header of {path}", depth_max=8)
    about = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise FormatError(f"{where}: its header does not say {FORMAT!r}")
    if not all(isinstance(value, str) for value in about.values()):
        raise FormatError(f"{where}: its metadata are not all texts")
    shapes = [entry.get("shape") if isinstance(entry, dict) else None for entry in header.values()]
    sizes = [n for shape in shapes for n in (shape if isinstance(shape, list) else [None])]
    if not all(type(n) is int and 0 < n < 1 << 40 for n in sizes):
        raise FormatError(f"{where}: its arrays have no shapes")
    ids, logprobs = (header.get(name, {}).get("shape", []) for name in ("ids", "logprobs"))
    if len(ids) != 2 or len(logprobs) != 2:
        raise FormatError(f"{where}: its arrays are not those of windows")
    if about.get("protocol") not in PROTOCOLS:
        raise FormatError(f"{where}: it does not say by which protocol")
    windows, context = ids
    layout = _layout(windows, context, logprobs[1], about["protocol"])
    entries, size = _entries(layout)
    if header != entries or nbytes != 8 + length + size:
        raise FormatError(f"{where}: its {nbytes} bytes are not what {ids[0]} windows of {ids[1]} take")
    mapped = np.memmap(path, np.uint8, "r", 8 + length)
    arrays = {}
    for name, shape in layout.items():
        begin, end = entries[name]["data_offsets"]
        arrays[name] = mapped[begin:end].view(DTYPES[name][1]).reshape(shape)
    if not {"text_sha256", "floor", "model"} <= about.keys():
        raise FormatError(f"{where}: it does not say of which text and model")
    return about, arrays


class Keeper:
    """Writes one file of what a reference says, as it says it. A context manager: without `commit` there is
    no file.
    """

    def __init__(self, path: Path, windows: Windows, vocab_size: int, model: str) -> None:
        self.path, self._windows, self._model = path, windows, model
        layout = _layout(windows.count, windows.context, vocab_size, windows.name)
        self._entries, self._size = _entries(layout)
        self._header = self._text(0.0)
        self._likeliest, self._loss = np.empty(windows.tokens, "<i4"), np.empty(windows.tokens, "<f8")
        self._done, self._lost = 0, 0.0
        try:
            remove_stale(path)
            self._temporary, self._file = create(path)
        except OSError as error:
            raise EdgeqError(f"{path} cannot be written: {error.strerror or error}") from None
        self._open = True
        begin, _ = self._entries["logprobs"]["data_offsets"]
        self._write(lambda file: file.seek(len(self._header) + begin))

    @property
    def floor(self) -> float:
        """Mean divergence, nats, that rounding to 16 bits is alone."""
        return self._lost / max(1, self._done)

    def _text(self, floor: float) -> bytes:
        """The header; its length is the same for every floor."""
        about = {
            "format": FORMAT,
            "model": self._model[:1000],
            "protocol": self._windows.name,
            "text_sha256": self._windows.text_sha256,
            "text_tokens": str(self._windows.text_tokens),
            "floor": f"{floor:.6e}",
        }
        raw = json.dumps({"__metadata__": about, **self._entries}).encode()
        raw += b" " * (-(8 + len(raw)) % ALIGNMENT)
        return len(raw).to_bytes(8, "little") + raw

    def keep(self, said: Said) -> None:
        """The next places."""
        rounded = np.maximum(said.logprobs, -65504).astype("<f2")
        log_q = log_softmax(rounded.astype(np.float64))
        self._lost += float((np.exp(said.logprobs) * (said.logprobs - log_q)).sum())
        at = slice(self._done, self._done + len(rounded))
        self._likeliest[at], self._loss[at] = said.likeliest, said.loss
        self._done += len(rounded)
        self._write(lambda file: file.write(rounded.tobytes()))

    def commit(self) -> None:
        """Fill in what is known at the end, sync, move the file into place."""
        small = {"ids": self._windows.ids.astype("<i8"), "likeliest": self._likeliest, "loss": self._loss}

        def finish(file: BinaryIO) -> None:
            file.seek(0)
            file.write(self._text(self.floor))
            for array in small.values():
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(self._temporary, self.path)

        self._write(finish)
        self._open = False

    def _write(self, action: Any) -> None:
        try:
            action(self._file)
        except OSError as error:
            raise EdgeqError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._open = False
            self._file.close()
            self._temporary.unlink(missing_ok=True)
