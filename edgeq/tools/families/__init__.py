"""The families of chat models by how they write calls: a file each, the first whose template fits counts."""

from __future__ import annotations

from edgeq.tools.families.functions import Functions
from edgeq.tools.families.gemma import FunctionGemma, Gemma4
from edgeq.tools.families.hermes import Hermes
from edgeq.tools.families.llama3 import Generic, Llama3
from edgeq.tools.families.mistral import Mistral, MistralLists
from edgeq.tools.syntax import Syntax

FAMILIES: tuple[type[Syntax], ...] = (
    Functions,
    Gemma4,
    FunctionGemma,
    Mistral,
    MistralLists,
    Hermes,
    Llama3,
    Generic,
)


def family_of(template: str) -> type[Syntax]:
    """The family of a chat template."""
    return next(family for family in FAMILIES if family.writes(template))
