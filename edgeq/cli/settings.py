"""What `/set NAME VALUE` changes in a chat: a row for each name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from edgeq.cli.answer import THOUGHTS
from edgeq.cli.template import think_switch
from edgeq.errors import EdgeqError, UsageError, quote, shown

if TYPE_CHECKING:
    from edgeq.cli.session import Session

RANDOM = -1  # as a seed: another each time


@dataclass(frozen=True)
class Setting:
    """show(session) is the value as a word, change(session, word) sets it or raises UsageError."""

    show: Callable[[Session], object]
    change: Callable[[Session, str], None]


def settings() -> dict[str, Setting]:
    """Every name that can be set."""
    from edgeq.sampling import SamplingOptions

    sampling = {field.name: _sampling(field.name) for field in fields(SamplingOptions)}
    return sampling | OTHERS


def setting(name: str) -> Setting:
    """The setting of a name; UsageError where there is none."""
    found = settings().get(ALIASES.get(name, name))
    if found is None:
        raise UsageError(f"{quote(name)} cannot be set: the names are {', '.join(settings())}")
    return found


def _sampling(name: str) -> Setting:
    """A field of edgeq.sampling.SamplingOptions, which checks its value."""

    def show(session: Session) -> object:
        value = getattr(session.chat.options, name)
        return RANDOM if value is None else SPELLED.get(name, lambda value: value)(value)

    def change(session: Session, word: str) -> None:
        value: Any = word if name in SPELLED else number(name, word)
        if name == "seed" and value == RANDOM:
            value = None
        session.chat.options = replace(session.chat.options, **{name: value})

    return Setting(show, change)


def number(name: str, word: str) -> float:
    """A whole number where the word is one, else another."""
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        raise UsageError(f"{name} is {shown(word)}, but must be a number") from None


def choice(name: str, word: str, words: tuple[str, ...]) -> str:
    if word not in words:
        raise UsageError(f"{name} is {shown(word)}, but must be {', '.join(words[:-1])} or {words[-1]}")
    return word


def _set_max_tokens(session: Session, word: str) -> None:
    most = number("max_tokens", word)
    if not isinstance(most, int) or most < -1:
        raise UsageError(f"max_tokens is {shown(word)}, but must be a whole number of at least 0, or -1")
    session.chat.max_tokens = most


def _show_think(session: Session) -> object:
    try:
        value = session.chat.chat_template_kwargs.get(think_switch(session.template))
    except EdgeqError:
        return "the template has no switch for it"
    return "as the template has it" if value is None else onoff(bool(value))


def _set_think(session: Session, word: str) -> None:
    think = choice("think", word, ONOFF) == "on"
    session.chat.chat_template_kwargs[think_switch(session.template)] = think


def _set_wordwrap(session: Session, word: str) -> None:
    session.look.wordwrap = choice("wordwrap", word, ONOFF) == "on"


def _set_thoughts(session: Session, word: str) -> None:
    session.look.thoughts = choice("thoughts", word, THOUGHTS)


def onoff(value: bool) -> str:
    return "on" if value else "off"


ONOFF = ("on", "off")
SPELLED: dict[str, Callable[[Any], str]] = {  # sampling options that are no numbers, as they are shown
    "samplers": ";".join,
    "logit_bias": lambda pairs: ",".join(f"{id}{bias:+g}" for id, bias in pairs) or "none",
    "dry_sequence_breakers": lambda texts: " ".join(map(repr, texts)) or "none",
}
ALIASES = {"temp": "temperature", "n_predict": "max_tokens", "num_predict": "max_tokens"}
OTHERS = {
    "max_tokens": Setting(
        lambda session: -1 if session.chat.max_tokens is None else session.chat.max_tokens, _set_max_tokens
    ),
    "think": Setting(_show_think, _set_think),
    "thoughts": Setting(lambda session: session.look.thoughts, _set_thoughts),
    "wordwrap": Setting(lambda session: onoff(session.look.wordwrap), _set_wordwrap),
}
