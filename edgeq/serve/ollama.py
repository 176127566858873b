"""ollama's dialect: lines of JSON."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edgeq.chat.prompt import stops_with
from edgeq.generate import BatchGeneration
from edgeq.serve import fields
from edgeq.serve.choice import REASONS, Choice, token_json
from edgeq.serve.errors import ApiError, wrong
from edgeq.serve.messages import chat_prompt, messages_of, words_for
from edgeq.serve.openai import MESSAGES_MAX, TOP_MAX
from edgeq.serve.request import Event, Reply, Request, Whole
from edgeq.serve.sampling import MORE, TOKENS_MAX, Common, options_of, room_for, stops_of
from edgeq.serve.served import Served
from edgeq.serve.structure import REASONING, Structure, form_for, plan_for

REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "suffix": (("",), "the model continues texts"),
    "images": (([],), "the model reads text"),
    "context": (([],), "the server keeps no conversations: send the messages"),
    "template": (("",), "--chat-template gives the server one"),
}
UNITS = 1_000_000_000  # nanoseconds


class Options(Common, kw_only=True):
    """The options of a request, under ollama's names."""

    num_ctx: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None
    num_predict: Annotated[int, Meta(ge=-2, le=TOKENS_MAX)] | None = None


class Ask(Struct, kw_only=True):
    model: str | None = None
    stream: bool = True
    options: dict[str, Any] | None = None
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=TOP_MAX)] | None = None
    keep_alive: Any = None  # the model stays


class Chat(Ask, kw_only=True):
    messages: Annotated[list[dict[str, Any]], Meta(max_length=MESSAGES_MAX)]
    tools: list[dict[str, Any]] | None = None


class Generate(Ask, kw_only=True):
    prompt: str = ""
    system: str | None = None
    raw: bool = False


def errors(error: ApiError, _: str) -> dict[str, Any]:
    return {"error": error.message}


def line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


class _Reply:
    """What chats and texts have in common."""

    media, ping = "application/x-ndjson", b""
    unknown: Sequence[str] = ()
    relaxed: Sequence[str] = ()

    def __init__(self, served: Served, read: Ask, prompt: list[int], structure: Structure, own: bool) -> None:
        """own: whether the template's own stops end the text."""
        given = read.options or {}
        options = fields.read(Options, given)
        model = served.model
        context = min(model.context, options.num_ctx or model.context)
        wanted = options.num_predict if options.num_predict is not None and options.num_predict >= 0 else None
        stops = stops_of(options.stop)
        if stops and not structure.stops:
            raise wrong("options.stop", f"stop is given, but {structure.what} says where the text ends")
        if read.top_logprobs is not None and not read.logprobs:
            raise wrong("top_logprobs", "top_logprobs is given, but logprobs is not true")
        self.served, self.stream, self._parser = served, read.stream, structure.parser
        self._logprobs = read.logprobs
        self._tokens: list[dict[str, Any]] = []  # that are not told yet
        self.requests = [
            Request(
                prompt,
                options_of(model, options, given, served.defaults),
                room_for(context, len(prompt), wanted),
                stop=tuple(stops_with(stops, served.chat_template)) if own else stops,
                logprobs=(read.top_logprobs or 0) if read.logprobs else None,
                mask=structure.mask(),
            )
        ]

    def begin(self, generations: Sequence[BatchGeneration]) -> None:
        self.choice = Choice(0, generations[0], self._parser())

    def said(self, content: str, thoughts: str) -> dict[str, Any]:
        raise NotImplementedError

    def _line(self, content: str, thoughts: str, **more: Any) -> dict[str, Any]:
        head = {"model": self.served.name, "created_at": now()}
        told, self._tokens = self._tokens, []
        likely = {"logprobs": told} if told else {}
        return {**head, **self.said(content, thoughts), **likely, "done": bool(more), **more}

    def _end(self) -> dict[str, Any]:
        generation = self.choice.generation
        times = generation.timings
        prompt, answer = int(times.prompt_seconds * UNITS), int(times.generate_seconds * UNITS)
        return {
            "done": True,
            "done_reason": REASONS.get(generation.finish_reason or "", "stop"),
            "total_duration": prompt + answer,
            "load_duration": 0,
            "prompt_eval_count": generation.usage.prompt_tokens,
            "prompt_eval_duration": prompt,
            "eval_count": generation.usage.completion_tokens,
            "eval_duration": answer,
        }

    def opening(self) -> bytes:
        return b""

    def take(self, events: Sequence[Event]) -> bytes:
        out = []
        for event in events:
            deltas, likelihoods = self.choice.take(event)
            if self._logprobs:
                self._tokens += [token_json(self.served, each) for each in likelihoods]
            for delta in deltas if self.stream else ():
                if delta.call is not None:  # told at the end, whole
                    continue
                thinks = delta.kind == REASONING
                out.append(line(self._line("" if thinks else delta.text, delta.text if thinks else "")))
        return b"".join(out)

    def closing(self) -> bytes:
        return line(self._line("", "", **self._end()))

    def whole(self) -> dict[str, Any]:
        said = self.choice.said
        return self._line(said["content"], said[REASONING], **self._end())

    def failure(self, error: ApiError) -> bytes:
        return line(errors(error, ""))


def loaded(served: Served, read: Ask, **said: Any) -> Whole:
    """The answer to a request that says nothing: the model is there, whether it was to come or to go."""
    reason = "unload" if read.keep_alive in (0, "0", "0s") else "load"
    head = {"model": served.name, "created_at": now()}
    return Whole({**head, **said, "done": True, "done_reason": reason})


def chat(served: Served, data: Mapping[str, Any]) -> Reply | Whole:
    """/api/chat"""
    fields.refuse(data, REFUSED)
    read = fields.read(Chat, data)
    if not read.messages:
        return loaded(served, read, message={"role": "assistant", "content": ""})
    reply = ChatReply(served, read)
    reply.unknown = unknown(data, Chat)
    return reply


def generate(served: Served, data: Mapping[str, Any]) -> Reply | Whole:
    """/api/generate"""
    fields.refuse(data, REFUSED)
    read = fields.read(Generate, data)
    if not read.prompt:
        return loaded(served, read, response="")
    reply = GenerateReply(served, read)
    reply.unknown = unknown(data, Generate)
    return reply


def unknown(data: Mapping[str, Any], kind: type[Ask]) -> list[str]:
    """Fields and options that nobody looks at."""
    options = data.get("options")
    more = fields.unknown(options, Options, MORE) if isinstance(options, dict) else []
    return [*fields.unknown(data, kind, REFUSED), *more]


def _format(read: Ask) -> dict[str, Any] | None:
    """The form that is asked for, as OpenAI says it."""
    if read.format in (None, ""):
        return None
    if read.format == "json":
        return {"type": "json_object"}
    if not isinstance(read.format, dict):
        raise wrong("format", f"format is {str(read.format)[:40]!r}, but must be json or a schema")
    return {"type": "json_schema", "json_schema": {"schema": read.format}}


class ChatReply(_Reply):
    def __init__(self, served: Served, read: Chat) -> None:
        words = words_for(think=read.think)
        plan = plan_for(served, response_format=_format(read), tools=read.tools, words=words)
        prompt = chat_prompt(served, plan.messages(messages_of(read.messages)), words, plan.tools)
        super().__init__(served, read, prompt, plan.of(prompt), True)
        self.relaxed = plan.relaxed

    def said(self, content: str, thoughts: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if thoughts:
            message["thinking"] = thoughts
        if self.choice.over and self.choice.calls:
            message["tool_calls"] = [called(call) for call in self.choice.calls]
        return {"message": message}


def called(call: dict[str, Any]) -> dict[str, Any]:
    """A call whose arguments are an object, as ollama's clients want them."""
    function = call["function"]
    try:
        arguments = msgspec.json.decode(function["arguments"] or "{}")
    except msgspec.DecodeError:  # it was cut off
        arguments = {}
    return {"function": {"name": function["name"], "arguments": arguments}}


class GenerateReply(_Reply):
    """A text as a message, or continued as it is with raw, or where the model cannot chat."""

    def __init__(self, served: Served, read: Generate) -> None:
        can_chat = (served.template or served.model.chat_template) is not None
        if read.raw or not can_chat:
            prompt = served.tokenizer.encode(read.prompt, special=read.raw)
            if not prompt:
                raise wrong("prompt", "prompt is empty, but there must be at least one token to begin with")
        else:
            system = [{"role": "system", "content": read.system}] if read.system else []
            turns = messages_of([*system, {"role": "user", "content": read.prompt}])
            words = words_for(think=read.think)
            plan = plan_for(served, response_format=_format(read), words=words)
            prompt = chat_prompt(served, plan.messages(turns), words)
            super().__init__(served, read, prompt, plan.of(prompt), True)
            return
        super().__init__(served, read, prompt, form_for(served, response_format=_format(read)), False)

    def said(self, content: str, thoughts: str) -> dict[str, Any]:
        return {"response": content, **({"thinking": thoughts} if thoughts else {})}
