"""Llama 3.1 to 3.3, and models that were taught no way to call: an object of JSON is the answer.

    {"name": "weather", "parameters": {"city": "Rome"}}

Where the template of a model knows no tools, the prompt has to say that: `Plan.system`.
"""

from __future__ import annotations

from edgeq.tools.objects import Bare


class Llama3(Bare):
    name = "llama3"
    key = "parameters"
    between = "; "

    @classmethod
    def writes(cls, template: str) -> bool:
        return "<|start_header_id|>" in template and '"parameters"' in template


class Generic(Bare):
    name = "generic"
    between = "\n"

    @classmethod
    def writes(cls, template: str) -> bool:
        return True
