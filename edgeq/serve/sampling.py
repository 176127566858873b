"""The fields that OpenAI's requests share: how tokens are drawn, how many, and where a text ends."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from edgeq.errors import UsageError
from edgeq.generate import options_for
from edgeq.sampling import SamplingOptions
from edgeq.serve.errors import ApiError, wrong

N_MAX = 8
TOKENS_MAX = 2**31
STOPS_MAX, STOP_CHARS_MAX = 16, 256
BIASES_MAX, BIAS_MAX = 1024, 100

Text = Annotated[str, Meta(max_length=STOP_CHARS_MAX)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Repeat = Annotated[float, Meta(gt=0, le=10)]
Whole64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class StreamOptions(Struct):
    include_usage: bool | None = None


class Common(Struct, kw_only=True):
    """What both kinds of completions take."""

    model: Annotated[str, Meta(max_length=512)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=N_MAX)] = 1
    temperature: Annotated[float, Meta(ge=0, le=5)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Repeat | None = None
    repetition_penalty: Repeat | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    seed: Whole64 | None = None
    logit_bias: Annotated[dict[str, Any], Meta(max_length=BIASES_MAX)] | None = None
    stop: str | Annotated[list[Text], Meta(max_length=STOPS_MAX)] | None = None
    cache_prompt: bool = True
    cache_salt: Annotated[str, Meta(max_length=128)] = ""


NAMED = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repeat_last_n")
# of edgeq.sampling, which checks them itself
MORE = tuple(name for name in SamplingOptions.__dataclass_fields__ if name not in {*Common.__struct_fields__})


def options_of(
    model: Any, fields: Common, data: Mapping[str, Any], defaults: Mapping[str, Any]
) -> SamplingOptions:
    """How tokens are drawn: as the request says, else the server's options, the model's file, edgeq's
    defaults. There is always a seed, so that it can be told."""
    values: dict[str, Any] = {**defaults}
    given = {name: getattr(fields, name) for name in NAMED} | {name: data.get(name) for name in MORE}
    if fields.repeat_penalty is not None and fields.repetition_penalty is not None:
        raise wrong("repetition_penalty", "repetition_penalty is given besides repeat_penalty: they are one")
    given["repeat_penalty"] = fields.repeat_penalty or fields.repetition_penalty
    values |= {name: value for name, value in given.items() if value is not None}
    seed = fields.seed if fields.seed is not None else values.get("seed")
    values["seed"] = secrets.randbits(48) if seed is None or seed < 0 else seed
    if fields.logit_bias:
        values["logit_bias"] = _biases(fields.logit_bias, model.vocab_size)
    try:
        return options_for(model, **values)
    except UsageError as error:
        name = str(error).partition(" ")[0]
        raise ApiError(
            400, str(error), code="invalid_value", param=name if name in values else None
        ) from None


def _biases(given: dict[str, Any], vocab_size: int) -> dict[int, float]:
    found = {}
    for word, bias in given.items():
        if not (word.isascii() and word.isdecimal() and len(word) < 10 and int(word) < vocab_size):
            raise wrong(
                "logit_bias", f"logit_bias has {word[:40]!r}, but must have ids of tokens below {vocab_size}"
            )
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -BIAS_MAX <= bias <= BIAS_MAX:
            raise wrong(
                f"logit_bias.{word}",
                f"logit_bias.{word} is {bias!r:.40}, but must be a number from -{BIAS_MAX} to {BIAS_MAX}",
            )
        found[int(word)] = float(bias)
    return found


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    """The strings that end a text; empty ones end none."""
    stops = [stop] if isinstance(stop, str) else stop or []
    if any(len(each) > STOP_CHARS_MAX for each in stops):
        raise wrong(
            "stop", f"stop has {len(stops[0])} characters, but at most {STOP_CHARS_MAX} are looked for"
        )
    return tuple(each for each in stops if each)


def room_for(context: int, prompt: int, wanted: int | None, what: str = "the prompt") -> int:
    """Tokens that may be drawn: as many as are wanted, but no more than the context leaves. ApiError for a
    prompt that does not fit, which is never cut."""
    if prompt > context:
        raise ApiError(
            400,
            f"{what} has {prompt} tokens, but the context holds {context}: a shorter prompt or a server "
            "started with a larger --ctx-size is needed",
            code="context_length_exceeded",
            param="messages" if what == "the conversation" else "prompt",
            n_prompt=prompt,
            n_ctx=context,
        )
    left = context - prompt + 1  # the last token needs no place
    return left if wanted is None else min(wanted, left)
