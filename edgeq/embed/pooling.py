"""How a text becomes one vector, or a query and a document a score: a file's word on it, checked.

Knows neither models nor passes; whoever converts a model writes what is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeq.errors import FormatError, quote

KINDS = {
    "last": "the row of the last token",
    "mean": "the mean of all rows",
    "cls": "the row of the first token",
    "rank": "a score of the last row",
}
VECTORS = ("last", "mean", "cls")  # those that make vectors
PROMPTS_MAX = 256
CHARS_MAX = 1 << 16  # of a prompt, an instruction or a template
TOKENS_MAX = 1 << 27
PLACES = ("instruction", "query", "document")  # of a template, as {query}
CLASSIFIER = "classifier"  # the tensor of a kind that ranks, float32 [labels * hidden_size]


@dataclass(frozen=True)
class Pooling:
    """header["pooling"].

    tokens: of a text at the most, None for as many as the model reads. prompts: what stands before a text, by
    the names of what it is; `prompt` names the one that is taken where none is asked for. Of the kind "rank":
    template is what is read, with {instruction}, {query} and {document} in it, and `instruction` the usual
    one.
    """

    kind: str
    normalize: bool = True
    tokens: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None
    template: str = ""
    instruction: str = ""

    def __post_init__(self) -> None:
        known = isinstance(self.kind, str) and self.kind in KINDS
        self._check(known, "kind", self.kind, f"one of {', '.join(KINDS)} is needed")
        self._check(isinstance(self.normalize, bool), "normalize", self.normalize, "true or false is needed")
        whole = type(self.tokens) is int and 0 < self.tokens <= TOKENS_MAX
        right = f"null or a whole number from 1 to {TOKENS_MAX} is needed"
        self._check(self.tokens is None or whole, "tokens", self.tokens, right)
        texts = isinstance(self.prompts, Mapping) and len(self.prompts) <= PROMPTS_MAX
        texts = texts and all(_text(word) for pair in self.prompts.items() for word in pair)
        self._check(texts, "prompts", self.prompts, "an object of texts is needed")
        named = self.prompt is None or (isinstance(self.prompt, str) and self.prompt in self.prompts)
        self._check(named, "prompt", self.prompt, "null or the name of a prompt is needed")
        for name, value in (("template", self.template), ("instruction", self.instruction)):
            self._check(_text(value), name, value, "a text is needed")
        places = self.kind != "rank" or all(f"{{{place}}}" in self.template for place in PLACES[1:])
        self._check(places, "template", self.template, "one with {query} and {document} is needed")

    def _check(self, good: bool, name: str, value: object, right: str) -> None:
        if not good:
            raise FormatError(f"the header's pooling.{name} is {quote(value)}, but {right}")

    @classmethod
    def from_header(cls, header: object) -> Pooling:
        """Checks an untrusted header value; unknown keys are ignored. FormatError."""
        if not isinstance(header, Mapping):
            raise FormatError(f"the header's pooling is a {type(header).__name__}, not an object")
        known = {name: header[name] for name in cls.__dataclass_fields__ if name in header}
        return cls(**{"kind": None, **known})

    def to_header(self) -> dict[str, Any]:
        """The words as they are stored; from_header is its inverse."""
        left_out = () if self.kind == "rank" else ("template", "instruction")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= CHARS_MAX
