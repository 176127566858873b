"""Chat templates in plain Jinja, to compare with."""

from __future__ import annotations

import json
from functools import cache
from typing import Any


@cache
def environment() -> Any:
    """The plain sandbox of Jinja with the settings and names that chat templates are written for."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    made.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return made


def reference(template: str, **variables: Any) -> str:
    return str(environment().from_string(template).render(**variables))
