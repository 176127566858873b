"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edgeq.chat.prompt import stops_with
from edgeq.generate import BatchGeneration
from edgeq.serve import fields
from edgeq.serve.choice import Choice
from edgeq.serve.errors import ApiError, unsupported, wrong
from edgeq.serve.messages import chat_prompt, messages_of, words_for
from edgeq.serve.openai import MESSAGES_MAX, TOOLS_MAX
from edgeq.serve.request import Event, Request
from edgeq.serve.sampling import STOPS_MAX, TOKENS_MAX, Common, Text, options_of, room_for, stops_of
from edgeq.serve.served import Served
from edgeq.serve.structure import CALL, REASONING, Delta, Plan, plan_for
from edgeq.serve.wire import SSE, new_id

Block = dict[str, Any]

TYPES = {413: "request_too_large", 500: "api_error", 501: "invalid_request_error", 503: "overloaded_error"}
PARAMETERS = "/function/parameters"  # where OpenAI's tools have what is input_schema here
REASONS = {"eos": "end_turn", "length": "max_tokens", "stop": "stop_sequence"}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "mcp_servers": (([],), "the server opens no connection"),
    "container": ((), "the server runs nothing"),
    "stop": ((), "stop_sequences is its name here"),
    "n": ((1,), "a message is one"),
}
IGNORED = ("metadata", "service_tier", "context_management", "betas", "inference_geo")


class Output(Struct):
    """How hard to think, and the form of the answer."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class Ask(Common, kw_only=True):
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
    system: str | list[Block] | None = None
    stop_sequences: Annotated[list[Text], Meta(max_length=STOPS_MAX)] | None = None
    tools: Annotated[list[Block], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: Output | None = None
    output_format: dict[str, Any] | None = None  # as it was called while it was a beta


class Count(Ask, kw_only=True):
    max_tokens: int | None = None  # type: ignore[assignment]


def errors(error: ApiError, request_id: str) -> dict[str, Any]:
    kind = TYPES.get(error.status, error.type)
    told = {"type": kind, "message": error.message}
    return {"type": "error", "error": told, "request_id": request_id}


def sse(event: dict[str, Any]) -> bytes:
    return b"event: " + event["type"].encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


# messages -----------------------------------------------------------------------------------------------


def text_of(where: str, content: object) -> str:
    """The text of what holds nothing else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong(where, f"{where} must be a text or a list of blocks")
    texts = []
    for n, block in enumerate(content):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind != "text" or not isinstance(block.get("text"), str):
            raise unsupported(f"{where}[{n}]", "only blocks of text are read there")
        texts.append(block["text"])
    return "".join(texts)


def turns_of(n: int, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message as those that templates know: results of tools are messages of their own."""
    where, role, content = f"messages[{n}]", given.get("role"), given.get("content")
    if role not in ("user", "assistant", "system"):
        raise wrong(f"{where}.role", f"{where}.role is {str(role)[:40]!r}, but must be user or assistant")
    if not isinstance(content, list):
        return [{"role": role, "content": text_of(f"{where}.content", content)}]
    results: list[dict[str, Any]] = []
    turn: dict[str, Any] = {"role": role, "content": ""}
    for i, block in enumerate(content):
        place = f"{where}.content[{i}]"
        match block:
            case {"type": "text", "text": str(text)}:
                turn["content"] += text
            case {"type": "thinking", "thinking": str(thought)}:
                turn["reasoning_content"] = turn.get("reasoning_content", "") + thought
            case {"type": "redacted_thinking"}:
                pass
            case {"type": "tool_use", "name": str(name), "input": dict(given_to)}:
                call = {"type": "function", "function": {"name": name, "arguments": given_to}}
                turn.setdefault("tool_calls", []).append({"id": block.get("id"), **call})
            case {"type": "tool_result"}:
                text = text_of(f"{place}.content", block.get("content") or "")
                answered = {"tool_call_id": block.get("tool_use_id")}
                results.append({"role": "tool", "content": text, **answered})
            case {"type": str(kind)}:
                raise unsupported(
                    place, f"a block of type {kind[:40]!r} is no text, and the model reads text"
                )
            case _:
                raise wrong(place, f"{place} is no block")
    says = turn["content"] or "tool_calls" in turn or not results
    return [*results, *([turn] if says else [])]


def prompt_of(served: Served, read: Ask, stops: Sequence[str]) -> tuple[list[int], Plan]:
    """The ids of a conversation, and how its answer is read. What an assistant's message at its end says is
    the answer's beginning.
    """
    turns = [turn for n, message in enumerate(read.messages) for turn in turns_of(n, message)]
    if read.system is not None:
        turns.insert(0, {"role": "system", "content": text_of("system", read.system)})
    begun = ""
    if turns[-1]["role"] == "assistant" and "tool_calls" not in turns[-1]:
        begun = turns.pop()["content"].rstrip()
    kind = (read.thinking or {}).get("type")
    output = read.output_config or Output()
    effort = {} if output.effort is None else {"reasoning_effort": output.effort}
    words = words_for(think=None if kind is None else kind != "disabled", more=effort)
    tool_choice, parallel = choice_of(read.tool_choice)
    plan = plan_for(
        served,
        response_format=format_of(output.format or read.output_format),
        tools=tools_of(read.tools),
        tool_choice=tool_choice,
        parallel_tool_calls=parallel,
        words=words,
        stops=stops,
    )
    ids = chat_prompt(served, plan.messages(messages_of(turns)), words, plan.tools)
    return ([*ids, *served.tokenizer.encode(begun, add_bos=False)] if begun else ids), plan


def tools_of(tools: Sequence[Block] | None) -> list[Block] | None:
    """Tools in the words of OpenAI, which templates know."""
    if tools is None:
        return None
    found = []
    for n, tool in enumerate(tools):
        if not isinstance(tool.get("name"), str):
            raise wrong(f"tools[{n}].name", f"tools[{n}].name is missing, or is no text")
        if "input_schema" not in tool and tool.get("type") not in (None, "custom"):
            raise unsupported(f"tools[{n}]", f"the server has no tool {tool['name'][:80]!r} of its own")
        function: Block = {"name": tool["name"], "description": tool.get("description") or ""}
        function["parameters"] = tool.get("input_schema") or {}
        if tool.get("strict") is not None:
            function["strict"] = tool["strict"]
        found.append({"type": "function", "function": function})
    return found


def format_of(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A form in the words of OpenAI."""
    if given is None:
        return None
    kind, schema = given.get("type"), given.get("schema")
    if kind != "json_schema" or not isinstance(schema, dict):
        raise wrong("output_config.format", "output_config.format must be of type json_schema, with a schema")
    return {"type": "json_schema", "json_schema": {"schema": schema}}


def choice_of(choice: Mapping[str, Any] | None) -> tuple[Any, bool | None]:
    """(OpenAI's tool_choice, parallel_tool_calls)"""
    if choice is None:
        return None, None
    kind, name = choice.get("type"), choice.get("name")
    single = choice.get("disable_parallel_tool_use")
    parallel = None if single is None else not single
    if kind == "tool" and isinstance(name, str):
        return {"type": "function", "function": {"name": name}}, parallel
    if not isinstance(kind, str) or kind not in CHOICES:
        raise wrong("tool_choice.type", "tool_choice.type must be auto, any, none, or tool with a name")
    return CHOICES[kind], parallel


def used(call: Mapping[str, Any]) -> Block:
    """A call of a tool as a block; its input an object."""
    function = call["function"]
    try:
        given = msgspec.json.decode(function["arguments"] or "{}")
    except msgspec.DecodeError:  # it was cut off
        given = {}
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": given}


class MessageReply:
    """A message, in one or as a stream of its blocks."""

    media, ping = SSE, sse({"type": "ping"})

    def __init__(self, served: Served, data: Mapping[str, Any]) -> None:
        fields.refuse(data, REFUSED)
        read = fields.read(Ask, data)
        self.served, self.stream = served, read.stream
        self.unknown = fields.unknown(data, Ask, [*REFUSED, *IGNORED])
        self._stops = stops_of(read.stop_sequences)
        prompt, plan = prompt_of(served, read, self._stops)
        self._structure = plan.of(prompt)
        self.relaxed: Sequence[str] = [
            place.replace(PARAMETERS, "/input_schema", 1) for place in plan.relaxed
        ]
        self.requests = [
            Request(
                prompt,
                options_of(served.model, read, data, served.defaults),
                room_for(served.model.context, len(prompt), read.max_tokens, "the conversation"),
                stop=tuple(stops_with(self._stops, served.chat_template)),
                cache=read.cache_prompt,
                salt=read.cache_salt,
                mask=self._structure.mask(),
            )
        ]
        self._id = new_id("msg").replace("-", "_")
        self._open: str | None = None  # the kind of the block that grows, or the id of a call
        self._blocks = 0

    def begin(self, generations: Sequence[BatchGeneration]) -> None:
        self.choice = Choice(0, generations[0], self._structure.parser())

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self.served.name}

    def _end(self) -> dict[str, Any]:
        generation = self.choice.generation
        found = generation.stop_string
        own = found is not None and found in self._stops
        reason = REASONS.get(generation.finish_reason or "", "end_turn")
        if reason == "stop_sequence" and not own:  # of the template
            reason = "end_turn"
        if reason == "end_turn" and self.choice.calls:
            reason = "tool_use"
        return {"stop_reason": reason, "stop_sequence": found if own else None}

    def _usage(self) -> dict[str, int]:
        usage = self.choice.generation.usage
        return {
            "input_tokens": usage.prompt_tokens - usage.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached_tokens,
            "output_tokens": usage.completion_tokens,
        }

    def whole(self) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = []
        said = self.choice.said
        if said[REASONING]:
            blocks.append({"type": "thinking", "thinking": said[REASONING], "signature": ""})
        if said["content"] or not (blocks or self.choice.calls):
            blocks.append({"type": "text", "text": said["content"]})
        blocks += map(used, self.choice.calls)
        return {**self._head(), "content": blocks, **self._end(), "usage": self._usage()}

    def opening(self) -> bytes:
        usage = {"input_tokens": len(self.requests[0].prompt), "output_tokens": 0}
        empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return sse({"type": "message_start", "message": {**self._head(), **empty}})

    def take(self, events: Sequence[Event]) -> bytes:
        out = []
        for event in events:
            for delta in self.choice.take(event)[0]:
                out.append(self._block(delta))
                if grown := self._grown(delta):
                    told = {"type": "content_block_delta", "index": self._blocks - 1, "delta": grown}
                    out.append(sse(told))
        return b"".join(out)

    def _grown(self, delta: Delta) -> dict[str, Any] | None:
        """What a block grows by; None where it only begins."""
        if delta.call is not None:
            text = delta.call.arguments
            return {"type": "input_json_delta", "partial_json": text} if text else None
        name = "thinking" if delta.kind == REASONING else "text"
        return {"type": f"{name}_delta", name: delta.text}

    def _block(self, delta: Delta) -> bytes:
        """Let a block for this part be the one that grows; each call has one of its own."""
        kind, begins = delta.kind, delta.call is not None and delta.call.name is not None
        if self._open == kind and not begins:
            return b""
        ended = self._close()
        self._open = kind
        block: dict[str, Any] = {"type": "text", "text": ""}
        if kind == REASONING:
            block = {"type": "thinking", "thinking": "", "signature": ""}
        elif kind == CALL and delta.call is not None:
            block = {"type": "tool_use", "id": delta.call.id, "name": delta.call.name, "input": {}}
        self._blocks += 1
        return ended + sse({"type": "content_block_start", "index": self._blocks - 1, "content_block": block})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        return sse({"type": "content_block_stop", "index": self._blocks - 1})

    def closing(self) -> bytes:
        first = b"" if self._blocks else self._block(Delta("content"))
        last = self._close() + sse({"type": "message_delta", "delta": self._end(), "usage": self._usage()})
        return first + last + sse({"type": "message_stop"})

    def failure(self, error: ApiError) -> bytes:
        return sse(errors(error, self._id))


def count_tokens(served: Served, data: Mapping[str, Any]) -> dict[str, int]:
    return {"input_tokens": len(prompt_of(served, fields.read(Count, data), ())[0])}
