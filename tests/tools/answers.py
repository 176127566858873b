"""Answers put together again from deltas, and what every delta must be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from edgeq.tools import Delta, Plan


@dataclass
class Rebuilt:
    content: str = ""
    reasoning: str = ""
    names: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # of arguments

    @property
    def arguments(self) -> list[Any]:
        return [json.loads(text) for text in self.texts]


def rebuilt(deltas: Iterable[Delta]) -> Rebuilt:
    """What deltas make, as a client puts them together."""
    found = Rebuilt()
    for delta in deltas:
        fields = [delta.content, delta.reasoning, delta.name, delta.arguments]
        assert sum(bool(each) for each in fields) == 1, delta
        for text in (delta.content, delta.reasoning, delta.arguments):
            text.encode()  # no half of a character, no mark of a tag
        found.content += delta.content
        found.reasoning += delta.reasoning
        if delta.name is not None:
            assert delta.index == len(found.names) and delta.id
            found.names.append(delta.name)
            found.ids.append(delta.id)
            found.texts.append("")
        elif delta.arguments:
            assert delta.index == len(found.names) - 1 and delta.id is None
            found.texts[-1] += delta.arguments
    assert len(set(found.ids)) == len(found.ids)
    return found


def said(plan: Plan, model: Any, text: str, *, prompt: str = "assistant: ") -> Rebuilt:
    """What comes of an answer, given with its tags spelled: the mask of the plan takes each of its tokens,
    and the parser reads them."""
    ids, prompt_ids = (model.tokenizer.encode(each, special=True, add_bos=False) for each in (text, prompt))
    mask, parser = plan.mask(prompt_ids), plan.parser(prompt_ids)
    deltas: list[Delta] = []
    for id in ids:
        if mask is not None:
            mask.accept(id)
        deltas += parser.push(id)
    if mask is not None:
        assert mask.complete, text
    deltas += parser.finish()
    assert parser.complete
    return rebuilt(deltas)
