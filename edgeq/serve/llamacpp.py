"""llama-server's own completion of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

from edgeq.generate import BatchGeneration
from edgeq.serve import fields
from edgeq.serve.choice import Choice, timings_of, token_json
from edgeq.serve.completions import encoded
from edgeq.serve.errors import ApiError
from edgeq.serve.request import Event, Request
from edgeq.serve.sampling import TOKENS_MAX, Common, options_of, room_for, stops_of
from edgeq.serve.served import Served
from edgeq.serve.structure import FORMS, form_for
from edgeq.serve.wire import PING, SSE, error_json, sse

PROBS_MAX = 20
STOPS = {"eos": "eos", "stop": "word", "length": "limit"}
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "image_data": (([],), "the model reads text"),
    "lora": (([],), "adapters are not loaded"),
    "input_prefix": (("",), "the model continues texts"),
    "input_suffix": (("",), "the model continues texts"),
}


class Ask(Common, kw_only=True):
    prompt: str | list[Any]
    n_predict: Annotated[int, Meta(ge=-1, le=TOKENS_MAX)] = -1
    n_probs: Annotated[int, Meta(ge=0, le=PROBS_MAX)] = 0


class CompletionReply:
    """`content` and what goes with it, in one or as a stream."""

    media, ping = SSE, PING
    relaxed: Sequence[str] = ()

    def __init__(self, served: Served, data: Mapping[str, Any]) -> None:
        fields.refuse(data, REFUSED)
        read = fields.read(Ask, data)
        self.served, self.stream = served, read.stream
        self.unknown = fields.unknown(data, Ask, REFUSED)
        stops = stops_of(read.stop)
        forms = {name: data[name] for name in FORMS if data.get(name) not in (None, "")}
        structure = form_for(served, forms=forms, stops=stops)
        self._parser, self._probs = structure.parser, read.n_probs
        prompt = encoded(served, read.prompt)
        wanted = None if read.n_predict < 0 else read.n_predict
        self.requests = [
            Request(
                prompt,
                options_of(served.model, read, data, served.defaults),
                room_for(served.model.context, len(prompt), wanted),
                stop=stops,
                logprobs=read.n_probs or None,
                cache=read.cache_prompt,
                salt=read.cache_salt,
                mask=structure.mask(),
            )
        ]
        self._tokens: list[dict[str, Any]] = []

    def begin(self, generations: Sequence[BatchGeneration]) -> None:
        self.choice = Choice(0, generations[0], self._parser())

    def _end(self) -> dict[str, Any]:
        generation = self.choice.generation
        usage = generation.usage
        return {
            "model": self.served.name,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "tokens_cached": usage.cached_tokens,
            "truncated": False,
            "stop_type": STOPS.get(generation.finish_reason or "", "none"),
            "stopping_word": generation.stop_string or "",
            "generation_settings": {"seed": generation.seed},
            "timings": timings_of(generation),
        }

    def opening(self) -> bytes:
        return b""

    def take(self, events: Sequence[Event]) -> bytes:
        out = []
        for event in events:
            deltas, likelihoods = self.choice.take(event)
            tokens = [token_json(self.served, each) for each in likelihoods] if self._probs else []
            text = "".join(delta.text for delta in deltas)
            if not self.stream:
                self._tokens += tokens
            elif text or tokens:
                out.append(sse({"index": 0, **self._said(text, tokens), "stop": False}))
        return b"".join(out)

    def _said(self, text: str, tokens: list[dict[str, Any]]) -> dict[str, Any]:
        return {"content": text, **({"completion_probabilities": tokens} if self._probs else {})}

    def closing(self) -> bytes:
        return sse({"index": 0, "content": "", "stop": True, **self._end()})

    def whole(self) -> dict[str, Any]:
        said = self._said(self.choice.said["content"], self._tokens)
        return {"index": 0, **said, "stop": True, **self._end()}

    def failure(self, error: ApiError) -> bytes:
        return sse(error_json(error))
