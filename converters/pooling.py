"""What a source says of vectors and scores, as the header's `pooling`: the files that sentence-transformers
reads beside a checkpoint, or keys of a GGUF file.

What is not honoured (another pooling, a layer behind it) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.converters import jsonfile
from edgeq.converters.jsonfile import Folder
from edgeq.converters.source import Array, SourceTensor
from edgeq.embed.pooling import TOKENS_MAX, Pooling
from edgeq.errors import FormatError, UnsupportedError

MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
# How sentence-transformers calls the ways, in a word or with a flag for each.
MODES = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
FLAGS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}  # fmt: skip
TYPES = {1: "mean", 2: "cls", 3: "last", 4: "rank"}  # pooling_type of a GGUF file; 0 is none
OUTPUT = "cls.output.weight"  # of a GGUF file that ranks

# Qwen3-Reranker's own words, which no file of its checkpoint holds: the answer is the next token.
RANKER = re.compile(r"qwen3-reranker", re.IGNORECASE)  # in its name, or in the first words of its README
HEADING = re.compile(rf"^# .*{RANKER.pattern}", re.IGNORECASE | re.MULTILINE)
NOTE_BYTES = 1 << 14  # of a README, from its start
ANSWERS = ("yes", "no")
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


@dataclass(frozen=True)
class Found:
    """The words, and of a model that ranks what its last row is multiplied with: float32 [labels, hidden]."""

    pooling: Pooling
    classifier: Callable[[], Array] | None = None


# ---- a directory ----
def gives_vectors(folder: Folder) -> bool:
    """Whether a checkpoint's directory is of a model that was made to give vectors."""
    return any(kind == "Pooling" for kind, _ in _modules(folder))


def from_directory(
    folder: Folder, family: str, name: str, tensors: Mapping[str, SourceTensor]
) -> Found | None:
    """What a checkpoint's directory says; None for one that only generates. `name` is the checkpoint's,
    `tensors` are its own by their names in the .edgeq file.
    """
    modules = _modules(folder)
    names = [kind for kind, _ in modules]
    heading = jsonfile.start(folder, "README.md", NOTE_BYTES).decode("utf-8", "replace")
    ranks = family == "qwen3" and bool(RANKER.search(name) or HEADING.search(heading))
    if "LogitScore" in names or (ranks and not names):
        return _ranker(folder, ranks, dict(modules).get("LogitScore"), tensors)
    if "Pooling" not in names:
        return None
    unknown = [name for name in names if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise UnsupportedError(
            f"{MODULES} asks for {', '.join(unknown)}, but only Transformer, Pooling and Normalize are read"
        )
    settings = jsonfile.load(folder, SETTINGS) or {}
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise FormatError(f"{SETTINGS}: prompts is {prompts!r:.80}, but an object of texts is needed")
    own = jsonfile.load(folder, "sentence_bert_config.json") or {}
    tokens = own.get("max_seq_length")
    if tokens is None:
        tokens = (jsonfile.load(folder, "tokenizer_config.json") or {}).get("model_max_length")
        tokens = tokens if type(tokens) is int and tokens <= TOKENS_MAX else None  # 1e30 stands for none
    if own.get("do_lower_case") is True:
        raise UnsupportedError(
            "sentence_bert_config.json: do_lower_case is true, but only a tokenizer may make letters small"
        )
    with explained(SETTINGS):
        pooling = Pooling(
            _mode(folder, dict(modules)["Pooling"], prompts),
            normalize="Normalize" in names,
            tokens=tokens,
            prompts=prompts,
            prompt=settings.get("default_prompt_name"),
        )
    return Found(pooling)


def _modules(folder: Folder) -> list[tuple[str, str]]:
    """The name of each module's class, and its folder; none where there is no such file."""
    rows = jsonfile.load_list(folder, MODULES) or []
    found = []
    for row in rows:
        kind, path = (row.get("type"), row.get("path")) if isinstance(row, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str):
            raise FormatError(f"{MODULES} has {row!r:.80}, but an object with type and path is needed")
        found.append((kind.rpartition(".")[2], path))
    return found


def _mode(folder: Folder, path: str, prompts: Mapping[str, str]) -> str:
    """The one way that a Pooling module's config names."""
    where = f"{path}/config.json"
    config = jsonfile.load(folder.below(path), "config.json")
    if config is None:
        raise FormatError(f"{where} is missing, which {MODULES} asks for")
    given = config.get("pooling_mode")
    if given is None:
        given = [mode for flag, mode in FLAGS.items() if config.get(flag) is True] or "mean"
    modes = given if isinstance(given, list) else [given]
    mode = MODES.get(modes[0]) if len(modes) == 1 and isinstance(modes[0], str) else None
    if mode is None:
        raise UnsupportedError(
            f"{where}: the pooling is {', '.join(map(str, modes))[:80]}, but only one of "
            f"{', '.join(MODES)} is supported"
        )
    if config.get("include_prompt") is False and mode == "mean" and any(prompts.values()):
        raise UnsupportedError(f"{where}: include_prompt is false, but only prompts that count are supported")
    return mode


def _ranker(folder: Folder, known: bool, path: str | None, tensors: Mapping[str, SourceTensor]) -> Found:
    """Qwen3-Reranker: the rows of the head for its two answers."""
    if not known:
        raise UnsupportedError(
            f"{MODULES} asks for LogitScore, but of such models only Qwen3-Reranker is known, by its name in "
            "README.md or that of the directory"
        )
    ids: list[Any] = [None, None]
    if path is not None:
        config = jsonfile.load(folder.below(path), "config.json") or {}
        ids = [config.get("true_token_id"), config.get("false_token_id")]
    if None in ids:
        from edgeq.converters import tokenizers
        from edgeq.tokenizer import load

        spoken = tokenizers.from_directory(folder)
        ids = [load(*spoken).id(answer) for answer in ANSWERS] if spoken else ids
    head = tensors["output"] if "output" in tensors else tensors["embed"]
    if not all(type(i) is int and 0 <= i < head.shape[0] for i in ids):
        raise FormatError(
            f"the tokens of {' and '.join(ANSWERS)} are {ids}, but ids of the vocabulary are needed"
        )
    rows = [slice(i, i + 1) for i in ids]
    return Found(
        Pooling("rank", normalize=False, template=TEMPLATE, instruction=INSTRUCTION),
        lambda: np.concatenate([head.floats(row) for row in rows]),
    )


# ---- a GGUF file ----
def kind_of(metadata: Mapping[str, Any]) -> str | None:
    """The kind that a GGUF file names; None for one that only generates."""
    key = f"{metadata.get('general.architecture')}.pooling_type"
    value = metadata.get(key)
    if value is None or value == 0:
        return None
    if type(value) is not int or value not in TYPES:
        known = ", ".join(f"{number} ({kind})" for number, kind in {0: "none", **TYPES}.items())
        raise UnsupportedError(f"{key} is {value!r:.40}, but only {known} is supported")
    return TYPES[value]


def from_gguf(
    metadata: Mapping[str, Any], family: str, hidden: int, output: SourceTensor | None
) -> Found | None:
    """What a GGUF file says; `output` is its tensor OUTPUT."""
    kind = kind_of(metadata)
    if kind != "rank":
        if output is not None:
            raise UnsupportedError(f"tensor {OUTPUT!r} is there, but the file does not rank (pooling_type 4)")
        return Found(Pooling(kind)) if kind else None
    if family != "qwen3":
        raise UnsupportedError(f"pooling_type is 4 (rank), which is not supported for family {family}")
    if output is None or len(output.shape) != 2 or output.shape[1] != hidden or output.shape[0] > 2:
        shape = "missing" if output is None else f"of shape {list(output.shape)}"
        raise FormatError(f"tensor {OUTPUT!r} is {shape}, but [2, {hidden}] or [1, {hidden}] is needed")
    labels = metadata.get("qwen3.classifier.output_labels")
    if labels is not None and output.shape[0] == 2 and list(labels) != list(ANSWERS):
        raise UnsupportedError(
            f"qwen3.classifier.output_labels is {list(labels)!r:.80}, but only {list(ANSWERS)} is supported"
        )
    template = metadata.get("tokenizer.chat_template.rerank")
    with explained("tokenizer.chat_template.rerank"):
        template = (template or TEMPLATE).replace(INSTRUCTION, "{instruction}")
        pooling = Pooling("rank", normalize=False, template=template, instruction=INSTRUCTION)
    return Found(pooling, output.floats)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Errors of the header's words begin with the file or the key that gave them."""
    try:
        yield
    except FormatError as error:
        said = str(error).removeprefix("the header's ")
        raise FormatError(f"{where}: {said}") from None
