"""Endpoints about the model and its tokens, which never reach the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from edgeq import chat
from edgeq.serve import fields
from edgeq.serve.errors import ApiError, wrong
from edgeq.serve.messages import chat_prompt, messages_of, words_for
from edgeq.serve.served import Served

IDS_MAX = 1 << 20


class Tokenize(Struct, kw_only=True):
    """llama-server's `content`, vLLM's `prompt`, or messages."""

    content: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special: bool | None = None
    add_special_tokens: bool | None = None
    parse_special: bool = True
    with_pieces: bool = False
    add_generation_prompt: bool = True
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class Detokenize(Struct, kw_only=True):
    tokens: Annotated[list[int], Meta(max_length=IDS_MAX)]


class Template(Struct, kw_only=True):
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] | None = None


def tokenize(served: Served, data: Mapping[str, Any]) -> dict[str, Any]:
    read = fields.read(Tokenize, data)
    given = [name for name in ("content", "prompt", "messages") if getattr(read, name) is not None]
    if len(given) != 1:
        raise wrong("content", f"one of content, prompt and messages is expected, but {len(given)} are given")
    if read.messages is not None:
        ids = _chat_ids(served, read)
    else:
        text = read.content if read.content is not None else read.prompt
        # llama-server adds nothing unless it is asked, vLLM does
        default = False if read.content is not None else None
        add = read.add_special_tokens if read.add_special_tokens is not None else read.add_special
        wanted = default if add is None else (None if add else False)
        ids = served.tokenizer.encode(text or "", add_bos=wanted, special=read.parse_special)
    tokens: list[Any] = ids
    if read.with_pieces:
        tokens = [{"id": id, "piece": _piece(served, id)} for id in ids]
    found = {"tokens": tokens, "count": len(ids), "max_model_len": served.model.context}
    return found


def _chat_ids(served: Served, read: Tokenize | Template) -> list[int]:
    return chat_prompt(
        served,
        messages_of(read.messages or []),
        words_for(more=read.chat_template_kwargs),
        read.tools,
        goes_on=read.add_generation_prompt,
    )


def _piece(served: Served, id: int) -> str | list[int]:
    """A token's text; its bytes where they are no text."""
    data = served.tokenizer.token(id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def detokenize(served: Served, data: Mapping[str, Any]) -> dict[str, Any]:
    read = fields.read(Detokenize, data)
    for id in read.tokens:
        if not 0 <= id < served.model.vocab_size:
            raise wrong("tokens", f"tokens has {id}, but ids are 0 to {served.model.vocab_size - 1}")
    text = served.tokenizer.decode(read.tokens, special=True)
    return {"content": text, "prompt": text}


def apply_template(served: Served, data: Mapping[str, Any]) -> dict[str, Any]:
    """The text of a conversation. Given back as a prompt, what messages spell is no longer told from what
    the template wrote: chat endpoints do."""
    read = fields.read(Template, data)
    _chat_ids(served, read)  # refuses what a chat would
    info = tokenizer_info(served)
    text = chat.render(
        served.chat_template,
        messages_of(read.messages),
        add_generation_prompt=read.add_generation_prompt,
        bos_token=info["bos_token"] or "",
        eos_token=info["eos_token"] or "",
        unk_token=info["unk_token"] or "",
        tools=read.tools,
        **words_for(more=read.chat_template_kwargs),
    )
    return {"prompt": text}


def tokenizer_info(served: Served) -> dict[str, Any]:
    """What clients that tokenize by themselves want to know."""
    tokenizer = served.tokenizer

    def spelled(id: int | None) -> str | None:
        return None if id is None else tokenizer.spelling(id)

    return {
        "bos_token": spelled(tokenizer.bos_id),
        "eos_token": spelled(tokenizer.eos_id),
        "pad_token": spelled(tokenizer.eos_id),
        "unk_token": spelled(tokenizer.unknown_id),
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "add_bos_token": tokenizer.spec.add_bos,
        "chat_template": served.template or served.model.chat_template,
        "model_max_length": served.model.context,
        "vocab_size": served.model.vocab_size,
    }


def props(served: Served, parallel: int) -> dict[str, Any]:
    """llama-server's properties."""
    try:
        info = tokenizer_info(served)
    except ApiError:
        info = {}
    return {
        "default_generation_settings": {"n_ctx": served.model.context},
        "total_slots": parallel,
        "model_alias": served.name,
        "model_path": served.model.file.path.name,
        "chat_template": info.get("chat_template") or "",
        "bos_token": info.get("bos_token") or "",
        "eos_token": info.get("eos_token") or "",
        "build_info": served.fingerprint,
        "modalities": {"vision": False, "audio": False},
    }


def model_json(served: Served) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "edgeq",
        "meta": served.facts,
    }


def models(all: Sequence[Served]) -> dict[str, Any]:
    return {"object": "list", "data": list(map(model_json, all))}
