"""The source `hub`: a checkpoint on huggingface.co, named OWNER/NAME or OWNER/NAME@REVISION.

Only weights in safetensors, JSON and tokenizer files are fetched; they are then read as a directory.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeq.converters.huggingface import open_directory
from edgeq.converters.source import Source
from edgeq.errors import EdgeqError, UnsupportedError

NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?", re.ASCII)
WANTED = [
    "*.safetensors", "*.json", "tokenizer.model", "tokenizer.model.v*", "*.jinja", "merges.txt", "vocab.txt",
    "README.md", "LICENSE*",
]  # fmt: skip
UNWANTED = ["*/*", "consolidated*", "adapter*", "training_args*"]


def open_hub(name: str) -> Source:
    """Fetch what is not in the hub's cache yet and open it; UnsupportedError says why that cannot be."""
    found = NAME.fullmatch(name)
    if not found or name.lower().endswith((".gguf", ".edgeq", ".safetensors", ".bin", ".pt", ".pth")):
        raise UnsupportedError(
            f"{name!r:.120} is neither a file, nor a directory, nor a hub name like OWNER/NAME"
        )
    repository, revision = found.groups()
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UnsupportedError(
            f"{name!r} is no local file or directory, and the hub client is missing: pip install 'edgeq[hub]'"
        ) from None
    try:
        path = snapshot_download(
            repository, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED
        )
    except EdgeqError:
        raise
    except Exception as error:  # the client, its HTTP library and the system each have their own kinds
        why = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
        raise UnsupportedError(
            f"{name!r} is no local file or directory, and it could not be fetched from the hub ({why:.160})"
        ) from None
    return open_directory(Path(path), kind="hub", name=repository, revision=Path(path).name)
