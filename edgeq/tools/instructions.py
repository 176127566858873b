"""What a model is told of tools where its chat template knows none."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgeq.tools.offered import Choice, Tool
from edgeq.tools.syntax import Syntax


def instructions(tools: Sequence[Tool], choice: Choice, syntax: Syntax) -> str:
    """A text for the system's message: the tools, and how they are called."""
    key = getattr(syntax, "key", "arguments")
    told = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in tools
    ]
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in told)
    when = "Call a tool" if choice.must else "To call a tool"
    many = " A line each calls several." if choice.parallel else ""
    return (
        f"You can call these tools:\n{listed}\n"
        f'{when} by answering with {{"name": its name, "{key}": an object}} and nothing else.{many}'
    )
