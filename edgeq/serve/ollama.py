"""ollama's dialect: lines of JSON."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edgeq import __version__
from edgeq.chat.prompt import stops_with
from edgeq.generate import BatchGeneration
from edgeq.serve import fields
from edgeq.serve.choice import REASONS, Choice
from edgeq.serve.errors import ApiError, wrong
from edgeq.serve.messages import chat_prompt, messages_of, words_for
from edgeq.serve.openai import MESSAGES_MAX
from edgeq.serve.request import Event, Request
from edgeq.serve.sampling import MORE, TOKENS_MAX, Common, options_of, room_for, stops_of
from edgeq.serve.served import Served
from edgeq.serve.structure import REASONING, Structure, form_for, plan_for

VERSION = "0.12.0"  # of the dialect: clients ask for one that is new enough

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


class Chat(Ask, kw_only=True):
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MESSAGES_MAX)]
    tools: list[dict[str, Any]] | None = None


class Generate(Ask, kw_only=True):
    prompt: str
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
        self.served, self.stream, self._parser = served, read.stream, structure.parser
        self.requests = [
            Request(
                prompt,
                options_of(model, options, given, served.defaults),
                room_for(context, len(prompt), wanted),
                stop=tuple(stops_with(stops, served.chat_template)) if own else stops,
                mask=structure.mask(),
            )
        ]

    def begin(self, generations: Sequence[BatchGeneration]) -> None:
        self.choice = Choice(0, generations[0], self._parser())

    def said(self, content: str, thoughts: str) -> dict[str, Any]:
        raise NotImplementedError

    def _line(self, content: str, thoughts: str, **more: Any) -> dict[str, Any]:
        head = {"model": self.served.name, "created_at": now()}
        return {**head, **self.said(content, thoughts), "done": bool(more), **more}

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
            for delta in self.choice.take(event)[0]:
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
    def __init__(self, served: Served, data: Mapping[str, Any]) -> None:
        fields.refuse(data, REFUSED)
        read = fields.read(Chat, data)
        words = words_for(think=read.think)
        plan = plan_for(served, response_format=_format(read), tools=read.tools, words=words)
        prompt = chat_prompt(served, plan.messages(messages_of(read.messages)), words, plan.tools)
        super().__init__(served, read, prompt, plan.of(prompt), True)
        self.relaxed = plan.relaxed
        self.unknown = unknown(data, Chat)

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

    def __init__(self, served: Served, data: Mapping[str, Any]) -> None:
        fields.refuse(data, REFUSED)
        read = fields.read(Generate, data)
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
            self.unknown = unknown(data, Generate)
            return
        super().__init__(served, read, prompt, form_for(served, response_format=_format(read)), False)
        self.unknown = unknown(data, Generate)

    def said(self, content: str, thoughts: str) -> dict[str, Any]:
        return {"response": content, **({"thinking": thoughts} if thoughts else {})}


# the model ----------------------------------------------------------------------------------------------


def version(_: Sequence[Served]) -> dict[str, str]:
    return {"version": VERSION, "edgeq": __version__}


def _details(served: Served) -> dict[str, Any]:
    facts = served.facts
    family = served.model.file.family
    return {
        "format": "edgeq",
        "family": family,
        "families": [family],
        "parameter_size": f"{facts['n_params'] / 1e9:.1f}B",
        "quantization_level": facts["quant"],
    }


def tags(all: Sequence[Served]) -> dict[str, Any]:
    """The models that there are."""
    return {"models": list(map(_tag, all))}


def _tag(served: Served) -> dict[str, Any]:
    made = datetime.datetime.fromtimestamp(served.created, datetime.UTC).isoformat()
    name = f"{served.name}:latest"
    head = {"name": name, "model": name, "modified_at": made, "size": served.bytes}
    return {**head, "digest": served.fingerprint, "details": _details(served)}


def ps(all: Sequence[Served]) -> dict[str, Any]:
    """Those that are loaded: all of them, and they stay."""
    stays = {"expires_at": "9999-01-01T00:00:00Z", "size_vram": 0}
    return {"models": [{**_tag(served), **stays} for served in all]}


def show(served: Served, data: Mapping[str, Any]) -> dict[str, Any]:
    template = served.template or served.model.chat_template or ""
    family = served.model.file.family
    can = ["completion", *(["tools"] if template else []), *(["thinking"] if "thinking" in template else [])]
    info = {"general.architecture": family, f"{family}.context_length": served.model.context}
    return {
        "details": _details(served),
        "model_info": {**info, "general.parameter_count": served.facts["n_params"]},
        "capabilities": can,
        "template": template,
        "parameters": "",
    }
