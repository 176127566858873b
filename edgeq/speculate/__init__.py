"""Guesses of what a text goes on with, so that one pass may give several tokens.

A drafter guesses: from what the text said before (`PromptDrafter`) or with a small model of the same
vocabulary (`ModelDrafter`). A `Speculator` asks it for as many ids as pay, by what passes were seen to cost
(`PassCosts`) and how many guesses came true (`Acceptance`). Guesses never change what is drawn:
`edgeq.generate.continuation` says why.
"""

from edgeq.speculate.acceptance import Acceptance
from edgeq.speculate.costs import PassCosts
from edgeq.speculate.drafters import Drafter, Look
from edgeq.speculate.drafts import Drafting, Drafts
from edgeq.speculate.lengths import lengths
from edgeq.speculate.model import ModelDrafter
from edgeq.speculate.prompt import PromptDrafter
from edgeq.speculate.speculator import Speculator

__all__ = [
    "Acceptance",
    "Drafter",
    "Drafting",
    "Drafts",
    "Look",
    "ModelDrafter",
    "PassCosts",
    "PromptDrafter",
    "Speculator",
    "lengths",
]
