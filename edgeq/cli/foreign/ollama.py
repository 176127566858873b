"""ollama's commands, the options of those that edgeq has too, and the parameters of its Modelfile."""

from __future__ import annotations

from edgeq.cli.foreign.rows import Row, Table, ignored, other, refused, same

FILE = "the model file has it: `edgeq show FILE --json`"

RUN = Table(
    "ollama run",
    ("run",),
    (
        other("--format", "json", None, "the answer is an object of JSON", values={"json": "--json-object"}),
        ignored("--keepalive", "5m", "a process ends with its answer; the system keeps the file's pages"),
        ignored("--nowordwrap", "", "text is not wrapped where it goes to no chat"),
        refused("--think", "[true|false|high|medium|low]", "`edgeq chat` uses the model's template"),
        refused("--hidethinking", "", "`edgeq chat` uses the model's template"),
        refused("--insecure", "", "models come over HTTPS"),
    ),
)  # fmt: skip

SHOW = Table(
    "ollama show",
    ("show",),
    (
        refused("--modelfile", "", FILE),
        refused("--parameters", "", FILE),
        same("--template"),
        refused("--system", "", FILE),
        refused("--license", "", FILE),
        other("-v --verbose", "", "--tensors"),
    ),
)

CREATE = Table(
    "ollama create",
    ("convert",),
    (
        refused("-f --file", "Modelfile", "name the checkpoint or .gguf file that its FROM names"),
        refused("--quantize", "q4_K_M", "--scheme NAME chooses the numbers; `edgeq schemes` lists them"),
    ),
)

# a command that is not edgeq's: the same here, under another name, or what to do instead
COMMANDS: tuple[Row, ...] = (
    same("run", words="the prompt is continued as it is; `edgeq chat` uses the template"),
    same("show"),
    same("list"),
    same("rm"),
    other("ls", "", "list"),
    other("help", "", "--help"),
    other("create", "", "convert", "SOURCE is a checkpoint or a .gguf file, no Modelfile"),
    same("serve", words="it serves the model that is named"),
    same("pull", words="the name is one of the Hugging Face hub: OWNER/NAME, OWNER/NAME:Q4_K_M"),
    refused("push", "", "edgeq sends no model anywhere"),
    refused("cp", "", "a model is a file: `cp` copies it"),
    refused("ps", "", "nothing runs in the background"),
    refused("stop", "", "nothing runs in the background"),
    refused("signin", "", "edgeq has no accounts"),
    refused("signout", "", "edgeq has no accounts"),
    refused("launch", "", "edgeq starts no other program"),
)

# a Modelfile's PARAMETER, or a request's option: an option of `edgeq run`, or why there is none
PARAMETERS: tuple[tuple[str, str, str], ...] = (
    ("num_ctx", "--ctx-size", ""),
    ("num_predict", "--predict", ""),
    ("num_thread", "--threads", ""),
    ("temperature", "--temp", ""),
    ("top_k", "--top-k", ""),
    ("top_p", "--top-p", ""),
    ("min_p", "--min-p", ""),
    ("repeat_penalty", "--repeat-penalty", ""),
    ("repeat_last_n", "--repeat-last-n", ""),
    ("presence_penalty", "--presence-penalty", ""),
    ("frequency_penalty", "--frequency-penalty", ""),
    ("seed", "--seed", ""),
    ("stop", "--stop", ""),
    ("typical_p", "--typical", ""),
    ("mirostat", "--mirostat", ""),
    ("mirostat_tau", "--mirostat-ent", ""),
    ("mirostat_eta", "--mirostat-lr", ""),
    ("num_gpu", "", "edgeq runs on the CPU"),
    ("num_batch", "", "edgeq cuts a prompt into pieces by itself"),
    ("num_keep", "", "no tokens are shifted out of a full context"),
)
