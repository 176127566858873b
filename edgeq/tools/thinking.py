"""The block of thoughts before an answer, in grammars and parsers: which tags a model has, and whether its
prompt has begun or ended one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgeq.chat.thoughts import TAGS
from edgeq.structured.forms import quoted
from edgeq.tools.source import Source
from edgeq.tools.tags import Tag, Tags

# (begins, ends) as `chat.thoughts.TAGS` has them, and Gemma 4's, whose channel has a name
ALL = (*TAGS, ("<|channel>thought\n", "<channel|>"))
OPEN, MAY, CLOSED = "open", "may", "closed"  # what the prompt's end says of thoughts


class Block(NamedTuple):
    """The tags of a model's thoughts; `name` is what stands behind the tag that begins them."""

    begins: Tag
    name: str
    ends: Tag


def block_of(template: str, tags: Tags) -> Block | None:
    """The block of a model by its template; None where that has no thoughts."""
    for begins, ends in ALL:
        tag, newline, _ = begins.partition("thought\n")
        if ends in template and (tag in template or begins == TAGS[0][0]):  # whose beginning some leave out
            return Block(tags(tag), "thought\n" if newline else "", tags(ends))
    return None


def standing(block: Block | None, prompt: str) -> str:
    """What the end of a prompt, its special tokens spelled, says: thoughts are under way, may come, or are
    over."""
    end = prompt.rstrip()
    if block is None or end.endswith(block.ends.text):
        return CLOSED
    return OPEN if end.endswith((block.begins.text + block.name).rstrip()) else MAY


def rule(block: Block | None, state: str) -> tuple[list[str], str]:
    """(rules, what stands before the body of an answer): thoughts up to their end, where they may be or
    are."""
    if block is None or state == CLOSED:
        return [], ""
    begins = f"{block.begins.lark} {quoted(block.name)}" if block.name else block.begins.lark
    if block.ends.id is not None:
        lines = [f"thoughts: THOUGHT? {block.ends.lark} GAP?", "THOUGHT: /(?s:.+)/", "GAP: /[ \\n]{1,4}/"]
    else:
        lines = [
            "thoughts: thought GAP?",
            f"thought[lazy]: /(?s:.*)/ {block.ends.lark}",
            "GAP: /[ \\n]{1,4}/",
        ]
    return lines, "thoughts" if state == OPEN else f"({begins} thoughts)?"


def read(source: Source, block: Block | None, state: str) -> Iterator[None]:
    """Read thoughts, where there are, and the white space behind them."""
    if block is None or state == CLOSED:
        return
    if state == MAY:
        begins = block.begins.mark + block.name
        while True:
            text = source.buffer.lstrip()
            if len(text) >= len(begins) or not begins.startswith(text) or source.over:
                break
            yield
        if not text.startswith(begins):
            return
        source.buffer = text[len(begins) :]
    yield from source.until(block.ends.mark, give=source.reasoning, whole=False)
    if source.buffer:
        source.take(len(block.ends.mark))
        yield from source.space()
