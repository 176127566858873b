"""Where guesses come from, as a caller says it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from edgeq.arguments import is_int
from edgeq.errors import UsageError, shown
from edgeq.passes import TokenModel
from edgeq.speculate.costs import PassCosts
from edgeq.speculate.drafters import Drafter
from edgeq.speculate.model import ModelDrafter
from edgeq.speculate.prompt import PromptDrafter
from edgeq.speculate.speculator import Speculator

PROMPT = "prompt"
MOST_MAX = 64


@dataclass(frozen=True)
class Drafting:
    """What guesses are made with, and how many.

    - draft: "prompt", what the text said before; a model of the same vocabulary, or whatever `edgeq.load`
      takes for one, as a path.
    - most: guesses of a pass. least: where fewer are to be had, none is made.
    - p_min: a model's guesses end before the first that it finds less likely than this.
    """

    draft: Any
    most: int = 16
    least: int = 0
    p_min: float = 0.4

    def __post_init__(self) -> None:
        for name, low in (("most", 1), ("least", 0)):
            value = getattr(self, name)
            if not is_int(value) or not low <= value <= MOST_MAX:
                raise UsageError(
                    f"{name} is {shown(value)}, but must be how many tokens are guessed, a whole number from "
                    f"{low} to {MOST_MAX}"
                )
        if (
            isinstance(self.p_min, bool)
            or not isinstance(self.p_min, int | float)
            or not 0 <= self.p_min <= 1
        ):
            raise UsageError(f"p_min is {shown(self.p_min)}, but must be a probability, from 0 to 1")


@dataclass
class Drafts:
    """What guesses are made with, ready for the texts of one model, one after another: the small model and
    its sequence, and what passes were seen to cost, stay from one text to the next."""

    drafting: Drafting
    model: Any
    costs: PassCosts = field(default_factory=PassCosts)
    small: TokenModel | None = None
    _opened: Any = None  # a model that was loaded here
    _drafter: ModelDrafter | None = None

    @classmethod
    def of(cls, draft: object, model: Any) -> Drafts | None:
        """From what a caller gives as `draft`: None, "prompt", a model, a path, or a Drafting of these.
        UsageError for anything else, and for a model of another vocabulary; else as `edgeq.load`."""
        if draft is None:
            return None
        drafting = draft if isinstance(draft, Drafting) else Drafting(draft)
        drafts = cls(drafting, model, getattr(model, "pass_costs", None) or PassCosts())
        drafts._open(drafts.drafting.draft)
        return drafts

    def _open(self, draft: Any) -> None:
        if draft == PROMPT:
            return
        if isinstance(draft, str | os.PathLike):
            from edgeq import load

            self._opened = draft = load(draft, threads=self.model.threads)
        if not hasattr(draft, "sequence") or not hasattr(draft, "vocab_size"):
            raise UsageError(
                f'draft is {shown(draft)}, but must be "prompt", a model of the same vocabulary or its path'
            )
        self.small = draft
        try:
            self._drafter = ModelDrafter(draft, self.model, p_min=self.drafting.p_min)
        except BaseException:
            self.close()
            raise

    def speculator(self) -> Speculator:
        """For the next text. Texts that go on together have `another` each."""
        drafter: Drafter = self._drafter if self._drafter is not None else PromptDrafter()
        return Speculator(drafter, most=self.drafting.most, least=self.drafting.least)

    def another(self) -> Drafts:
        """Drafts of the same kind with a sequence of their own, for a text that goes on beside."""
        drafts = Drafts(self.drafting, self.model, small=self.small)
        if self.small is not None:
            drafts._drafter = ModelDrafter(self.small, self.model, p_min=self.drafting.p_min)
        return drafts

    def close(self) -> None:
        """Let go of the small model's sequence, and of the model where it was loaded here."""
        if self._drafter is not None:
            self._drafter.close()
        if self._opened is not None:
            self._opened.close()
