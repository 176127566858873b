"""The model that is served, and what the dialects ask of it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgeq import __version__
from edgeq.chat.prompt import template_of
from edgeq.errors import EdgeqError, UsageError
from edgeq.serve.errors import ApiError

FINGERPRINT_BYTES = 1 << 20  # of the file's beginning, which holds its header


@dataclass
class Served:
    """A model, its name, and what the server was told of it.

    defaults: of how tokens are drawn. template: in place of the model's.
    """

    model: Any
    name: str
    template: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    created: int = field(default_factory=lambda: int(time.time()))
    compiled: Callable[[float], object] = lambda seconds: None  # is told of each form that is made ready
    masked: Callable[[float], object] = lambda seconds: None  # of each mask that is made
    slow: Callable[[float], object] = lambda seconds: None  # of masks of one answer that take long

    def __post_init__(self) -> None:
        path = Path(self.model.file.path)
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read(FINGERPRINT_BYTES)).hexdigest()
        self.fingerprint = f"edgeq-{__version__}-{digest[:8]}"
        self.bytes = path.stat().st_size

    @property
    def tokenizer(self) -> Any:
        tokenizer = self.model.tokenizer
        if tokenizer is None:
            raise ApiError(501, "the model file holds no tokenizer, so that only token ids are understood")
        return tokenizer

    @property
    def chat_template(self) -> str:
        try:
            return template_of(self.model, self.template)
        except UsageError:
            raise ApiError(
                400,
                "the model has no chat template, so it cannot chat: /v1/completions continues texts, and "
                "--chat-template gives it one",
                code="template_error",
            ) from None

    def check_predicts(self) -> None:
        """ApiError where the model makes vectors, and no texts."""
        if not predicts(self.model):
            raise ApiError(
                501, "the model predicts no token: it makes vectors, at /v1/embeddings", param="model"
            )

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What there is to know of the model: counted over all its tensors, once."""
        model = self.model
        return {
            "n_ctx": model.context,
            "n_ctx_train": model.config.max_position_embeddings,
            "n_vocab": model.vocab_size,
            "n_params": parameters(model.file),
            "size": self.bytes,
            "quant": scheme_of(model.file),
        }

    def text_of(self, ids: list[int]) -> str:
        """The text of a prompt's end, with its control tokens."""
        return self.tokenizer.decode(ids, special=True)


def predicts(model: Any) -> bool:
    """Whether a model predicts tokens: one that reads a text whole does not."""
    return not getattr(model.config, "WHOLE", False)


def parameters(file: Any) -> int:
    """Numbers in the tensors of a model file."""
    return sum(math.prod(tensor.shape) for tensor in file.tensors.values() if tensor.scheme.name != "bytes")


def scheme_of(file: Any) -> str:
    """The scheme that most of a file's bytes are in."""
    sizes: dict[str, int] = {}
    for tensor in file.tensors.values():
        sizes[tensor.scheme.name] = sizes.get(tensor.scheme.name, 0) + tensor.nbytes
    return max(sizes, key=lambda name: sizes[name])


def template_error(error: EdgeqError) -> ApiError:
    """What a chat template makes of messages that it cannot take."""
    return ApiError(400, str(error), code="template_error", param="messages")
