"""What a request says of the form of its answer, and its tools: as a mask for each text, and a parser of it.

Every dialect comes through `form_for`, for a text that is continued, or `plan_for`, for a chat, with the same
words. Never is an answer left free that was to be bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgeq.chat.thoughts import Thoughts, begun
from edgeq.errors import SchemaError, UsageError
from edgeq.generate import Mask, check_ends, eos_ids
from edgeq.serve.errors import ApiError, unsupported, wrong
from edgeq.serve.timed import TimedMask
from edgeq.serve.timed import told as timed

if TYPE_CHECKING:
    from edgeq import tools as calls
    from edgeq.serve.served import Served
    from edgeq.tools import Plan as Calls

CONTENT, REASONING, CALL = "content", "reasoning", "call"
PROMPT_END = 16  # tokens of a prompt's end that may begin thoughts
# how other servers' clients ask for a form → the word for it here
FORMS = {
    "grammar": "grammar",
    "json_schema": "schema",
    "guided_json": "schema",
    "guided_regex": "regex",
    "guided_grammar": "grammar",
    "guided_choice": "choice",
    "structured_outputs": "",  # an object with one of json, regex, choice and grammar
}
OUTPUTS = {"json": "schema", "regex": "regex", "choice": "choice", "grammar": "grammar"}


class Delta(NamedTuple):
    """A part of an answer: text of it, or of the thoughts before it, or a call's beginning or arguments."""

    kind: str
    text: str = ""
    call: calls.Delta | None = None


class Parser(Protocol):
    """Takes an answer apart, however it is cut into pieces: their text, and the ids of its tokens."""

    def push(self, text: str, ids: Sequence[int]) -> list[Delta]: ...
    def flush(self) -> list[Delta]: ...


@dataclass(frozen=True)
class Structure:
    """The form of an answer. Each text has a mask and a parser of its own; no mask lets every token come."""

    parser: Callable[[], Parser]
    mask: Callable[[], Mask | None] = lambda: None
    what: str | None = None  # the answer is held to
    stops: bool = True  # whether strings of the request may end it: not where a form says where it ends


class Thinking:
    """Tells thoughts from the answer."""

    def __init__(self, ends: str | None) -> None:
        self._thoughts = Thoughts(ends)
        self._answered = self._thought = False

    def push(self, text: str, ids: Sequence[int]) -> list[Delta]:
        return self._deltas(self._thoughts.push(text))

    def flush(self) -> list[Delta]:
        return self._deltas(self._thoughts.flush())

    def _deltas(self, parts: Iterable[Any]) -> list[Delta]:
        deltas = []
        for part in parts:
            text = part.text
            if not part.is_thought and not self._answered and self._thought:
                text = text.lstrip("\n")  # that stand between thoughts and answer
            if text:
                self._answered |= not part.is_thought
                deltas.append(Delta(REASONING if part.is_thought else CONTENT, text))
            self._thought |= part.is_thought
        return deltas


class Plain:
    """All of it is the answer."""

    def push(self, text: str, ids: Sequence[int]) -> list[Delta]:
        return [Delta(CONTENT, text)] if text else []

    def flush(self) -> list[Delta]:
        return []


class Read:
    """Thoughts, content and calls, as the family of the model writes them."""

    def __init__(self, parser: calls.Parser) -> None:
        self._parser = parser

    def push(self, text: str, ids: Sequence[int]) -> list[Delta]:
        return list(map(told, self._parser.extend(ids)))

    def flush(self) -> list[Delta]:
        return list(map(told, self._parser.finish()))


def told(delta: calls.Delta) -> Delta:
    if delta.index is not None:
        return Delta(CALL, call=delta)
    return Delta(REASONING, delta.reasoning) if delta.reasoning else Delta(CONTENT, delta.content)


@dataclass(frozen=True)
class Plan:
    """How a chat's answer is held and read. `tools` is what the template is told, `system` what a system
    message has to say besides, where it knows none."""

    served: Served
    plan: calls.Plan | None = None
    stops: tuple[str, ...] = ()
    calls: bool = False  # whether there may be calls

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        return None if self.plan is None else self.plan.tools

    @property
    def relaxed(self) -> tuple[str, ...]:
        """Places in the tools whose keywords no answer is held to."""
        return () if self.plan is None else self.plan.relaxed

    def messages(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """With what the system's has to say besides."""
        more = None if self.plan is None else self.plan.system
        if more is None:
            return messages
        first = messages[0] if messages and messages[0]["role"] == "system" else None
        said = str(first.get("content") or "") if first else ""
        system = {"role": "system", "content": f"{said}\n\n{more}" if said else more}
        return [system, *(messages[1:] if first else messages)]

    def of(self, prompt: Sequence[int]) -> Structure:
        """For the answer to a prompt."""
        plan = self.plan
        if plan is None:
            end = self.served.text_of(list(prompt[-PROMPT_END:]))
            return Structure(lambda: Thinking(begun(end)))
        parser = lambda: Read(plan.parser(prompt, self.stops))  # noqa: E731
        return Structure(parser, lambda: self._mask(plan, prompt), plan.what, self.calls or plan.what is None)

    def _mask(self, plan: Calls, prompt: Sequence[int]) -> Mask | None:
        mask = plan.mask(prompt)
        return None if mask is None else TimedMask(mask, self.served.masked, self.served.slow)


def plan_for(
    served: Served,
    *,
    response_format: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    parallel_tool_calls: bool | None = None,
    forms: Mapping[str, Any] | None = None,
    words: Mapping[str, Any] | None = None,
    stops: Sequence[str] = (),
) -> Plan:
    """Of what a chat asks for; forms: by the names in FORMS. ApiError for what cannot be honoured."""
    check_format(response_format)
    if tool_choice not in (None, "none", "auto") and not tools:
        raise wrong("tool_choice", "tool_choice is given, but there are no tools to choose from")
    if parallel_tool_calls is not None and not tools:
        raise unsupported("parallel_tool_calls", "there are no tools")
    form = response_format if response_format and response_format.get("type") != "text" else None
    calls_none = not tools or tool_choice == "none"
    if form is None and not forms and calls_none:
        return Plan(served)
    from edgeq.tools import plan_of

    param = "tools" if not calls_none else next(iter(forms)) if forms else "response_format"
    try:
        with timed(served.compiled):
            plan = plan_of(
                served.model,
                response_format=form,
                tools=tools,
                tool_choice=tool_choice,
                parallel_tool_calls=parallel_tool_calls is not False,
                chat_template=served.chat_template,
                chat_template_kwargs=words,
                **_asked(forms),
            )
        if plan.what is not None and calls_none:
            check_ends(plan.what, stops, False)
    except UsageError as error:
        raise refused(param, error) from None
    return Plan(served, plan, tuple(stops), not calls_none)


def form_for(
    served: Served,
    *,
    response_format: Mapping[str, Any] | None = None,
    forms: Mapping[str, Any] | None = None,
    stops: Sequence[str] = (),
) -> Structure:
    """The same of a text that is continued."""
    check_format(response_format)
    form = response_format if response_format and response_format.get("type") != "text" else None
    if form is None and not forms:
        return Structure(Plain)
    from edgeq.structured import mask_of
    from edgeq.tools import form_of

    model = served.model
    try:
        found = form_of(form, **_asked(forms))
        assert found is not None
        check_ends(found.what, stops, False)
        with timed(served.compiled):
            mask = mask_of(served.tokenizer, model.vocab_size, eos_ids(model), found)
    except UsageError as error:
        raise refused(next(iter(forms)) if forms else "response_format", error) from None
    return Structure(Plain, TimedMask(mask, served.masked, served.slow).copy, found.what, stops=False)


def check_format(response_format: Mapping[str, Any] | None) -> None:
    kind = None if response_format is None else response_format.get("type")
    if response_format is not None and kind not in ("text", "json_object", "json_schema"):
        raise wrong(
            "response_format.type",
            f"response_format.type is {str(kind)[:40]!r}, but must be text, json_object or json_schema",
        )


def _asked(forms: Mapping[str, Any] | None) -> dict[str, Any]:
    """Forms by the words that they have here."""
    found: dict[str, Any] = {}
    for name, value in (forms or {}).items():
        if FORMS[name]:
            found[FORMS[name]] = value
            continue
        if not isinstance(value, Mapping) or len(value) != 1 or not value.keys() <= OUTPUTS.keys():
            raise UsageError(f"{name} must be an object with one of {', '.join(OUTPUTS)}")
        found |= {OUTPUTS[key]: each for key, each in value.items()}
    if forms and len(forms) > 1:
        raise UsageError(f"{' and '.join(forms)} are given, but an answer is held to one of them")
    return found


def refused(param: str, error: UsageError) -> ApiError:
    """Of what cannot be honoured, where it is."""
    if isinstance(error, SchemaError):
        within = error.pointer.startswith(f"/{param}/")  # of a tool: from the request's top on
        place = error.pointer[1:] if within else f"{param}{error.pointer}"
        return ApiError(400, str(error), code="invalid_schema", param=place)
    return ApiError(400, str(error), code="invalid_value", param=param)
