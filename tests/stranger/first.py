"""The first ten minutes: is it installed, what does it know, a model of one's own, a prompt."""

# ruff: noqa: E501  (a step stands on few lines)

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from edgeq import __version__, cli
from tests.stranger.pages import PAGES
from tests.stranger.script import NOTHING, Ended, Interrupted, Step

README, USAGE, PYTHON, OPTIONS, PI = PAGES
STORY = "there was a little girl named Lily"
RUN = 'edgeq run qwen3.edgeq "The capital of France is" -n 32'
KEPT = "edgeq run qwen3.edgeq -f report.txt -n 32 --prompt-cache kept"
GREEDY = 'echo "Once upon a time" | edgeq run qwen3.edgeq --temp 0 --json'
TIMINGS = (
    r"^load [\d.]+ s \| prompt \d+ tokens, [\d.]+/s \| generated \d+ tokens, [\d.]+/s \| total [\d.]+ s$"
)


def every_command(ended: Ended, home: Path) -> Iterator[str]:
    """Help has a line for each command of README's table."""
    yield from (f"{name} is not told of" for name in cli.COMMANDS if f"\n  {name} " not in ended.out)


def an_answer(ended: Ended, home: Path) -> Iterator[str]:
    """One JSON object; it is kept for who asks again."""
    answer = json.loads(ended.out)
    if not (answer["text"].startswith(f", {STORY}") and answer["finish_reason"] in ("eos", "length")):
        yield f"the answer is {answer['text'][:80]!r}, ended as {answer['finish_reason']!r}"
    if len(answer["ids"]) != answer["timings"]["generated_tokens"] - (answer["finish_reason"] == "eos"):
        yield "ids and timings tell of different numbers of tokens"
    (home / "answer.json").write_text(json.dumps([answer["text"], answer["ids"]]))


def the_same_answer(ended: Ended, home: Path) -> Iterator[str]:
    answer = json.loads(ended.out)
    if [answer["text"], answer["ids"]] != json.loads((home / "answer.json").read_text()):
        yield "it is another answer than the first time"


def of_tokens(count: int, prompt: int) -> str:
    """The line on stderr behind an answer of so many tokens."""
    return rf"prompt {prompt} tokens, .*generated {count} tokens"


INSTALLED = (
    # What stands before it in the same line, .ci/run runs in a clean copy, and tests/test_packaging.py builds and looks into.
    Step("see that it works", README, ".venv/bin/edgeq demo", (rf"\AOnce upon a time, {STORY}\.", r"\.\n\Z"),
         (r"^converted stories260K to q8: 3\d\d kB", r"generated \d+ tokens")),
    Step("which version it is", USAGE, "edgeq --version", (rf"\Aedgeq {__version__}\n\Z",), (NOTHING,)),
    Step("what it can do", USAGE, "edgeq --help", (r"\AUsage: edgeq ",), (NOTHING,), check=every_command),
    Step("what a command can do", USAGE, "edgeq COMMAND --help", (r"\AUsage: edgeq run ", r"--temp", r"-p, --prompt"),
         (NOTHING,), but={"COMMAND": "run"}),
    Step("what the board is", PI, "edgeq doctor", (r"^kernels .* well$", r"^processor .* well$", r"^disk .*: "),
         (NOTHING,)),
    Step("which kernels there are", USAGE, "edgeq kernels list", (r"\AThis machine's tier is \w", r" used$")),
    Step("Tab to complete commands", README, 'eval "$(_EDGEQ_COMPLETE=bash_source edgeq)"',
         (r"^complete .*edgeq$", r"^plain,chat$"), (NOTHING,),
         also="; complete -p edgeq; COMP_WORDS='edgeq ch' COMP_CWORD=1 _EDGEQ_COMPLETE=bash_complete edgeq"),
)  # fmt: skip

CONVERTED = (
    Step("a model of one's own", README, "edgeq convert Qwen/Qwen3-0.6B -o qwen3.edgeq", (NOTHING,),
         (r"\Aqwen3\.edgeq: 186 kB, q4, [\d.]+ s\n\Z",)),
    Step("the same again", USAGE, "edgeq convert Qwen/Qwen3-0.6B -o qwen3.edgeq", (NOTHING,),
         (r"\Aedgeq: error: qwen3\.edgeq exists: name another file with -o, or replace it with --force\n\Z",), 2),
    Step("the same again, and meant", USAGE, "edgeq convert Qwen/Qwen3-0.6B -o qwen3.edgeq", (NOTHING,),
         (r"\Aqwen3\.edgeq: 186 kB, q4",), also="--force"),
    Step("a GGUF file as it is", README, "edgeq convert model-Q4_K_M.gguf -o model.edgeq", (NOTHING,),
         (r"\Amodel\.edgeq: 2\d\d kB, keep \(the file's own numbers, as it is quantized; --scheme NAME rounds them\)",)),
    Step("a GGUF file as it is, said aloud", README, "edgeq convert model-Q4_K_M.gguf -o model.edgeq", (NOTHING,),
         (r"\Aasked\.edgeq: 2\d\d kB, keep, ",), but={"model.edgeq": "asked.edgeq"}, also="--scheme keep"),
    Step("a scheme for each tensor", README, "edgeq convert model-dir -o mixed.edgeq --recipe q4-mixed", (NOTHING,),
         (r"\Aby-rules\.edgeq: 192 kB, q4-mixed",), but={"mixed.edgeq": "by-rules.edgeq"}),
    Step("what the file holds", PI, "edgeq show MODEL", (r"^family +llama$", r"^context +512 tokens$",
         r"^cache +q8, 1\.44 kB a token: .*; in k8v4 ", r"^template +\d+ characters", r"^q4 +35 "), (NOTHING,), but={"MODEL": "qwen3.edgeq"}),
    Step("whether it is whole", USAGE, "edgeq verify", (r"\Aqwen3\.edgeq: sound\n\Z",), (NOTHING,), also="qwen3.edgeq"),
)  # fmt: skip

ANSWERED = (
    Step("a prompt", README, RUN, (r"\A.{10,}",), (TIMINGS, of_tokens(32, 16))),
    Step("a prompt with -p", USAGE, RUN, (r"\A.{10,}",), (TIMINGS, of_tokens(32, 16)),
         but={'"The capital': '-p "The capital'}),
    Step("a prompt through a pipe, as JSON", README, GREEDY, check=an_answer),
    Step("the same bytes again", README, GREEDY, check=the_same_answer),
    Step("a file's text beside a question", USAGE, 'cat notes.txt | edgeq run qwen3.edgeq -p "Summarize:"',
         (r'"prompt_ids": \[1, (\d+, ){10,}', r'"generated_tokens": 4\b'), also="-n 4 --json"),
    Step("a prompt from a file", USAGE, "edgeq run qwen3.edgeq -f story.txt --temp 0", (r"\A named Lily\.",), (TIMINGS,)),
    Step("a few tokens, and nothing else", USAGE, "edgeq run qwen3.edgeq -f story.txt --temp 0",
         (r"\A named Lily\. She loved to play \n\Z",), (NOTHING,), also="-n 9 -q"),
    Step("to end before a word", USAGE, "edgeq run qwen3.edgeq -f story.txt --temp 0", (r"\A named Lily\. She \n\Z",),
         (NOTHING,), also="--stop loved -q"),
    Step("several tokens a pass", README, "edgeq run qwen3.edgeq -f story.txt --draft prompt",
         (r"\A named Lily\. She loved to play \n\Z",), (NOTHING,), also="-n 9 --temp 0 -q"),
    Step("guesses of another model", USAGE, r"printf 'Hello\n/stats\n' | edgeq chat qwen3.edgeq -q",
         (rf"\A, {STORY}", r"2 messages$"), also="--temp 0 --draft model.edgeq"),
    Step("another order of samplers", USAGE,
         "edgeq run qwen3.edgeq -f story.txt --samplers 'min_p;temperature' --min-p 0.1 --temp 1.5 --seed 1", (r"\A.+",), (TIMINGS,), also="-n 16"),
    Step("an answer in a form", USAGE, 'edgeq run qwen3.edgeq -f letter.txt --regex "(yes|no|unclear)"',
         (r"\A(yes|no|unclear)\n\Z",), (TIMINGS,)),
    Step("a smaller cache", README, "edgeq run qwen3.edgeq -f story.txt --kv q4", (r"\A named Lily\.",), (TIMINGS,), also="--temp 0"),
    Step("a long text", USAGE, KEPT, (r"\A.+",), (r"prompt 437 tokens, ",)),
    Step("the same text again, in another process", USAGE, KEPT, (r"\A.+",), (r"prompt 1 tokens, ",)),
    Step("a line that was written for llama.cpp", USAGE, RUN, (r"\A.{10,}",),
         (r"\Aedgeq: warning: -ngl is ignored: edgeq runs on the CPU$", of_tokens(32, 16)),
         also="-ngl 99 -c 512 -t 2 --temp 0"),
    Step("a GGUF file without converting it first", USAGE, 'EDGEQ_CACHE_LIMIT=20G edgeq run model.gguf "Hi"', (r"\A.+",),
         (r"\Aconverting model\.gguf to keep, once, into \S+/home/cache/edgeq/models/",), also="-n 4"),
    Step("the hub's name without converting it first", USAGE,
         'edgeq run Qwen/Qwen3-0.6B -p "The capital of France is" -n 16', (r"\A.+",), (r"^converting \S+ to q4, once",)),
    Step("what was converted", USAGE, "edgeq list", (r"^model-keep +model\.gguf +keep ", r"^Qwen3-0\.6B-q4 "),
         (r"\A2 converted models in .* of 20 GB at the most\n\Z",), but={"edgeq": "EDGEQ_CACHE_LIMIT=20G edgeq"}),
    Step("one of them away", USAGE, "edgeq rm Qwen3-0.6B-q4", (NOTHING,), (r"\Aremoved Qwen3-0\.6B-q4, 186 kB$", r"^186 kB are free again$")),
    Step("all of them away", USAGE, "edgeq rm --all", (NOTHING,), (r"\Aremoved model-keep, ",)),
    Step("a model as docs/raspberry-pi.md has it", PI,
         "edgeq convert HuggingFaceTB/SmolLM2-135M-Instruct -o smollm2.edgeq", (NOTHING,), (r"\Asmollm2\.edgeq: 186 kB",)),
    Step("its size and cache", PI, "edgeq show smollm2.edgeq", (r"^context +1,?048,?576 tokens",), (NOTHING,)),
    Interrupted("to stop an answer with Ctrl-C", README, RUN, (r"\A.",), (NOTHING,), 130,
                but={"qwen3": "smollm2", "-n 32": "-c 200000 --ignore-eos -q"}),
    Step("the beginning of an answer", README, RUN, (r"\A.{5}\Z",), (NOTHING,), 141,
         but={"qwen3": "smollm2", "-n 32": "-c 200000 --ignore-eos -q | head -c 5"}),
)  # fmt: skip

STEPS = INSTALLED + CONVERTED + ANSWERED
