"""What goes wrong in the first half hour: one sentence each, and the exit code that README says."""

# ruff: noqa: E501  (a step stands on few lines)

from __future__ import annotations

from collections.abc import Mapping

from tests.stranger.first import RUN
from tests.stranger.pages import PAGES
from tests.stranger.script import NOTHING, Step

README, USAGE, PYTHON, OPTIONS, PI = PAGES
VERIFY = "edgeq verify"


def _wrong(want: str, sentence: str, but: Mapping[str, str], code: int = 2) -> Step:
    """README's `edgeq run`, written otherwise: one line on stderr, nothing on stdout."""
    return Step(want, README, RUN, (NOTHING,), (rf"\Aedgeq: error: .*{sentence}.*\n\Z",), code, but)


STEPS = (
    _wrong("a name mistyped", r"there is no file or directory qwen.edgeq: .*; did you mean 'qwen3\.edgeq'\?",
           {"qwen3": "qwen"}),
    _wrong("a model that is nowhere", r"there is no file or directory nothing/there\.edgeq: name an \.edgeq file, ",
           {"qwen3": "nothing/there"}),
    _wrong("a picture", r"picture\.png: .*a PNG image.*name an \.edgeq file", {"qwen3.edgeq": "picture.png"}, 3),
    _wrong("half a file", r"cut\.edgeq: file has 1000 bytes, but its prelude says \d+: cut off .*copy it again",
           {"edgeq run qwen3": "head -c 1000 qwen3.edgeq >cut.edgeq; edgeq run cut"}, 3),
    Step("a server that anybody may ask", README, "edgeq serve qwen3.edgeq", (NOTHING,),
         (r"\Aedgeq: error: --host 0\.0\.0\.0 lets other machines ask: .*\n\Z",), 2, also="--host 0.0.0.0 --port 0"),
    Step("requests that are nowhere", README, "edgeq batch", (NOTHING,),
         (r"\Aedgeq: error: nowhere\.jsonl cannot be read: .*\n\Z",), 2, also="qwen3.edgeq nowhere.jsonl -o answers.jsonl"),
    Step("what is wrong with it", USAGE, VERIFY, (r"\Acut\.edgeq: file has 1000 bytes, .*\n\Z",), (NOTHING,), 3,
         also="cut.edgeq", told_on_stdout=True),
    _wrong("an option mistyped", r"No such option '--temprature'\. .*'--temperature'", {"-n 32": "--temprature 0"}),
    _wrong("a value that is none", r"'-n'.*'many'", {"-n 32": "-n many"}),
    _wrong("a command mistyped", r"No such command 'rnu'; did you mean 'run'\?", {"edgeq run": "edgeq rnu"}),
    _wrong("more context than the model has", r"context is 9999, but .*at most 512", {"-n 32": "-c 9999"}),
    _wrong("a prompt longer than the context", r"tokens, .*the context holds 8", {"-n 32": "-c 8"}),
    _wrong("two prompts", r"give one of them", {"-n 32": "-f story.txt"}),
    _wrong("no such prompt", r"there is no file stroy\.txt", {'"The capital of France is"': "-f stroy.txt"}),
    _wrong("no prompt at all", r"no prompt is given: use -p TEXT or -f FILE, or pipe text into stdin", {'"The capital of France is"': ""}),
    _wrong("a model of the hub, offline", r"'Qwen/Qwen3-8B' is no local file .*HF_HUB_OFFLINE .*unset it",
           {"edgeq run qwen3.edgeq": "HF_HUB_OFFLINE=1 edgeq run Qwen/Qwen3-8B"}, 5),
    Step("a model of the hub, fetched, offline", USAGE, "edgeq pull Qwen/Qwen3-0.6B@main --no-convert --json", (NOTHING,),
         (r"\Aedgeq: error: 'Qwen/Qwen3-8B' .*HF_HUB_OFFLINE .*\n\Z",), 5,
         {"edgeq": "HF_HUB_OFFLINE=1 edgeq", "Qwen3-0.6B": "Qwen3-8B"}),
    Step("a model of the hub that is a folder here", USAGE, "edgeq pull Qwen/Qwen3-0.6B@main --no-convert --json", (NOTHING,),
         (r"\Aedgeq: error: 'Qwen/Qwen3-0\.6B' is a file or directory here: pull takes OWNER/NAME",), 2, {"@main": ""}),
    Step("an option of llama.cpp that would change the answer", USAGE, "edgeq chat qwen3.edgeq -f letter.txt --no-think", (NOTHING,),
         (r"\Aedgeq: error: --lora is no option of `edgeq chat`: merge the adapter into the checkpoint",), 2,
         also="--lora list.gguf"),
    Step("an empty message", USAGE, "edgeq chat qwen3.edgeq -f letter.txt --no-think", (NOTHING,),
         (r"^edgeq: error: the first message is empty$",), 2, {"-f letter.txt": '-p ""'}),
    Step("a file that is quantized already", USAGE, "edgeq quantize model-dir -o small.edgeq --scheme e3 --dry-run", (NOTHING,),
         (r"\Aedgeq: error: model-Q8_0\.gguf is quantized already .*`edgeq convert --scheme keep` loses nothing",), 2,
         {"model-dir": "model-Q8_0.gguf", "small": "again"}),
    Step("a converted model that is not there", USAGE, "edgeq rm Qwen3-0.6B-q4", (NOTHING,),
         (r"\Aedgeq: error: no converted model is called .*`edgeq list` shows the names\n\Z",), 2),
    Step("that it still works", README, RUN, (r"\A.{10,}",), (r"generated 32 tokens",)),
)  # fmt: skip
