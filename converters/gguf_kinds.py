"""What a GGUF file is of: architectures, those that are none of ours too, and what goes with a model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeq.errors import UnsupportedError, shown
from edgeq.formats.gguf import GGUFFile

# general.type or general.architecture of files that go with a model: what such a file is, what would be right
BESIDE = {
    "adapter": ("a LoRA adapter, which changes a model", "merge it into its model first, and convert that"),
    "mmproj": ("a projector, with which a model sees or hears", "name the model that it goes with"),
    "clip": ("a projector, with which a model sees or hears", "name the model that it goes with"),
    "imatrix": ("an importance matrix, which llama.cpp's quantizer reads",
                "name the model; `edgeq calibrate` makes what `edgeq quantize` reads"),
    "controlvector": ("a control vector, which steers a model", "name the model that it goes with"),
    "vocab": ("a vocabulary without weights", "get the model's own file"),
}  # fmt: skip


def beside(metadata: dict[str, Any]) -> tuple[str, str] | None:
    """What a file is that goes with a model and is none, and what would be right; None for a model."""
    words = [metadata.get(key) for key in ("general.type", "general.architecture")]
    return next((BESIDE[word] for word in words if isinstance(word, str) and word in BESIDE), None)


def architecture_of(file: GGUFFile, known: Collection[str]) -> str:
    """The file's general.architecture, one of the known; UnsupportedError says what the file is instead."""
    architecture = file.metadata.get("general.architecture")
    if found := beside(file.metadata):
        what, right = found
        raise UnsupportedError(f"no model but {what}: {right}")
    if not isinstance(architecture, str):
        named = "names no architecture" if architecture is None else f"is of {shown(architecture)}, no name"
        raise UnsupportedError(f"a GGUF file whose general.architecture {named}; {runs(known)}")
    if architecture not in known:
        raise UnsupportedError(f"a GGUF file of general.architecture {shown(architecture)}; {runs(known)}")
    if not file.tensors:
        what, right = BESIDE["vocab"]
        raise UnsupportedError(f"no model but {what}: {right}")
    return architecture


def runs(known: Collection[str]) -> str:
    """What can be run, as the end of a sentence."""
    return f"edgeq runs {', '.join(known)}: get a model of one of these"


def without_guesses(file: GGUFFile, architecture: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What the file says, less its layers behind the last one that were trained to guess tokens further on;
    and those, in words, by their numbers.
    """
    beginning, metadata = f"{architecture}.", dict(file.metadata)
    count, more = (metadata.get(beginning + key) for key in ("block_count", "nextn_predict_layers"))
    if type(count) is not int or type(more) is not int or not 0 < more < count:
        return metadata, {}
    for key, value in metadata.items():  # those with an entry for each layer, too
        if key.startswith(beginning) and isinstance(value, list) and len(value) == count:
            metadata[key] = value[: count - more]
    metadata |= {f"{beginning}block_count": count - more, f"{beginning}nextn_predict_layers": 0}
    return metadata, {str(i): f"guessing layer {i}" for i in range(count - more, count)}
