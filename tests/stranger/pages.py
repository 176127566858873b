"""What README and docs tell a person to type: commands, options, pieces of Python, each by its page."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/usage.md", "docs/python.md", "docs/options.md", "docs/raspberry-pi.md")


@cache
def text(page: str) -> str:
    assert page in PAGES, f"{page} is no page that a stranger reads"
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The sources of the page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.M | re.S)


@cache
def spans(page: str) -> frozenset[str]:
    """What stands between backquotes in the page's lines, with one blank for a line's end."""
    prose = re.sub(r"^```.*?^```$", "", text(page), flags=re.M | re.S)
    found = re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", prose, re.S)
    return frozenset(" ".join(span.replace("\\|", "|").split()) for _, span in found)


@cache
def commands(page: str) -> frozenset[str]:
    """Lines of the page's shell blocks, without comments, their parts between `&&`, what is in backquotes."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in lines]
    parts = [part.strip() for line in lines for part in line.split(" && ")]
    return frozenset([*lines, *parts, *spans(page)])


def has_option(word: str) -> bool:
    """Whether a page tells of an option, in a command or alone."""
    told = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
    return any(told.search(command) for page in PAGES for command in commands(page))


def has_word(word: str) -> bool:
    """Whether a page tells of a chat's command."""
    return any(span.split()[:1] == [word] for page in PAGES for span in spans(page))


def python(page: str, beginning: str) -> str | None:
    """The piece of Python in the page that begins so; None where it is not exactly one."""
    found = [block for block in blocks(page, "python") if block.startswith(beginning)]
    return found[0] if len(found) == 1 else None
