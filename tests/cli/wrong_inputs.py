"""What people get wrong: a row is what somebody does, the command line, its exit code, and words of the one
sentence that it is answered with: what is wrong, and what would be right.

Files and directories are those of `wrong_files`, in the current folder.
"""

# ruff: noqa: E501  (a case stands on few lines)

from __future__ import annotations

from typing import NamedTuple

USAGE, FAILED, MODEL = 2, 1, 3


class Wrong(NamedTuple):
    """A wrong input."""

    what: str
    line: str  # without "edgeq", words between blanks; '' is an empty word
    code: int
    words: tuple[str, ...]  # all of them in the sentence
    stdin: bytes = b""


def _is(what: str, line: str, code: int, *words: str, stdin: bytes = b"") -> Wrong:
    return Wrong(what, line, code, words, stdin)


def _model(what: str, file: str, *words: str, code: int = MODEL) -> Wrong:
    """A wrong model, which `edgeq run` is given."""
    return Wrong(what, f"run {file} -p x", code, (file, *words))


RIGHT = "name an .edgeq file, a .gguf file or a checkpoint's directory"

MODELS = (
    _model("no such file", "nowhere.edgeq", "there is no file", "name an .edgeq file", code=USAGE),
    _model("a name with two letters changed", "stroy.edgeq", "did you mean 'story.edgeq'?", code=USAGE),
    _model("an empty file", "empty.edgeq", "it is empty", RIGHT),
    _model("a file that begins like nothing known", "noise.edgeq", "it starts with c8 c9", RIGHT),
    _model("an image", "picture.edgeq", "a PNG image", RIGHT),
    _model("a ZIP archive", "model.zip", "a ZIP archive", "unpack it"),
    _model("a compressed file", "packed.gguf", "a compressed file", "unpack it"),
    _model("a checkpoint's weights alone", "model.safetensors", "a safetensors file",
           "name the directory that holds it"),
    _model("a checkpoint's config alone", "model.json", "a JSON text", RIGHT),
    _model("PyTorch's weights", "pytorch_model.bin", "a PyTorch pickle", "never loaded", "safetensors"),
    _model("a pickle", "model.pkl", "a Python pickle", "never loaded", "safetensors"),
    _model("an ONNX model", "model.onnx", "an ONNX model", "as GGUF"),
    _model("a model from before GGUF", "old.bin", "GGML from before GGUF", "get the model as GGUF"),
    _model("an error page", "page.gguf", "not a GGUF file but an HTML page", "download the file itself again"),
    _model("a pointer of Git LFS", "pointer.gguf", "a Git LFS pointer", "git lfs pull"),
    _model("a download that stopped", "zeros.gguf", "begins with zeros", "download the file itself again"),
    _model("a prompt in place of the model", "short.txt", "a text", RIGHT),
    _model("half a file", "cut.edgeq", "cut off", "copy it again"),
    _model("a few bytes of a file", "stub.edgeq", "cut off: 30 bytes", "copy it again"),
    _model("a damaged header", "spoilt.edgeq", "damaged", "copy it again"),
    _model("a file of a later edgeq", "newer.edgeq", "needs a newer edgeq", "upgrade edgeq"),
    _model("an .edgeq file of another family", "family.edgeq", "family 'mamba' is unknown", "llama, "),
    _model("an .edgeq file with another tensor's name", "names.edgeq", "tensor 'norm' is missing",
           "tensor 'nrom' is not one of"),
    _model("half a GGUF file", "cut.gguf", "past the end of the file", "cut off", "again"),
    _model("GGUF 1", "one.gguf", "GGUF version is 1", "2 and 3 can be read"),
    _model("GGUF 4", "four.gguf", "GGUF version is 4", "2 and 3 can be read"),
    _model("GGUF of a big-endian machine", "big.gguf", "big-endian", "get one that is"),
    _model("GGUF of another architecture", "mamba.gguf", "architecture 'mamba'", "edgeq runs ", "llama, "),
    _model("a vocabulary", "vocabulary.gguf", "a vocabulary without weights", "get the model's own file"),
    _model("a projector of images", "mmproj.gguf", "a projector", "name the model that it goes with"),
    _model("a LoRA adapter", "lora.gguf", "a LoRA adapter", "merge it into its model"),
    _model("an importance matrix", "imatrix.gguf", "an importance matrix", "name the model"),
    _model("GGUF with two things that are not honoured", "odd.gguf", "attention.scale is 0.5, but only 0",
           "logit_scale is 2.0"),
    _model("a pipe", "pipe.gguf", "not a regular file", "a file on a disk", code=USAGE),
    _model("a file of somebody else", "locked.edgeq", "Permission denied", "that you may read", code=USAGE),
)  # fmt: skip

DIRECTORIES = (
    _model("an empty directory", "nothing", "the directory has no config.json", "empty", "is needed"),
    _model("weights without config.json", "configless", "no config.json", "put the config.json"),
    _model("config.json without weights", "weightless", "no weights", "download all of the checkpoint"),
    _model("pickled weights", "pickled", "pickled", "never loaded", "model.safetensors"),
    _model("a directory of GGUF files", "gguf-only", "GGUF files", "name one of them",
           "gguf-only/model-Q4_0.gguf"),
    _model("GGUF beside config.json", "both", "GGUF files", "name one of them", "both/model-Q4_0.gguf"),
    _model("a directory of .edgeq files", "edgeq-only", "name one of them", "edgeq-only/model.edgeq"),
    _model("the directory above", "outer", "outer/inner", "name that"),
    _model("an adapter's directory", "adapter", "a LoRA adapter", "merge it into its model"),
    _model("a model of another kind, pickled", "mamba", "model_type is 'mamba'", "llama, mistral", "pickled"),
    _model("three words that are not honoured", "odd", "mlp_bias is True", "attention_bias is True", "'ntk'"),
    _model("GPTQ's weights", "gptq", "quantization_config", "gptq", "before it was quantized"),
    _model("half a config.json", "broken", "config.json", "JSON"),
    _model("an error page as config.json", "page", "config.json", "an HTML page", "again"),
    _model("a pointer as weights", "pointers", "model.safetensors", "a Git LFS pointer", "git lfs pull"),
    _model("two parts of three are not there", "sharded", "'model-00002-of-00003.safetensors'",
           "and 1 more of 3", "download all of the checkpoint"),
    _model("two tensors are not there", "lacking", "model.norm.weight", "up_proj", "is needed"),
    _model("a pointer as vocabulary", "tokenizerless", "tokenizer.model", "Git LFS pointer"),
)  # fmt: skip

RUN = (
    _is("an unknown command", "shwo story.edgeq", USAGE, "No such command 'shwo'", "did you mean 'show'?"),
    _is("an unknown command of a group", "eval pp story.edgeq", USAGE, "No such command 'pp'"),
    _is("an unknown option", "run story.edgeq --temprature 1", USAGE, "--temprature", "--temperature"),
    _is("no model", "run -p x", USAGE, "no model is given", "name an .edgeq file"),
    _is("an empty name", "run '' -p x", USAGE, "name is empty", "name an .edgeq file"),
    _is("a name that clears the screen", "run no\x1b[2J.edgeq -p x", USAGE, "there is no file", "name an .edgeq"),
    _is("a name without end", f"run {'a' * 300} -p x", USAGE, "File name too long", "name a file"),
    _is("two models", "run story.edgeq -m small.edgeq -p x", USAGE, "two models are given", "give one"),
    _is("two prompts", "run story.edgeq -p x -f short.txt", USAGE, "a text and -f", "give one of them"),
    _is("an empty prompt", "run tiny.edgeq -p ''", USAGE, "tokenizer"),
    _is("a prompt that is no UTF-8", "run story.edgeq -f latin.txt", USAGE, "latin.txt is not UTF-8", "byte 3"),
    _is("stdin that is no UTF-8", "run story.edgeq", USAGE, "stdin is not UTF-8", "byte 0", stdin=b"\xff"),
    _is("no such prompt file", "run story.edgeq -f nowhere.txt", USAGE, "there is no file nowhere.txt", "name"),
    _is("a directory as prompt", "run story.edgeq -f nothing", USAGE, "nothing is a directory", "text file"),
    _is("a prompt longer than the context", "run story.edgeq -f long.txt -c 64", USAGE, "tokens",
        "the context holds 64: a shorter prompt"),
    _is("more context than the model has", "run story.edgeq -p x -c 99999", USAGE, "context is 99999",
        "at most 512"),
    _is("less than no context", "run story.edgeq -p x -c -1", USAGE, "-1 is not in the range", "x>=0"),
    _is("no threads", "run story.edgeq -p x -t 0", USAGE, "0 is not in the range", "1<=x<=4096"),
    _is("a word for a number", "run story.edgeq -p x -t many", USAGE, "'many'", "integer"),
    _is("a cache that there is not", "run story.edgeq -p x --kv q1", USAGE, "--kv", "'q1'", "q8 (or q8_0), k8v4"),
    _is("a temperature below zero", "run story.edgeq -p x --temp -1", USAGE, "temperature is -1.0", "at most"),
    _is("a probability above one", "run story.edgeq -p x --top-p 2", USAGE, "top_p is 2.0", "at most 1"),
    _is("a seed that is no number", "run story.edgeq -p x --seed lucky", USAGE, "'lucky'", "integer"),
    _is("an empty stop string", "run story.edgeq -p x --stop ''", USAGE, "stop string", "at least one"),
    _is("a model without a tokenizer", "run tiny.edgeq -p x", USAGE, "holds no tokenizer", "convert the model anew"),
    _is("a chat with a model without a tokenizer", "chat tiny.edgeq", USAGE, "holds no tokenizer", "convert it anew"),
    _is("a system prompt that is no UTF-8", r"chat story.edgeq -sys \xff", USAGE, "the system prompt",
        "not UTF-8"),
    _is("a chat with a directory of nothing", "chat nothing", MODEL, "no config.json", "empty"),
)  # fmt: skip

CONVERT = (
    _is("a file that is there", "convert checkpoint -o there.edgeq", USAGE, "there.edgeq exists", "--force"),
    _is("a directory as output", "convert checkpoint -o nothing", USAGE, "nothing is a directory", "-o"),
    _is("an output in no folder", "convert checkpoint -o no/x.edgeq", USAGE, "'no/x.edgeq'",
        "an existing directory is needed"),
    _is("an output where one may not write", "convert checkpoint -o locked/x.edgeq", FAILED,
        "locked/x.edgeq cannot be written", "Permission denied"),
    _is("the source as output", "convert tiny.gguf -o tiny.gguf --force", USAGE, "is the source itself",
        "another name"),
    _is("no source", "convert", USAGE, "SOURCE"),
    _is("a source that is not there", "convert nowhere.gguf -o x.edgeq", USAGE, "no file or directory nowhere.gguf",
        "OWNER/NAME"),
    _is("a converted source", "convert story.edgeq -o x.edgeq", MODEL, "an .edgeq file", "can be run as it is"),
    _is("one file of a checkpoint", "convert model.safetensors -o x.edgeq", USAGE, "one file of a checkpoint",
        "the directory that holds it"),
    _is("PyTorch's weights", "convert pytorch_model.bin -o x.edgeq", MODEL, "a PyTorch pickle", "safetensors"),
    _is("an unknown scheme", "convert checkpoint -o x.edgeq --scheme q44", USAGE, "scheme 'q44' is unknown",
        "did you mean 'q4'?"),
    _is("a scheme of llama.cpp", "convert checkpoint -o x.edgeq --scheme Q4_K_M", USAGE, "'Q4_K_M' is unknown",
        "for llama.cpp's Q4_K there is 'e4'"),
    _is("an unknown recipe", "convert checkpoint -o x.edgeq --recipe q4-mixd", USAGE, "'q4-mixd'",
        "did you mean 'q4-mixed'?"),
    _is("a recipe and a scheme", "convert checkpoint -o x.edgeq --recipe iot --scheme q4", USAGE,
        "give either a recipe or schemes"),
    _is("a recipe that is no TOML", "convert checkpoint -o x.edgeq --recipe bad.toml", USAGE, "'bad.toml'",
        "not TOML", "line 1"),
    _is("a recipe with an unknown scheme", "convert checkpoint -o x.edgeq --recipe rules.toml", USAGE,
        "rule 1", "'q44' is unknown"),
    _is("links into no directory", "convert checkpoint -o x.edgeq --follow-links no", USAGE, "'no'",
        "does not exist"),
)  # fmt: skip

QUANTIZE = (
    _is("a quantized source", "quantize eight.gguf -o x.edgeq", USAGE, "quantized", "--allow-requantize"),
    _is("two targets", "quantize checkpoint -o x.edgeq --target-bpw 4 --target-size 1M", USAGE,
        "say the same twice", "give one of them"),
    _is("a target and a scheme", "quantize checkpoint -o x.edgeq --target-bpw 4 --scheme e4", USAGE,
        "a target chooses every scheme", "give either"),
    _is("too few bits", "quantize checkpoint -o x.edgeq --target-bpw 1", USAGE, "not in the range", "2.0<=x"),
    _is("a size that is none", "quantize checkpoint -o x.edgeq --target-size big", USAGE, "'big' is no size",
        "700M"),
    _is("a size that cannot be", "quantize checkpoint -o x.edgeq --target-size 1K", USAGE, "bytes"),
    _is("an unknown quality", "quantize checkpoint -o x.edgeq --quality bets", USAGE, "'bets'", "'best'"),
    _is("an unknown preset", "quantize checkpoint -o x.edgeq --preset q4_0x", USAGE, "preset 'q4_0x' is unknown",
        "known are"),
    _is("a preset and a scheme", "quantize checkpoint -o x.edgeq --preset q4_0 --scheme q4", USAGE,
        "a preset names scheme", "give either"),
    _is("an unknown step", "quantize checkpoint -o x.edgeq --method serch", USAGE, "'serch'", "did you mean 'search'?"),
    _is("an unknown transform", "quantize checkpoint -o x.edgeq --transform rotat", USAGE, "'rotat'", "did you mean 'rotate'?"),
    _is("too few tokens", "quantize checkpoint -o x.edgeq --tokens 5", USAGE, "5 is not in the range",
        "x>=1536"),
    _is("statistics that are a model", "quantize checkpoint -o x.edgeq --stats story.edgeq", MODEL,
        "story.edgeq is no file of edgeq statistics", "but an .edgeq file"),
    _is("a text that is not there", "quantize checkpoint -o x.edgeq -f nowhere.txt", USAGE, "nowhere.txt",
        "cannot be read", "name a text file"),
    _is("a directory of nothing", "quantize nothing -o x.edgeq", MODEL, "no config.json", "empty"),
    _is("figures into no folder", "sensitivity checkpoint -o no/x.json", USAGE, "no/x.json", "its folder is not there", "name one that is"),
    _is("statistics of no model", "calibrate -o x.stats", USAGE, "no model is given", "name a checkpoint's"),
    _is("statistics into no file", "calibrate checkpoint", USAGE, "--output"),
    _is("a model and files to merge", "calibrate checkpoint -o x.stats --merge a.stats", USAGE,
        "give either these or a model"),
    _is("a text under another name", "calibration build short.txt -o x.txt", USAGE, "x.txt", ".jsonl"),
    _is("no text at all", "calibration build --no-default -o x.jsonl", USAGE, "leaves no text", "name files"),
    _is("a line without text", "calibration show texts.jsonl", MODEL, "texts.jsonl", "'text' or 'messages'"),
    _is("an empty text", "calibration show empty.txt", MODEL, "empty.txt holds no text", "needed"),
    _is("tokens of a model without any", "calibration show short.txt --tokenizer tiny.edgeq", USAGE,
        "tiny.edgeq has no tokenizer", "name a model that has one"),
)  # fmt: skip

MEASURE = (
    _is("vectors of a model that generates", "embed story.edgeq text", USAGE, "does not say", "last, mean, cls"),
    _is("no text for a vector", "embed story.edgeq", USAGE, "no text is given", "-f"),
    _is("documents for a model that does not rank", "rerank story.edgeq q d", USAGE, "not made to rank"),
    _is("a query and nothing to rank", "rerank story.edgeq q", USAGE, "no document is given", "-f"),
    _is("a server that anybody may ask", "serve story.edgeq --host 0.0.0.0", USAGE, "--api-key-file", "--insecure"),
    _is("requests that are nowhere", "batch story.edgeq nowhere.jsonl -o out.jsonl", USAGE, "nowhere.jsonl", "cannot be read"),
    _is("a server's page that is none", "serve story.edgeq --cors-origin here", USAGE, "here is no origin", "http://"),
    _is("a list with a hole", "bench story.edgeq -t 1,,2", USAGE, "no list of whole numbers", "1,2"),
    _is("a prompt beyond the model", "bench story.edgeq -p 100000", USAGE, "context is 100000", "at most 512"),
    _is("no text", "eval ppl story.edgeq", USAGE, "--file"),
    _is("a text that is not there", "eval ppl story.edgeq -f no.txt", USAGE, "there is no file no.txt", "name"),
    _is("a text that is too short", "eval ppl story.edgeq -f short.txt", USAGE, "the text has", "needs 512", "give a longer text"),
    _is("a window that is too small", "eval ppl story.edgeq -f long.txt -c 2", USAGE, "the window is 2 tokens",
        "must be at least 8"),
    _is("a gate that says nothing", "eval ppl story.edgeq -f long.txt --gate good", USAGE, "a gate is a figure",
        "'good'"),
    _is("a gate of another figure", "eval ppl story.edgeq -f long.txt --gate kld<1", USAGE,
        "no figure is called 'kld'", "knows ppl"),
    _is("a protocol that there is not", "eval ppl story.edgeq -f long.txt --protocol awq", USAGE, "'awq'",
        "'gptq'"),
    _is("a reference of another vocabulary", "eval kld story.edgeq --reference tiny.edgeq -f long.txt", USAGE,
        "512 tokens and the reference 50", "only models of one vocabulary"),
    _is("a kept reference that is there", "eval kld story.edgeq --reference small.edgeq -f long.txt "
        "--save-reference there.edgeq", USAGE, "there.edgeq exists", "--force"),
    _is("half a JSON line", "eval choice story.edgeq -f items.jsonl", MODEL, "items.jsonl, line 2", "is not JSON"),
    _is("an answer that is no choice", "eval choice story.edgeq -f range.jsonl", MODEL, "line 1",
        "the answer 5 of 2"),
    _is("no items", "eval choice story.edgeq -f empty.txt", MODEL, "empty.txt has no items", "JSON object on each line"),
    _is("two models of two shapes", "compare story.edgeq tiny.edgeq", USAGE, "not of one model"),
    _is("no second model", "compare story.edgeq", USAGE, "REFERENCE"),
)  # fmt: skip

REST = (
    _is("a template that there is not", "show story.edgeq --template", USAGE, "has no chat template", "in plain lines"),
    _is("a directory of nothing", "show nothing", MODEL, "no config.json", "empty"),
    _is("a PNG image", "show picture.edgeq", MODEL, "a PNG image", RIGHT),
    _is("a GGUF file", "verify tiny.gguf", USAGE, "no .edgeq file", "`edgeq convert` makes"),
    _is("a file that is not there", "verify nowhere.edgeq", USAGE, "there is no file"),
    _is("an unknown tier", "kernels build --tier avx3", USAGE, "--tier", "avx3", "avx2"),
    _is("two ways to name a tier", "kernels build --tier avx2 --all", USAGE, "exclude each other", "give one"),
    _is("a pack into no folder", "kernels build -o no/folder/x", USAGE, "there is no directory", "name one"),
    _is("measuring and forgetting", "doctor --tune --forget", USAGE, "exclude each other", "give one"),
    _is("force of nothing", "doctor --force", USAGE, "--force goes with --tune"),
    _is("something for the doctor", "doctor story.edgeq", USAGE, "unexpected", "story.edgeq"),
    _is("nothing to remove", "rm", USAGE, "name the models", "`edgeq list`", "--all"),
    _is("a model that is not kept", "rm nowhere", USAGE, "nowhere", "`edgeq list`"),
    _is("all, and some by name", "rm nowhere --all", USAGE, "--all"),
    _is("something for what is kept", "list story.edgeq", USAGE, "unexpected", "story.edgeq"),
    _is("what is no name", "pull nowhere", USAGE, "'nowhere' is no name on the hub", "OWNER/NAME"),
    _is("a file to be fetched", "pull story.edgeq", USAGE, "is a file or directory here", "OWNER/NAME"),
    _is("two forms of a name in one", "pull o/n:Q4_K_M/x.gguf", USAGE, "OWNER/NAME"),
    _is("the hub, offline", "pull o/n --no-convert", 5, "HF_HUB_OFFLINE"),
    _is("no tokens", "demo -n 0", USAGE, "0 is not in the range", "x>=1"),
    _is("something for a list", "schemes q4", USAGE, "unexpected", "q4"),
)  # fmt: skip

WRONG = (*MODELS, *DIRECTORIES, *RUN, *CONVERT, *QUANTIZE, *MEASURE, *REST)
