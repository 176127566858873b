"""The filters and functions of chat templates: what each is going to make is charged before it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, MappingView
from datetime import datetime
from functools import wraps
from typing import Any

from edgeq.chat.meter import ELEMENTS_MAX, TEXT_BYTES, Meter, current, lines, too_much
from edgeq.chat.provenance import PERCENT_FIELD, Text, foreign, joined
from edgeq.errors import UsageError

SLOW_TEXT_MAX = 1 << 16  # characters given to filters that are slow on text

FILTERS = frozenset(
    [
        "abs",
        "batch",
        "capitalize",
        "center",
        "count",
        "d",
        "default",
        "dictsort",
        "e",
        "escape",
        "first",
        "float",
        "format",
        "groupby",
        "indent",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "safe",
        "select",
        "selectattr",
        "slice",
        "sort",
        "string",
        "sum",
        "title",
        "tojson",
        "trim",
        "truncate",
        "unique",
        "upper",
    ]
)
LIST_FILTERS = frozenset(  # they take a text apart into its characters
    [
        "batch",
        "dictsort",
        "groupby",
        "join",
        "list",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "select",
        "selectattr",
        "slice",
        "sort",
        "sum",
        "unique",
    ]
)
LAZY_FILTERS = frozenset(  # what they give is true even without elements, as Jinja's generators are
    ["batch", "items", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice"]
)


def metered(name: str, function: Any) -> Any:
    """A filter that counts what it makes."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0  # before it comes Jinja's context or environment

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        meter = current()
        meter.tick()
        meter.arguments((*args[at + 1 :], *kwargs.values()))
        if len(args) > at:
            value = listed(args[at])
            _before(meter, name, value, args[at + 1 :], kwargs)
            args = (*args[:at], value, *args[at + 1 :])
        result = meter.keep(listed(function(*args, **kwargs)))
        value = args[at] if len(args) > at else None
        if name == "format" and not isinstance(value, Text):
            result = foreign(result)  # Python gives back the argument of a bare %s
        meter.forget(name, value, result)
        return iter(result) if name in LAZY_FILTERS and isinstance(result, list) else result

    return counted


def _before(meter: Meter, name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """What a filter is going to make of its value."""
    if isinstance(value, str):
        if name in LIST_FILTERS:
            meter.elements(len(value))
            if name == "join":
                meter.make(len(value) * (1 + _between(args, kwargs)))
        if name in ("title", "capitalize", "truncate") and len(value) > SLOW_TEXT_MAX:
            raise too_much(f"uses {name} on a long text")
        if name in ("replace", "center"):
            meter.method(value, name, (*args, *kwargs.values()))
        elif name == "indent":
            widths = [part for part in (*args, *kwargs.values(), 4) if isinstance(part, int | str)]
            width = max(len(part) if isinstance(part, str) else part for part in widths)
            count = lines(value)
            meter.make(len(value) + width * count)
            if isinstance(value, Text):
                meter.elements(count, TEXT_BYTES)
        elif name in ("e", "escape"):
            meter.make(5 * len(value))
        elif name == "format":
            meter.formats(value, PERCENT_FIELD, "%", [list(args), kwargs])
    elif isinstance(value, list | tuple | dict):
        if name in ("join", "string"):
            meter.make(2 * meter.weigh(value) + _between(args, kwargs) * len(value))
        elif name == "sum" and not isinstance(kwargs.get("start", (*args, 0, 0)[1]), int | float):
            raise too_much("adds up what are no numbers")


def _between(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Characters of the separator of `join`."""
    separator = args[0] if args else kwargs.get("d")
    return len(separator) if isinstance(separator, str) else 0


def listed(values: Any) -> Any:
    """An iterator or a view as a list of no more elements than one may have; other values as they are."""
    if not isinstance(values, Iterator | MappingView | range):
        return values
    out: list[Any] = []
    elements: Iterable[Any] = values  # type: ignore[assignment]
    for value in elements:
        out.append(value)
        if len(out) > ELEMENTS_MAX:
            raise too_much(f"makes a list of more than {ELEMENTS_MAX} elements")
    current().elements(len(out))
    return out


def join(environment: Any, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    """Jinja's `join`, with provenance; `environment` is Jinja's."""
    if attribute is not None:
        from jinja2.filters import make_attrgetter

        value = map(make_attrgetter(environment, attribute), value)
    return joined(str(d), map(str, value))


def indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> Any:
    """Jinja's `indent`, with provenance."""
    if hasattr(text, "__html__") or hasattr(width, "__html__"):  # what is escaped is Jinja's own affair
        from jinja2.filters import do_indent

        return do_indent(text, width, first, blank)
    space = width if isinstance(width, str) else " " * width
    head, *rest = (text + "\n").splitlines()
    indented = joined("\n", [head, *(space + line if line or blank else line for line in rest)])
    return space + indented if first else indented


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
            sort_keys: bool = False) -> str:  # fmt: skip
    """JSON as text for a model: no HTML escapes, other scripts as they are."""
    meter = current()
    if indent is not None and not 0 <= indent <= 16:
        raise too_much("indents JSON by more than 16")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None:
        meter.make(meter.weigh(value))
        return encoder.encode(value)
    out = []
    for piece in encoder.iterencode(value):
        meter.make(len(piece))
        out.append(piece)
    return "".join(out)


def raise_exception(message: object) -> None:
    """How a template refuses messages that its model does not understand."""
    words = "".join(c if c.isprintable() else " " for c in str(message)[:1000]).split()
    raise UsageError(f"the chat template refuses these messages: {' '.join(words)[:300]}")


def strftime_now(format: str) -> str:
    """The local time, as templates ask for it."""
    if len(format) > 100 or re.search(r"[0-9]{2}", format):
        raise too_much("asks for an odd form of the date")
    return datetime.now().strftime(format)
