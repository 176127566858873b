"""Calls of tools: how each family of chat models writes them, as a grammar and as a parser of what it says.

    plan = plan_of(model, tools=[…], tool_choice="auto")

`plan_of` is the one way in: the mask that holds an answer to a form, to the tools and to a block of thoughts
before them, and the parser that makes deltas of its tokens. A family is a file in `families/`. Tools are
described and called here; running them is the caller's.
"""

from edgeq.tools.offered import Choice, Tool
from edgeq.tools.parser import Parser
from edgeq.tools.plan import Plan, form_of, plan_of
from edgeq.tools.source import Delta

__all__ = ["Choice", "Delta", "Parser", "Plan", "Tool", "form_of", "plan_of"]
