"""What an answer may be held to, each as a grammar of the library: a JSON schema, a regular expression, one
of several texts, a grammar in Lark's or llama.cpp's (GBNF) notation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeq import arguments
from edgeq.errors import SchemaError, UsageError, shown
from edgeq.structured.gbnf import lark_of
from edgeq.structured.library import library, limited, limits
from edgeq.structured.schema import BYTES_MAX, Schema, blamed, normalized
from edgeq.structured.vocabulary import sentence

CHOICES_MAX = 5_000
RELAXED_MAX = 64  # keywords that are found to stand in the way one after the other
# Spaces as json.dumps has them, and none else: a model that likes spaces could go on with them for ever.
JSON_OPTIONS = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
ANY_OBJECT = {"type": "object"}
GBNF_RULE = re.compile(r"^[ \t]*[A-Za-z0-9_-]+[ \t]*::=", re.M)


@dataclass(frozen=True)
class Form:
    """A form of answers: what it is called in errors, and the library's grammar for it.

    `dropped` are the JSON pointers of what a schema was relaxed by."""

    what: str
    grammar: Mapping[str, Any]
    dropped: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The grammar of an answer that is nothing else."""
        return together(self.grammar)


def together(first: Mapping[str, Any], **others: Mapping[str, Any]) -> str:
    """A grammar for `Vocabulary.matcher`: the first, in which @name stands for one of the others."""
    named = [{"name": name, **grammar} for name, grammar in others.items()]
    return json.dumps({"grammars": [dict(first), *named]}, ensure_ascii=False)


def lark(text: str) -> dict[str, Any]:
    """The library's grammar for a text in its own notation."""
    return {"lark_grammar": text}


def of_schema(schema: object, *, relax: bool = False, what: str = "the schema") -> Form:
    """Answers that are JSON as a schema has it, which may be the text of one. SchemaError for what cannot be
    honoured; with relax the keywords that cannot are dropped, and `dropped` has their places."""
    return limited(lambda: _of_schema(schema, relax, what), what)


def _of_schema(schema: object, relax: bool, what: str) -> Form:
    drop: set[str] = set()
    for _ in range(RELAXED_MAX):
        found = normalized(schema, relax=relax, drop=frozenset(drop))
        if (why := _refused(found.root)) is None:
            return Form(what, _json(found.root), tuple(found.dropped))
        pointer, keyword, why = _blame(found, why)
        if not relax:
            place = f"{keyword} at {pointer or '/'}" if keyword else (pointer or what)
            raise SchemaError(f"{place} cannot be honoured: {why}", pointer, keyword)
        drop |= {f"{pointer}/{key}" for key in ([keyword] if keyword else _keys(found, pointer))}
    raise SchemaError(f"{what} has more than {RELAXED_MAX} keywords that cannot be honoured")


def _blame(found: Schema, why: str) -> tuple[str, str | None, str]:
    return blamed(found, _refused) or ("", None, why)


def _keys(found: Schema, pointer: str) -> list[str]:
    """All keywords of a part, of which none alone is to blame."""
    return [key for place, part in found.places if place == pointer for key in part]


def _json(root: Mapping[str, Any]) -> dict[str, Any]:
    return {"json_schema": {**root, "x-guidance": JSON_OPTIONS}}


def _refused(root: dict[str, Any]) -> str | None:
    """Why the library takes no such schema; None where it does."""
    failed, messages = library().LLMatcher.validate_grammar_with_warnings(
        together(_json(root)), limits=limits()
    )
    return sentence(messages[0]) if failed else None


def of_regex(text: object) -> Form:
    """Answers that match a regular expression from begin to end."""
    pattern = _text(text, "the regular expression")
    if pattern.startswith("^"):
        pattern = pattern[1:]
    if pattern.endswith("$") and (len(pattern) - len(pattern[:-1].rstrip("\\"))) % 2:
        pattern = pattern[:-1]
    if not pattern:
        raise UsageError("the regular expression is empty, so the answer would be, too")
    within = library().regex_to_lark(f"(?:{pattern})", use_ascii="")
    within = within.replace("\n", "\\n")
    return Form("the regular expression", lark(f"start: /{within}/"))


def of_choice(texts: object) -> Form:
    """Answers that are one of several texts."""
    if isinstance(texts, str) or not arguments.is_sequence(texts):
        raise UsageError(f"the choice is {shown(texts)}, but must be a list of texts")
    listed = list(texts)  # type: ignore[call-overload]
    if not 0 < len(listed) <= CHOICES_MAX or not all(isinstance(each, str) and each for each in listed):
        raise UsageError(f"a choice is 1 to {CHOICES_MAX} texts of at least one character")
    for each in listed:
        _text(each, "a text to choose")
    spelled = " | ".join(map(quoted, listed))
    _text(spelled, "the choice")
    return Form("the choice", lark(f"start: {spelled}"))


def of_grammar(text: object) -> Form:
    """Answers that a grammar derives, in GBNF where it has a rule with ::=, else in the library's Lark."""
    grammar = _text(text, "the grammar")
    if GBNF_RULE.search(grammar):
        return Form("the grammar", lark(lark_of(grammar)))
    return Form("the grammar", lark(grammar))


def of_any(
    *, schema: object = None, grammar: object = None, regex: object = None, choice: object = None
) -> Form | None:
    """The form that one of these asks for, None where none is given. UsageError where two are."""
    given = dict(schema=schema, grammar=grammar, regex=regex, choice=choice)
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{named[0]} and {named[1]} are given, but an answer is held to one of them")
    makers = dict(schema=of_schema, grammar=of_grammar, regex=of_regex, choice=of_choice)
    return makers[named[0]](given[named[0]]) if named else None  # type: ignore[operator]


def quoted(text: str) -> str:
    """A text in the library's notation."""
    return json.dumps(text, ensure_ascii=False)


def _text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"{what} is {shown(text)}, but must be a text")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} holds a lone surrogate, which no UTF-8 text can hold") from None
    if size > BYTES_MAX:
        raise UsageError(f"{what} has {size} bytes, but at most {BYTES_MAX} are allowed")
    return text
