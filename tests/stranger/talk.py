"""A chat: through a pipe, and at a terminal with paste, Ctrl-C and Ctrl-D."""

# ruff: noqa: E501  (a step stands on few lines)

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.stranger.first import STORY
from tests.stranger.pages import PAGES
from tests.stranger.script import Step, Talk, Turn

README, USAGE, PYTHON, OPTIONS, PI = PAGES
PASTED = "Lily had a dog.\nIt was big.\n/bye is what it said."


def saved(home: Path) -> Iterator[str]:
    """What was pasted is one message of the file, which nobody else may read."""
    said = [message["content"] for message in json.loads((home / "talk.json").read_text())["messages"]]
    if said[-2:-1] != [PASTED]:
        yield f"the conversation is {said}"
    if stat.S_IMODE((home / "talk.json").stat().st_mode) != 0o600:
        yield "others can read the conversation"


TURNS = (
    Turn("what can be said", "/?", sees="Ctrl-C"),
    Turn("shorter answers", "/set max_tokens 12"),
    Turn("a question", "Once there was a cat.", sees="cut off after 12 tokens"),
    Turn("lines pasted from elsewhere", PASTED, pasted=True, sees="cut off after 12 tokens"),
    Turn("what it took", "/stats", sees="4 messages"),
    Turn("to keep the conversation", "/save talk.json", sees="saved 4 messages", check=saved),
    Turn("another answer", "/regen", sees="cut off after 12 tokens"),
    Turn("long answers", "/set max_tokens -1"),
    Turn("to stop an answer that goes on and on", "Tell me all.", stop_at="Lily"),
    Turn("that the chat goes on", "/stats", sees="6 messages"),
    Turn("to forget it", "/clear"),
    Turn("the conversation of before", "/load talk.json", sees="4 messages"),
    Turn("to send a file", "/set max_tokens 5"),
    Turn("to send a file", "/file letter.txt", sees="cut off after 5 tokens"),
    Turn("which options there are", "/set", sees="temperature"),
)

STEPS = (
    Step("a chat through a pipe", USAGE, r"printf 'Hello\n/stats\n' | edgeq chat qwen3.edgeq -q",
         (rf"\A, {STORY}", r"^\d+ of 512 tokens of context, 2 messages$"), also="--temp 0"),
    Step("a first message from a file", USAGE, "edgeq chat qwen3.edgeq -f letter.txt --no-think", (r"\A.{4,}",),
         (r"^qwen3\.edgeq: 512 tokens of context; /help helps$", r"\(cut off after 8 tokens"), also="-n 8"),
    Talk("to talk with it", PI, "edgeq chat smollm2.edgeq -c 4096", TURNS, "200000 tokens of context; /help helps",
         but={"4096": "200000"}, also="--ignore-eos --temp 0"),
    Talk("a first message from the command line", USAGE,
         'edgeq chat qwen3.edgeq -sys "You answer in one sentence." -p "What is a ferrule?"',
         (Turn("what it was told", "/system", sees="You answer in one sentence."),), also="-n 8"),
)  # fmt: skip
