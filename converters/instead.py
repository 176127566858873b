"""What a directory holds that cannot be taken as a checkpoint, and what to name or to fetch instead.

Only names are looked at. A row of a table is what may be there, the first that is there counts.
"""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import printable

INDEX = "model.safetensors.index.json"
NEEDED = f"model.safetensors or {INDEX} is needed"

# patterns of a file in a directory without config.json; what it means, with {found} for the file
NO_CONFIG = (
    (("*.gguf",), "but GGUF files: name one of them, such as {found}"),
    (("*.edgeq",), "but .edgeq files: name one of them, such as {found}"),
    (("*/config.json", "snapshots/*/config.json"), "but the directory {folder} in it has: name that"),
    (("*/*.gguf",), "but a directory of it has GGUF files: name one of them, such as {found}"),
    (("adapter_config.json",), "but a LoRA adapter, which changes a model: merge it into its model first"),
    (("params.json", "consolidated*"), "but a checkpoint in its maker's own form: get the one in Hugging "
     "Face's, with config.json"),
    (("*.safetensors",), "but weights, such as {found}: put the config.json of their model beside them"),
    (("*.bin", "*.pt", "*.pth", "*.ckpt"), "but weights that are pickled, such as {found}, which are never "
     "loaded: get the model as safetensors or as GGUF"),
)  # fmt: skip

# the same of a file in a directory with config.json and neither NEEDED
NO_WEIGHTS = (
    (("*.gguf",), "its weights are in GGUF files: name one of them, such as {found}"),
    (("model-*-of-*.safetensors",), f"its weights are in parts without their index; {INDEX} is needed"),
    (("*.bin", "*.pt", "*.pth", "*.ckpt"), "its weights are pickled, which are never loaded; "
     f"{NEEDED}: get the model in that form, or save it so with transformers"),
    (("*.safetensors",), "its weights have names of their own, such as {found}; " + NEEDED),
    (("*.edgeq",), "it has no weights but .edgeq files: name one of them, such as {found}"),
)  # fmt: skip


def no_checkpoint(path: Path, what: str) -> str:
    """The sentence for a directory without config.json, which is called `what`."""
    start = f"{what} has no config.json"
    for patterns, meaning in NO_CONFIG:
        if found := _first(path, patterns):
            return (
                f"{start}, {meaning.format(found=printable(str(found)), folder=printable(str(found.parent)))}"
            )
    empty = next(path.iterdir(), None) is None
    return f"{start}{', for it is empty' if empty else ''}; a Hugging Face checkpoint directory is needed"


def no_weights(path: Path) -> str:
    """Why a directory with config.json cannot be read, from "its" on."""
    for patterns, meaning in NO_WEIGHTS:
        if found := _first(path, patterns):
            return meaning.format(found=printable(str(found)))
    return f"it has no weights; {NEEDED}: download all of the checkpoint"


def _first(path: Path, patterns: tuple[str, ...]) -> Path | None:
    """The first file by name that fits a pattern."""
    for pattern in patterns:
        for found in sorted(path.glob(pattern))[:1]:
            return found
    return None
