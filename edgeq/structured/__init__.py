"""Answers that are held to a grammar: a JSON schema, a regular expression, a choice, a grammar in Lark or
GBNF.

    mask = mask_of(model, {"type": "object"})
    model.generate("…", mask=mask)

The whole answer is held to it from its first token to its end token, each token by a mask before it is drawn
and by the matcher's verdict after. What cannot be honoured is refused before the first token; nothing is ever
left out in silence. The library behind it, llguidance, is imported when the first grammar is given.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeq.errors import UsageError
from edgeq.structured.forms import ANY_OBJECT, Form, of_any, of_choice, of_grammar, of_regex, of_schema
from edgeq.structured.mask import GrammarMask
from edgeq.structured.vocabulary import Vocabulary, vocabulary_of

__all__ = [
    "ANY_OBJECT",
    "Form",
    "GrammarMask",
    "Vocabulary",
    "mask_of",
    "of_any",
    "of_choice",
    "of_grammar",
    "of_regex",
    "of_schema",
    "vocabulary_of",
]


def mask_of(tokenizer: Any, vocab_size: int, ends: Collection[int], form: Form) -> GrammarMask:
    """The mask of one answer of a form, by the tokens of a model."""
    if not isinstance(form, Form):
        raise UsageError("a mask is made of a form, as of_schema and the like give it")
    return GrammarMask(vocabulary_of(tokenizer, vocab_size, ends), form.text, form.what)
