"""The Jinja environment of chat templates: sandboxed, metered, with the template's own text known as such.

What a template may use is listed (FILTERS in filters.py, METHODS here); everything else is refused by name.
The Jinja library is imported with the first template. This module knows nothing of tokenizers and messages.

The strings of a template are `Text` (provenance.py), those of messages plain str.
"""

from __future__ import annotations

from functools import lru_cache, wraps
from typing import Any

from edgeq.chat.filters import (
    FILTERS,
    indent,
    join,
    listed,
    metered,
    raise_exception,
    strftime_now,
    to_json,
)
from edgeq.chat.meter import METER, OUTPUT_CHARS_MAX, Meter, current, too_much
from edgeq.chat.provenance import BRACE_FIELD, PERCENT_FIELD, Text, agreeing, foreign, joined, written
from edgeq.errors import EdgeqError, UnsupportedError

TEMPLATE_BYTES_MAX = 256 << 10
TEMPLATE_TOKENS_MAX = 16_000  # of Jinja's, where the largest known templates have 5000

METHODS: dict[type, frozenset[str]] = {  # what a template may call of a value; any other attribute is refused
    str: frozenset(
        [
            "capitalize",
            "casefold",
            "count",
            "endswith",
            "find",
            "format",
            "index",
            "isalnum",
            "isalpha",
            "isascii",
            "isdecimal",
            "isdigit",
            "islower",
            "isnumeric",
            "isspace",
            "istitle",
            "isupper",
            "join",
            "ljust",
            "lower",
            "lstrip",
            "partition",
            "removeprefix",
            "removesuffix",
            "replace",
            "rfind",
            "rindex",
            "rjust",
            "rpartition",
            "rsplit",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "swapcase",
            "title",
            "upper",
            "zfill",
        ]
    ),
    list: frozenset(["count", "index"]),
    tuple: frozenset(["count", "index"]),
    dict: frozenset(["copy", "get", "items", "keys", "values"]),
}


class Sandbox:
    """What is changed in jinja2.sandbox.ImmutableSandboxedEnvironment; `environment()` puts both together."""

    intercepted_binops = frozenset(["+", "-", "*", "**", "%", "/", "//"])
    binop_table: dict[str, Any]

    # called by rewritten templates -----------------------------------------------------------------------

    def literal(self, text: str) -> str:
        return written(text)

    def tick(self) -> None:
        current().tick()

    def keep(self, value: Any) -> Any:
        return current().keep(value)

    def together(self, *values: Any) -> str:
        """values[0] ~ values[1] ~ …"""
        return self.concat(map(str, values))

    def timed(self, value: Any) -> Any:
        """An operand of a comparison."""
        current().clock()
        return value

    def cut(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        """value[start:stop:step]"""
        return current().keep(value[start:stop:step])

    def printed(self, value: Any) -> Any:
        """What {{ … }} prints: lists are weighed before they become text."""
        if isinstance(value, list | tuple | dict):
            current().make(current().weigh(value))
        elif not isinstance(value, str | int | float | None) and type(value).__module__ != "jinja2.runtime":
            raise too_much(f"prints a {type(value).__name__}")
        return value

    # called by Jinja -------------------------------------------------------------------------------------

    @staticmethod
    def concat(pieces: Any) -> str:
        """Joins printed pieces: of the whole template, a macro or a block."""
        meter, out, chars = current(), [], 0
        for piece in pieces:
            out.append(piece)
            chars += len(piece)
            if chars > OUTPUT_CHARS_MAX:
                raise too_much("prints too much text")
        return str(meter.keep(joined("", out)))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        meter = current()
        if operator == "*":
            meter.times(left, right)
        elif operator == "**":
            meter.power(left, right)
        elif operator == "%" and isinstance(left, str):
            meter.formats(left, PERCENT_FIELD, "%", right)
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            meter.elements(len(left) + len(right), size=0)
        result = meter.keep(self.binop_table[operator](left, right))
        if operator == "%" and not isinstance(left, Text):
            result = foreign(result)  # Python gives back the argument of a bare %s
        meter.forget(operator, left, result)
        return result

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if type(obj).__module__ == "jinja2.filters":  # a group that groupby made, which is a tuple too
            return attr in ("grouper", "list")
        for kind, names in METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        # loop, namespace, macros, cycler and undefined values of Jinja; nothing of any other object
        of_jinja = type(obj).__module__ in ("jinja2.runtime", "jinja2.utils", "jinja2.sandbox")
        return of_jinja and super().is_safe_attribute(obj, attr, value)  # type: ignore[misc]

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """An attribute that is there but not offered. Jinja would print nothing in its place."""
        kind = "text" if isinstance(obj, str) else type(obj).__name__
        raise UnsupportedError(
            f"the chat template uses {ascii(str(attribute))[:60]} of a {kind}, "
            "which edgeq does not offer to templates"
        )

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)  # type: ignore[misc]
        if wrapped is None or value.__name__ != "format":
            return None  # no method of a text, or one that METHODS does not list
        text = value.__self__

        @wraps(wrapped)
        def metered(*args: Any, **kwargs: Any) -> Any:
            current().formats(text, BRACE_FIELD, "{", [list(args), kwargs])
            filled = wrapped(*args, **kwargs)
            if not isinstance(text, Text):
                return filled
            filled = str.__str__(filled)
            if 0 not in text.own:
                recorder = _recorder()(self)
                recorder.vformat(text, args, kwargs)
                filled = agreeing(filled, recorder.pieces)
            current().forget("format", text, filled)
            return filled

        return metered

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902
        owner = getattr(__obj, "__self__", None)
        if owner is __self:
            if __obj.__name__ not in _OWN:
                raise too_much("calls its environment")
            return __obj(*args)
        meter = current()
        meter.tick()
        if isinstance(owner, str):
            name = __obj.__name__
            args = tuple(map(listed, args))
            meter.method(owner, name, (*args, *(value for key, value in kwargs.items() if key[0] != "_")))
            if name in ("partition", "rpartition") and not isinstance(owner, Text):
                args = tuple(map(foreign, args))  # str gives the separator back, which is not what it found
            elif name == "join" and type(owner) is str:
                return meter.keep(joined(owner, *args, **kwargs))
        result = meter.keep(super().call(__context, __obj, *args, **kwargs))  # type: ignore[misc]
        if isinstance(owner, str):
            meter.forget(__obj.__name__, owner, result)
        return result


_OWN = ("literal", "tick", "keep", "together", "timed", "cut")


@lru_cache(maxsize=1)
def _recorder() -> type[Any]:
    """The sandbox's str.format, with the pieces that its result is put together from."""
    from jinja2.sandbox import SandboxedFormatter

    class Recorder(SandboxedFormatter):
        def __init__(self, environment: Any) -> None:
            super().__init__(environment)
            self.pieces: list[str] = []

        def parse(self, format_string: str) -> Any:
            for literal, *field in super().parse(format_string):
                self.pieces.append(written(literal))
                yield literal, *field

        def format_field(self, value: Any, format_spec: str) -> str:
            text: str = super().format_field(value, format_spec)
            self.pieces.append(value if not format_spec and isinstance(value, str) else text)
            return text

    return Recorder


@lru_cache(maxsize=1)
def environment() -> Any:
    """The environment of all templates. It has no state but caches: counts are in the current Meter."""
    from jinja2 import pass_environment
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} … {% endgeneration %} marks an answer for training: its contents, here."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Environment(Sandbox, ImmutableSandboxedEnvironment):
        pass

    found = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,
        cache_size=0,
        extensions=[Generation, loopcontrols],
    )
    found.finalize = found.printed
    names = found.globals
    found.globals = {"range": names["range"], "dict": names["dict"], "namespace": names["namespace"]}
    found.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    functions = {**found.filters, "indent": indent, "join": pass_environment(join), "tojson": to_json}
    found.filters = {name: metered(name, functions[name]) for name in sorted(FILTERS)}
    return found


@lru_cache(maxsize=8)
def compiled(template: str) -> Any:
    """The Jinja template object. Raises UnsupportedError for one that cannot be compiled."""
    from jinja2 import TemplateError

    from edgeq.chat.rewrite import rewrite

    if len(template) > TEMPLATE_BYTES_MAX or len(template.encode("utf-8", "replace")) > TEMPLATE_BYTES_MAX:
        raise UnsupportedError(f"the chat template has more than {TEMPLATE_BYTES_MAX >> 10} KiB")
    found = environment()
    try:
        for count, _ in enumerate(found.lex(template)):
            if count > TEMPLATE_TOKENS_MAX:
                raise UnsupportedError(f"the chat template has more than {TEMPLATE_TOKENS_MAX} tokens")
        tree = rewrite(found.parse(template), found)
        return found.template_class.from_code(found, found.compile(tree), found.make_globals(None))
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        raise UnsupportedError(
            f"the chat template cannot be compiled: {sentence(error)}{f' (line {line})' if line else ''}"
        ) from None
    except EdgeqError:
        raise
    except Exception as error:  # a template nested too deeply for Jinja or Python, and whatever else it finds
        raise UnsupportedError(f"the chat template cannot be compiled: {sentence(error)}") from None


@lru_cache(maxsize=8)
def variables(template: str) -> frozenset[str]:
    """What a template asks for by name: "messages", and perhaps "tools", "enable_thinking". Raises as
    `compiled`."""
    from jinja2.meta import find_undeclared_variables

    compiled(template)  # within its limits
    return frozenset(find_undeclared_variables(environment().parse(template)))


def run(template: str, variables: dict[str, Any]) -> tuple[str, list[tuple[str, Text]]]:
    """(what a template prints, a Text where some of it is its own; what its own text was lost in, as
    Meter.forget has it). Raises UnsupportedError for a template that breaks a limit or fails, UsageError when
    it refuses the messages."""
    program = compiled(template)
    meter = Meter()
    token = METER.set(meter)
    try:
        return program.render(variables), meter.forgotten
    except EdgeqError:
        raise
    except Exception as error:  # the template is a program of a stranger: it may fail in any way
        raise UnsupportedError(f"the chat template failed: {sentence(error)}") from None
    finally:
        METER.reset(token)


def sentence(error: Exception) -> str:
    """An exception in at most a line."""
    words = " ".join(str(error).encode("utf-8", "replace").decode().split())[:200]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
