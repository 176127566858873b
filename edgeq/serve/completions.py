"""OpenAI's completions: texts or token ids that are continued, with the likelihood of each token.

The caller owns the whole prompt, so names of control tokens in it are those tokens, as with llama-server; in
chats they never are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

from edgeq.generate import BatchGeneration
from edgeq.generate.logprobs import TokenLogprob
from edgeq.serve import fields
from edgeq.serve.choice import Choice, timings_of, usage_of
from edgeq.serve.errors import ApiError, wrong
from edgeq.serve.openai import IGNORED, TOP_MAX
from edgeq.serve.request import Event, Request
from edgeq.serve.sampling import TOKENS_MAX, Common, options_of, room_for, stops_of
from edgeq.serve.served import Served
from edgeq.serve.structure import FORMS, form_for
from edgeq.serve.wire import PING, SSE, error_json, new_id, now, sse

PROMPTS_MAX, TEXTS_MAX = 64, 128
TOKENS_DEFAULT = 16  # as OpenAI's


class Completion(Common, kw_only=True):
    prompt: str | list[Any]
    max_tokens: Annotated[int, Meta(ge=0, le=TOKENS_MAX)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=TOP_MAX)] | None = None
    echo: bool = False
    add_special_tokens: bool | None = None
    parse_special: bool = True
    response_format: dict[str, Any] | None = None


REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "suffix": (("",), "the model continues texts; a template that fills in writes its own prompt"),
    "images": (([],), "the model reads text"),
    "lora": (([],), "adapters are not loaded"),
}


def prompts_of(served: Served, read: Completion) -> list[list[int]]:
    """The prompts' ids: a text, a list of texts, ids, or a list of lists of ids."""
    given = read.prompt
    if isinstance(given, str) or (given and all(_is_id(each) for each in given)):
        given = [given]
    if not given:
        raise wrong("prompt", "prompt is an empty list, but must have at least one text or token id")
    if len(given) > PROMPTS_MAX:
        raise wrong("prompt", f"prompt has {len(given)} prompts, but at most {PROMPTS_MAX} are taken")
    if all(isinstance(each, str) for each in given):
        special = read.add_special_tokens
        return [encoded(served, text, add_bos=special, special=read.parse_special) for text in given]
    if all(isinstance(each, list) and each and all(_is_id(id) for id in each) for each in given):
        return [_checked(served, ids) for ids in given]
    raise wrong("prompt", "prompt must be a text, a list of texts, token ids or a list of lists of token ids")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def encoded(
    served: Served, prompt: str | list[Any], *, add_bos: bool | None = None, special: bool = True
) -> list[int]:
    """The ids of one prompt, a text or ids."""
    if isinstance(prompt, list):
        if not prompt or not all(_is_id(id) for id in prompt):
            raise wrong("prompt", "prompt must be a text or token ids")
        return _checked(served, prompt)
    ids: list[int] = served.tokenizer.encode(prompt, add_bos=add_bos, special=special)
    if not ids:
        raise wrong("prompt", "prompt is empty, but there must be at least one token to begin with")
    return ids


def _checked(served: Served, ids: list[int]) -> list[int]:
    for id in ids:
        if not 0 <= id < served.model.vocab_size:
            raise wrong("prompt", f"prompt has the id {id}, but ids are 0 to {served.model.vocab_size - 1}")
    return ids


class CompletionReply:
    """Completions of one or many prompts, in one or as a stream."""

    media, ping = SSE, PING
    relaxed: Sequence[str] = ()

    def __init__(self, served: Served, data: Mapping[str, Any]) -> None:
        fields.refuse(data, REFUSED)
        read = fields.read(Completion, data)
        best_of = data.get("best_of")
        if best_of is not None and best_of not in (1, read.n):
            raise ApiError(
                400,
                f"best_of is {str(best_of)[:20]}, but no text is chosen among several: n gives all of them",
                code="unsupported_parameter",
                param="best_of",
            )
        self.served, self.stream = served, read.stream
        self.unknown = fields.unknown(data, Completion, [*REFUSED, *IGNORED, "best_of"])
        self._usage = read.stream_options is not None and bool(read.stream_options.include_usage)
        self._best, self._echo = read.logprobs, read.echo
        wanted = TOKENS_DEFAULT if read.max_tokens is None else read.max_tokens
        if wanted == 0 and not read.echo:
            raise wrong("max_tokens", "max_tokens is 0, but without echo there is nothing to tell then")
        stops = stops_of(read.stop)
        structure = form_for(
            served,
            response_format=read.response_format,
            forms={name: data[name] for name in FORMS if data.get(name) is not None},
            stops=stops,
        )
        self._parser = structure.parser
        self._prompts = prompts_of(served, read)
        if len(self._prompts) * read.n > TEXTS_MAX:
            raise wrong(
                "n",
                f"n is {read.n} for {len(self._prompts)} prompts, but at most {TEXTS_MAX} texts "
                "are made at once",
            )
        options = options_of(served.model, read, data, served.defaults)
        self.seed, self._n = options.seed, read.n
        self.requests = [
            Request(
                ids,
                options,
                room_for(served.model.context, len(ids), wanted),
                n=read.n,
                stop=stops,
                logprobs=read.logprobs,
                score=read.echo and read.logprobs is not None,
                cache=read.cache_prompt,
                salt=read.cache_salt,
                mask=structure.mask(),
            )
            for ids in self._prompts
        ]
        self._id, self._created = new_id("cmpl"), now()
        self.choices: list[Choice] = []
        self._told: list[Told] = []

    def begin(self, generations: Sequence[BatchGeneration]) -> None:
        self.choices = [Choice(n, each, self._parser()) for n, each in enumerate(generations)]
        self._told = [Told(self.served) for _ in generations]

    def _head(self) -> dict[str, Any]:
        served = self.served
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": served.name,
            "system_fingerprint": served.fingerprint,
            "seed": self.seed,
        }

    def _prompt_told(self, index: int) -> str:
        """The text of a choice's prompt, whose tokens are told before those drawn."""
        ids = self._prompts[index // self._n]
        first = self.choices[index - index % self._n].generation
        scored = first.prompt_logprobs or []
        decoder = self.served.tokenizer.stream(special=True, start=True)
        text = ""
        for n, id in enumerate(ids):
            if self._best is not None:
                self._told[index].add(id, scored[n] if n < len(scored) else None, len(text))
            if n or id != self.served.tokenizer.bos_id:  # which no text has
                text += decoder.push(id)
        text += decoder.flush()
        self._told[index].offset = len(text)
        return text

    def _end_told(self, choice: Choice) -> None:
        end = choice.generation.end_logprob
        if self._best is not None and end is not None:
            self._told[choice.index].add(end.id, end)

    # in one ---------------------------------------------------------------------------------------------

    def take(self, events: Sequence[Event]) -> bytes:
        out = []
        for event in events:
            choice, told = self.choices[event.index], self._told[event.index]
            text = ""
            if self._echo and not choice.echoed and (event.pieces or event.over):
                choice.echoed = True
                text = self._prompt_told(event.index)
                choice.said["content"] += text
            deltas, likelihoods = choice.take(event)
            for each in likelihoods:
                told.add(each.id, each)
            if event.over:
                self._end_told(choice)
            text += "".join(delta.text for delta in deltas)
            over = event.over and choice.generation.error is None
            if self.stream and (text or over):
                out.append(self._chunk(choice, text, choice.finish_reason if over else None))
        return b"".join(out)

    def whole(self) -> dict[str, Any]:
        choices = []
        for choice in self.choices:
            choices.append(
                {
                    "index": choice.index,
                    "text": choice.said["content"],
                    "logprobs": self._told[choice.index].take() if self._best is not None else None,
                    "finish_reason": choice.finish_reason,
                }
            )
        return {
            **self._head(),
            "choices": choices,
            "usage": usage_of(self.choices, len(self._prompts)),
            "timings": timings_of(self.choices[0].generation),
        }

    # as a stream ----------------------------------------------------------------------------------------

    def opening(self) -> bytes:
        return b""

    def _chunk(self, choice: Choice, text: str, reason: str | None) -> bytes:
        told = self._told[choice.index].take() if self._best is not None else None
        one = {"index": choice.index, "text": text, "logprobs": told, "finish_reason": reason}
        chunk: dict[str, Any] = {**self._head(), "choices": [one]}
        if reason is not None:
            chunk["timings"] = timings_of(choice.generation)
        return sse(chunk)

    def closing(self) -> bytes:
        usage = b""
        if self._usage:
            usage = sse({**self._head(), "choices": [], "usage": usage_of(self.choices, len(self._prompts))})
        return usage + b"data: [DONE]\n\n"

    def failure(self, error: ApiError) -> bytes:
        return sse(error_json(error))


class Told:
    """Tokens with their likelihoods, in OpenAI's four lists, each with an entry for each token."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.offset = 0  # of the next token in the text
        self._clear()

    def _clear(self) -> None:
        self._tokens: list[str] = []
        self._logprobs: list[float | None] = []
        self._top: list[dict[str, float] | None] = []
        self._offsets: list[int] = []

    def add(self, id: int, likely: TokenLogprob | None, offset: int | None = None) -> None:
        """A token, behind all others or at an offset in the text; None: nothing stands before it."""
        text = self._served.tokenizer.token(id).decode("utf-8", "replace")
        self._tokens.append(text)
        self._offsets.append(self.offset if offset is None else offset)
        self.offset += len(text)
        self._logprobs.append(None if likely is None else likely.logprob)
        self._top.append(None if likely is None else tops(likely))

    def take(self) -> dict[str, Any]:
        found = {
            "tokens": self._tokens,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._top,
            "text_offset": self._offsets,
        }
        self._clear()
        return found


def tops(likely: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens, and the token itself: the greatest is the same number in both places. Of two
    tokens with one text the likelier counts."""
    found: dict[str, float] = {}
    for each in (*likely.top, likely):
        found[each.text] = max(each.logprob, found.get(each.text, each.logprob))
    return found
