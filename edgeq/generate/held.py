"""From what a text is to be held to, to the mask that does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeq.errors import UsageError
from edgeq.generate.defaults import eos_ids
from edgeq.generate.protocols import LanguageModel

if TYPE_CHECKING:
    from edgeq.structured import GrammarMask


def held_to(
    model: LanguageModel,
    *,
    schema: object = None,
    grammar: str | None = None,
    regex: str | None = None,
    choice: Sequence[str] | None = None,
    stop: str | Sequence[str] = (),
    ignore_eos: bool = False,
) -> GrammarMask | None:
    """A mask for one text of a model, None where it is held to nothing. UsageError for two forms, for one
    that cannot be honoured, and beside `stop` or `ignore_eos`: the form says where the text ends."""
    if schema is None and grammar is None and regex is None and choice is None:
        return None
    from edgeq.structured import mask_of, of_any

    form = of_any(schema=schema, grammar=grammar, regex=regex, choice=choice)
    assert form is not None
    check_ends(form.what, stop, ignore_eos)
    return mask_of(model.tokenizer, model.vocab_size, eos_ids(model), form)


def check_ends(what: str, stop: str | Sequence[str], ignore_eos: bool) -> None:
    """UsageError where something else than what a text is held to would say where it ends."""
    for name, given in (("stop", isinstance(stop, str) or len(stop) > 0), ("ignore_eos", ignore_eos)):
        if given:
            raise UsageError(f"{name} is given, but {what} says where the text ends")
