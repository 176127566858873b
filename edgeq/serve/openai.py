"""OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

from edgeq.chat.prompt import stops_with
from edgeq.generate import BatchGeneration
from edgeq.serve import fields
from edgeq.serve.choice import Choice, timings_of, token_json, usage_of
from edgeq.serve.errors import ApiError, unsupported, wrong
from edgeq.serve.messages import chat_prompt, messages_of, words_for
from edgeq.serve.request import Event, Request
from edgeq.serve.sampling import TOKENS_MAX, Common, options_of, room_for, stops_of
from edgeq.serve.served import Served
from edgeq.serve.structure import CALL, FORMS, REASONING, Delta, plan_for
from edgeq.serve.wire import PING, SSE, error_json, new_id, now, sse

MESSAGES_MAX, TOOLS_MAX, WORDS_MAX, TOP_MAX = 10_000, 128, 16, 20

Tokens = Annotated[int, Meta(ge=1, le=TOKENS_MAX)]


class Chat(Common, kw_only=True):
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=TOP_MAX)] | None = None
    response_format: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: Annotated[dict[str, Any], Meta(max_length=WORDS_MAX)] | None = None
    reasoning_effort: str | None = None
    reasoning: dict[str, Any] | None = None
    think: bool | str | None = None
    enable_thinking: bool | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool = True


# known and not honoured → values that ask for nothing, and why
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "functions": ((), "tools has taken its place"),
    "function_call": (("none",), "tool_choice has taken its place"),
    "audio": ((), "the model speaks text"),
    "modalities": ((["text"],), "the model speaks text"),
    "images": (([],), "the model reads text"),
    "prediction": ((), "speculation is the server's, --draft"),
    "web_search_options": ((), "the server opens no connection"),
    "lora": (([],), "adapters are not loaded"),
    "best_of": ((1,), "n gives several texts"),
    "previous_response_id": ((), "the server keeps no conversations"),
}
IGNORED = ("user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "verbosity")


class ChatReply:
    """A chat completion, in one or as a stream."""

    media, ping = SSE, PING

    def __init__(self, served: Served, data: Mapping[str, Any]) -> None:
        fields.refuse(data, REFUSED)
        read = fields.read(Chat, data)
        forms = {name: data[name] for name in FORMS if data.get(name) is not None}
        if read.continue_final_message:
            check_unfinished(read, data, forms)
        if read.top_logprobs is not None and not read.logprobs:
            raise wrong("top_logprobs", "top_logprobs is given, but logprobs is not true")
        self.served, self.stream = served, read.stream
        self.unknown = fields.unknown(data, Chat, [*REFUSED, *IGNORED])
        self._usage = read.stream_options is not None and bool(read.stream_options.include_usage)
        self._logprobs = read.logprobs
        words = words_for(
            effort=read.reasoning_effort or (read.reasoning or {}).get("effort"),
            think=read.think,
            enable_thinking=read.enable_thinking,
            more=read.chat_template_kwargs,
        )
        stops = stops_of(read.stop)
        plan = plan_for(
            served,
            response_format=read.response_format,
            tools=read.tools,
            tool_choice=read.tool_choice,
            parallel_tool_calls=read.parallel_tool_calls,
            forms=forms,
            words=words,
            stops=stops,
        )
        self.relaxed: Sequence[str] = plan.relaxed
        messages = plan.messages(messages_of(read.messages))
        prompt = chat_prompt(
            served,
            messages,
            words,
            plan.tools,
            goes_on=read.add_generation_prompt,
            unfinished=read.continue_final_message,
        )
        self._structure = plan.of(prompt)
        wanted = read.max_completion_tokens if read.max_completion_tokens is not None else read.max_tokens
        options = options_of(served.model, read, data, served.defaults)
        self.seed = options.seed
        self.requests = [
            Request(
                prompt,
                options,
                room_for(served.model.context, len(prompt), wanted, "the conversation"),
                n=read.n,
                stop=tuple(stops_with(stops, served.chat_template)) if self._structure.stops else (),
                logprobs=(read.top_logprobs or 0) if read.logprobs else None,
                cache=read.cache_prompt,
                salt=read.cache_salt,
                mask=self._structure.mask(),
            )
        ]
        self._id, self._created = new_id("chatcmpl"), now()
        self.choices: list[Choice] = []
        self._tokens: dict[int, list[dict[str, Any]]] = {}

    def begin(self, generations: Sequence[BatchGeneration]) -> None:
        self.choices = [Choice(n, each, self._structure.parser()) for n, each in enumerate(generations)]
        self._tokens = {n: [] for n in range(len(generations))}

    # in one ---------------------------------------------------------------------------------------------

    def whole(self) -> dict[str, Any]:
        usage = self._usage_json()
        return {
            **self._head("chat.completion"),
            "choices": [self._choice(choice) for choice in self.choices],
            "usage": usage,
            "timings": timings_of(self.choices[0].generation),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        served = self.served
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": served.name,
            "system_fingerprint": served.fingerprint,
            "seed": self.seed,
        }

    def _choice(self, choice: Choice) -> dict[str, Any]:
        content = choice.said["content"]
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if choice.calls:
            message |= {"content": content or None, "tool_calls": choice.calls}
        if choice.said[REASONING]:
            message["reasoning_content"] = choice.said[REASONING]
        logprobs = {"content": self._tokens[choice.index], "refusal": None} if self._logprobs else None
        return {
            "index": choice.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
        }

    def _usage_json(self) -> dict[str, Any]:
        return usage_of(self.choices)

    # as a stream ----------------------------------------------------------------------------------------

    def opening(self) -> bytes:
        return b"".join(
            self._chunk(n, {"role": "assistant", "content": ""}) for n in range(self.requests[0].n)
        )

    def _chunk(
        self, index: int, delta: Any, tokens: list[dict[str, Any]] | None = None, reason: str | None = None
    ) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta}
        choice["logprobs"] = {"content": tokens, "refusal": None} if tokens else None
        choice["finish_reason"] = reason
        chunk: dict[str, Any] = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if reason is not None:
            chunk["timings"] = timings_of(self.choices[index].generation)
        return sse(chunk)

    def take(self, events: Sequence[Event]) -> bytes:
        out = []
        for event in events:
            choice = self.choices[event.index]
            deltas, likelihoods = choice.take(event)
            tokens = [token_json(self.served, each) for each in likelihoods] if self._logprobs else []
            if not self.stream:
                self._tokens[event.index] += tokens
                continue
            told = self._tokens[event.index] = [*self._tokens[event.index], *tokens]
            for delta in deltas:
                out.append(self._chunk(event.index, grown(delta), told))
                told = self._tokens[event.index] = []
            if event.over and choice.generation.error is None:
                out.append(self._chunk(event.index, {}, told, choice.finish_reason))
        return b"".join(out)

    def closing(self) -> bytes:
        usage = b""
        if self._usage:
            chunk = {**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage_json()}
            usage = sse(chunk)
        return usage + b"data: [DONE]\n\n"

    def failure(self, error: ApiError) -> bytes:
        return sse(error_json(error))


def check_unfinished(read: Chat, data: Mapping[str, Any], forms: Mapping[str, Any]) -> None:
    """ApiError where the last message cannot be continued."""
    name, last = "continue_final_message", read.messages[-1]
    if data.get("add_generation_prompt"):
        raise wrong(name, f"{name} and add_generation_prompt are both true: an answer begins, or goes on")
    if last.get("role") != "assistant" or last.get("tool_calls"):
        raise wrong(name, f"{name} is true, but the last message is not an assistant's that is a text")
    kind = (read.response_format or {}).get("type", "text")
    if forms or kind != "text" or read.tool_choice not in (None, "none", "auto"):
        raise unsupported(
            name, "an answer that is held to a form or must be a call has it from its beginning"
        )


def grown(delta: Delta) -> dict[str, Any]:
    """A part of a message. Each of a call has its index and a function: clients drop others."""
    if delta.kind != CALL or delta.call is None:
        return {"reasoning_content" if delta.kind == REASONING else "content": delta.text}
    call = delta.call
    head: dict[str, Any] = {"index": call.index}
    if call.name is None:
        return {"tool_calls": [{**head, "function": {"arguments": call.arguments}}]}
    function = {"name": call.name, "arguments": call.arguments}
    return {"tool_calls": [{**head, "id": call.id, "type": "function", "function": function}]}
