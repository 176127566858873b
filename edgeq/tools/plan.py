"""From what a request asks for to the mask and the parser of its answer.

    plan = plan_of(model, tools=tools, tool_choice="auto")
    ids = prompt_ids(model, messages, tools=plan.tools, system=plan.system)
    mask, parser = plan.mask(ids), plan.parser(ids)

One grammar holds the whole answer, thoughts and calls included, so that there is no place between two
grammars to slip through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeq.chat import render
from edgeq.chat.prompt import ChatModel, template_of, words_of
from edgeq.chat.sandbox import variables
from edgeq.errors import EdgeqError, UsageError, shown
from edgeq.generate import eos_ids
from edgeq.structured import ANY_OBJECT, Form, GrammarMask, of_any, of_schema, vocabulary_of
from edgeq.structured.forms import lark, together
from edgeq.structured.library import limited
from edgeq.tools import thinking
from edgeq.tools.families import family_of
from edgeq.tools.instructions import instructions
from edgeq.tools.offered import Choice, chosen, offered
from edgeq.tools.parser import Parser
from edgeq.tools.syntax import Rules, Syntax
from edgeq.tools.tags import Tags

TOOLS_SECONDS_MAX = 4.0  # of a processor's time, for the schemas of all tools
PROMPT_END = 64  # tokens at the end of a prompt, among which a tag of thoughts is looked for


@dataclass(frozen=True)
class Plan:
    """How an answer is held and read; good for any number of answers.

    `tools` is what the chat template is told, `system` what its system message has to say besides, where the
    template knows no tools. `family` is the name of the syntax of calls. `relaxed` has the places (JSON
    pointers in the request) of keywords that tools which are not strict lost.
    """

    tools: list[dict[str, Any]] | None
    system: str | None
    family: str
    relaxed: tuple[str, ...]
    what: str | None  # the answer is held to; None where it may be anything
    _model: Any = field(repr=False)
    _tags: Tags = field(repr=False)
    _syntax: Syntax | None = field(repr=False)
    _block: thinking.Block | None = field(repr=False)
    _rules: tuple[str, ...] = field(repr=False)
    _parts: Mapping[str, Any] = field(repr=False)

    @property
    def template_variables(self) -> dict[str, Any]:
        """What the chat template is told, as keywords of `encode_chat`."""
        return {} if self.tools is None else {"tools": self.tools}

    def mask(self, prompt_ids: Sequence[int]) -> GrammarMask | None:
        """A mask for one answer to a prompt; None where it may be anything. UsageError for a grammar that
        cannot be compiled."""
        if self.what is None:
            return None
        model = self._model
        vocabulary = vocabulary_of(model.tokenizer, model.vocab_size, eos_ids(model))
        return GrammarMask(vocabulary, self._grammar(self._state(prompt_ids)), self.what)

    def parser(self, prompt_ids: Sequence[int], stop: str | Sequence[str] = ()) -> Parser:
        """A parser for one answer to a prompt, whose content ends before any of the stop strings."""
        state, stops = self._state(prompt_ids), (stop,) if isinstance(stop, str) else tuple(stop)
        return Parser(self._model.tokenizer, self._tags, self._syntax, self._block, state, stops)

    def check(self, state: str = thinking.MAY) -> None:
        """Compile the grammar, so that it is known to be one. UsageError where it is none."""
        if self.what is not None:
            model = self._model
            vocabulary = vocabulary_of(model.tokenizer, model.vocab_size, eos_ids(model))
            vocabulary.matcher(self._grammar(state), self.what)

    def _state(self, prompt_ids: Sequence[int]) -> str:
        end = self._model.tokenizer.decode(list(prompt_ids[-PROMPT_END:]), special=True)
        return thinking.standing(self._block, end)

    def _grammar(self, state: str) -> str:
        thoughts, before = thinking.rule(self._block, state)
        text = "\n".join([f"start: {before} body", *thoughts, *self._rules])
        return together(lark(text), **self._parts)


def plan_of(
    model: ChatModel,
    *,
    response_format: Mapping[str, Any] | None = None,
    schema: object = None,
    grammar: str | None = None,
    regex: str | None = None,
    choice: Sequence[str] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: object = None,
    parallel_tool_calls: bool = True,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Plan:
    """How the answer to messages is held and read.

    response_format: {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema":
    {"schema": …}}, also with "schema" beside "type"; or one of schema, grammar, regex and choice, as for
    `generate.held_to`. tools, tool_choice, parallel_tool_calls: as OpenAI has them. With both, an answer is
    calls, or what is asked for.

    All is decided here: SchemaError and UsageError for what cannot be honoured, or what takes too long.
    """
    template = template_of(model, chat_template)
    words = words_of(chat_template_kwargs)
    form = form_of(response_format, schema=schema, grammar=grammar, regex=regex, choice=choice)
    listed = offered(tools)
    calls = chosen(listed, tool_choice, parallel_tool_calls)
    tags = Tags(model.tokenizer)
    block = thinking.block_of(template, tags)
    rules, syntax = Rules(), None
    if calls.tools:
        syntax = family = family_of(template)(tags)
        body = limited(lambda: _body(rules, family, calls, form), "a grammar of the tools", TOOLS_SECONDS_MAX)
        rules.lines.insert(0, f"body: {body}")
    elif form is not None:
        rules.lines.append(f"body: {rules.part(form.grammar)}")
    told = [dict(tool) for tool in tools] if calls.tools and tools is not None else None
    knows = "tools" in variables(template)
    plan = Plan(
        told if knows else None,
        None if knows or syntax is None else instructions(listed, calls, syntax),
        syntax.name if syntax is not None else family_of(template).name,
        tuple(rules.relaxed),
        form.what if form is not None and syntax is None else "the tools" if syntax is not None else None,
        model,
        tags,
        syntax,
        block,
        tuple(rules.lines),
        rules.parts,
    )
    plan.check(_expected(model, template, block, {**words, **plan.template_variables}))
    return plan


def _body(rules: Rules, syntax: Syntax, calls: Choice, form: Form | None) -> str:
    """The body of an answer with calls; beside a form prose is what has the form."""
    if form is None or calls.must:
        return syntax.body(rules, calls)
    if syntax.trigger is None:
        raise UsageError(
            f"tools and {form.what} are given, but this model's calls are JSON that nothing marks, so an "
            "answer may be the one or the other: set tool_choice to none or required"
        )
    held = syntax.body(rules, Choice(calls.tools, True, calls.parallel))
    return f"{held} | {rules.part(form.grammar)}"


def _expected(model: ChatModel, template: str, block: thinking.Block | None, words: Mapping[str, Any]) -> str:
    """What the prompt's end will most likely say of thoughts."""
    try:
        end = render(template, [{"role": "user", "content": "Hi"}], **words)
    except EdgeqError:  # a template that wants other messages
        return thinking.MAY
    return thinking.standing(block, end)


def form_of(response_format: object, **others: Any) -> Form | None:
    """The form that a response_format, or one of the others, asks for; None where any answer will do."""
    if response_format is None:
        return of_any(**others)
    for name, value in others.items():
        if value is not None:
            raise UsageError(f"response_format and {name} are given, but an answer is held to one of them")
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if not isinstance(response_format, Mapping) or kind not in ("text", "json_object", "json_schema"):
        raise UsageError(
            f"response_format is {shown(response_format)}, but its type must be text, json_object or "
            "json_schema"
        )
    if kind == "text":
        return None
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else response_format.get("schema")
    if kind == "json_object":
        return of_schema(ANY_OBJECT if schema is None else schema)
    if schema is None:
        raise UsageError("response_format is of type json_schema, but has no schema")
    return of_schema(schema)
