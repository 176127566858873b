"""What guessing from the text is worth: decoding with draft="prompt" beside decoding without, in turns.

usage: python -m bench.drafts MODEL [--turns 5] [--tokens 200] [--threads N] [--only edit,…] [--json]

MODEL is an .edgeq file. Two kinds of tasks:

- recited, for a model of any weights: the passes are the model's, but what is said is a text that is given,
  so that its speed is measured on text as people ask for it. `edit`: a source file, then the same with a name
  changed. `summary`: a page of documentation, then every third of its sentences. `random`: random ids, in
  which nothing can be guessed. Ids are those of the text's words in the order of their first place.
- asked, for a chat model: `ask edit`, `ask extract` and `ask repeat` are questions about such texts, answered
  by the model as it answers, likeliest first.

A figure is the median of the ratios of pairs, whose two go on in turns. The bars are 1.6 for what repeats its
prompt and 0.97 for what does not. The texts of both runs are compared: they must be the same.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgeq
from edgeq.generate import Generation, stream
from edgeq.passes import Fed

ROOT = Path(__file__).resolve().parents[1]
PROMPT_CHARS = 2400
CONTEXT = 1536  # tokens that a prompt and what is measured behind it come to at the most
REPEATS, RANDOM = 1.6, 0.97


@dataclass(frozen=True)
class Task:
    """Something to decode, and what guessing must make of its speed."""

    name: str
    bar: float
    begin: Callable[[Any, object, int], Generation]  # of a model, a draft and how many tokens


# recited ------------------------------------------------------------------------------------------------


class Recital:
    """A model whose passes are another's, and which says a text that is given."""

    def __init__(self, model: Any, text: Sequence[int]) -> None:
        self._model, self.text = model, list(text)
        self.tokenizer = None
        self.context, self.vocab_size = model.context, model.vocab_size
        self.pass_costs = model.pass_costs
        self.file = type("NoFile", (), {"header": {}})()

    def sequence(self) -> Reciting:
        return Reciting(self._model.sequence(), self.text)


class Reciting:
    """A sequence of such a model: the likeliest token is the text's next."""

    def __init__(self, sequence: Any, text: list[int]) -> None:
        self._sequence, self._text = sequence, text
        self.truncate, self.close, self.feed = sequence.truncate, sequence.close, sequence.feed

    @property
    def ids(self) -> list[int]:
        ids: list[int] = self._sequence.ids
        return ids

    def step(self, ids: Sequence[int], *, wanted: int = 1, **options: Any) -> Fed:
        fed = self._sequence.step(ids, wanted=wanted, **options)
        end = len(self._sequence.ids)
        return Fed(fed.logits, np.array(self._text[end - wanted + 1 : end + 1]))


def words(text: str) -> list[str]:
    """A text in pieces about as long as tokens."""
    return re.findall(r" ?\w{1,6}|\s+|[^\w\s]", text)


def numbered(before: str, after: str) -> tuple[list[int], list[int]]:
    """The words of two texts as ids, in the order of their first place."""
    known: dict[str, int] = {}
    first, second = ([known.setdefault(word, 10 + len(known)) for word in words(t)] for t in (before, after))
    return first, second


def source() -> str:
    """A source file of this tree."""
    return (ROOT / "edgeq" / "generate" / "stops.py").read_text(encoding="utf-8")[:PROMPT_CHARS]


def edited(code: str) -> str:
    """The source file with a name changed."""
    return code.replace("StopStrings", "Endings").replace("held", "kept")


def page() -> str:
    """A page of this tree's documentation."""
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    return " ".join(line for line in text.splitlines() if line[:1].isalpha())[:PROMPT_CHARS]


def extract(text: str) -> str:
    """Every third sentence of a text."""
    return " ".join(re.split(r"(?<=[.:]) ", text)[::3])


def recited(name: str, bar: float, before: Sequence[int], after: Sequence[int]) -> Task:
    def begin(model: Any, draft: object, tokens: int) -> Generation:
        said = min(tokens, len(after) - 1)
        recital = Recital(model, [*before, *after])
        return stream(recital, list(before), draft=draft, max_tokens=said, temperature=0.0)

    return Task(name, bar, begin)


# asked --------------------------------------------------------------------------------------------------

QUESTIONS = {
    "ask edit": (source, "Write this Python file again with the class StopStrings renamed to Endings:\n\n{}"),
    "ask extract": (page, "Copy the most important sentences of this text, word for word:\n\n{}"),
    "ask repeat": (page, "Repeat the following text, word for word:\n\n{}"),
}


def asked(name: str) -> Task:
    text, question = QUESTIONS[name]

    def begin(model: Any, draft: object, tokens: int) -> Generation:
        messages = [{"role": "user", "content": question.format(text())}]
        answer = model.chat(messages, stream=True, draft=draft, max_tokens=tokens, temperature=0.0)
        generation: Generation = answer.generation
        return generation

    return Task(name, REPEATS, begin)


def tasks(model: Any) -> list[Task]:
    """Those that the model can do. SystemExit where its context is too short for them."""
    if model.context < CONTEXT:
        raise SystemExit(f"the context is {model.context}, but the texts need {CONTEXT}")
    rng = np.random.default_rng(0)
    noise = rng.integers(10, model.vocab_size, 1000).tolist()
    every = [
        recited("edit", REPEATS, *numbered(source(), edited(source()))),
        recited("summary", REPEATS, *numbered(page(), extract(page()))),
        recited("random", RANDOM, noise[:400], noise[400:]),
    ]
    return every + [asked(name) for name in QUESTIONS if model.chat_template is not None]


# measuring ----------------------------------------------------------------------------------------------


def measured(model: Any, task: Task, turns: int, tokens: int) -> dict[str, Any]:
    """A row of the table. RuntimeError where the text is another with guesses.

    The two of a pair go on in turns, piece by piece, so that what else the machine does slows both."""
    rates: dict[str, list[float]] = {"plain": [], "guessed": []}
    drafted, accepted = 0, 0
    for turn in range(turns + 1):
        plain, guessed = task.begin(model, None, tokens), task.begin(model, "prompt", tokens)
        pair = (plain, guessed) if turn % 2 else (guessed, plain)  # neither is always the first
        with plain, guessed:
            while not (plain.over and guessed.over):
                for each in pair:
                    next(each, None)
        if plain.ids != guessed.ids:
            raise RuntimeError(f"{task.name}: the text is another with guesses")
        if turn:  # the first pair warms up
            rates["plain"].append(plain.timings.generated_tokens_per_second)
            rates["guessed"].append(guessed.timings.generated_tokens_per_second)
            drafted += guessed.timings.draft_tokens
            accepted += guessed.timings.accepted_tokens
    return {
        "task": task.name,
        "tokens": len(guessed.ids),
        **{name: statistics.median(values) for name, values in rates.items()},
        "ratio": statistics.median(b / a for a, b in zip(*rates.values(), strict=True)),
        "drafted": drafted,
        "accepted": accepted,
        "bar": task.bar,
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = f"{'task':<12}{'tokens':>8}{'plain t/s':>11}{'guessed t/s':>13}{'ratio':>7}{'bar':>6}   guesses"
    lines = [
        f"{row['task']:<12}{row['tokens']:>8}{row['plain']:>11.1f}{row['guessed']:>13.1f}{row['ratio']:>7.2f}"
        f"{row['bar']:>6}   {row['accepted']} of {row['drafted']} true"
        f"{'' if row['ratio'] >= row['bar'] else '   BELOW THE BAR'}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.drafts", description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", help="names of tasks, with commas between")
    parser.add_argument("--json", action="store_true", help="the JSON line alone")
    given = parser.parse_args()
    with edgeq.load(given.model, threads=given.threads) as model:
        chosen = [each for each in tasks(model) if given.only is None or each.name in given.only.split(",")]
        rows = [measured(model, task, given.turns, given.tokens) for task in chosen]
        if not given.json:
            print(f"{Path(given.model).name}, {model.threads} threads, medians of {given.turns} pairs\n")
            print(table(rows))
        print(json.dumps({"model": Path(given.model).name, "threads": model.threads, "rows": rows}))
    return int(any(row["ratio"] < row["bar"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
