"""The source `hub`: a checkpoint on huggingface.co, named OWNER/NAME or OWNER/NAME@REVISION.

Only weights in safetensors, JSON and tokenizer files are fetched; they are then read as a directory.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection
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

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
AGAIN = "what was fetched so far is kept for the next try"
# Kinds of the client's exceptions, by name so that any version of it will do; the first row that fits counts.
CLIENT: tuple[tuple[tuple[str, ...], str], ...] = (
    (("GatedRepoError",), f"it is gated: ask for access at {{page}}, then {LOG_IN}"),
    (("DisabledRepoError",), "it is disabled there; another repository is needed"),
    (("RevisionNotFoundError",), "it has no revision {revision!r}; {page} lists its branches and tags"),
    (("RepositoryNotFoundError",), f"it was not found there; check the name, and if it is private, {LOG_IN}"),
    (("LocalTokenNotFoundError",), f"no token was found; {LOG_IN}"),
    (("OfflineModeIsEnabled",), "it is not in the hub's cache and HF_HUB_OFFLINE keeps the client offline; "
     "unset HF_HUB_OFFLINE, or name a directory"),
    (("TransportError", "ProxyError", "ConnectError", "ConnectionError", "TimeoutException", "TimeoutError"),
     f"the hub cannot be reached (offline?); check the connection and try again, {AGAIN}"),
)  # fmt: skip
STATUS: tuple[tuple[Collection[int], str], ...] = (
    ((401, 403), f"the hub refuses the token or wants one (status {{status}}); {LOG_IN}"),
    ((429,), f"too many requests (status {{status}}); wait a few minutes and try again, {AGAIN}"),
    (range(500, 600), f"the hub has trouble (status {{status}}); try again later, {AGAIN}"),
)
FULL = "the disk is full at {file}; make room, or set HF_HOME to a directory on another disk"
SYSTEM = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EACCES: "{file} cannot be written; set HF_HOME to a directory that can",
    errno.EROFS: "{file} cannot be written; set HF_HOME to a directory that can",
}


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
        raise UnsupportedError(
            f"{name!r} is no local file or directory, and it could not be fetched from the hub: "
            + reason(error, repository, revision or "main")
        ) from None
    return open_directory(Path(path), kind="hub", name=repository, revision=Path(path).name)


def reason(error: BaseException, repository: str, revision: str) -> str:
    """Why the hub's client failed, and how to go on."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    words = {"page": f"https://huggingface.co/{repository}", "revision": revision}
    for one in chain:
        if isinstance(one, OSError) and one.errno in SYSTEM:
            return SYSTEM[one.errno].format(file=one.filename or "the cache")
    for names, sentence in CLIENT:
        if kinds.intersection(names):
            return sentence.format(**words)
    status = next((code for one in chain if (code := _status(one)) is not None), None)
    for codes, sentence in STATUS:
        if status in codes:
            return sentence.format(status=status, **words)
    said = " ".join(str(error).split())
    return said[:160] or type(error).__name__


def _status(error: BaseException) -> int | None:
    """The HTTP status of the answer that an exception carries."""
    return getattr(getattr(error, "response", None), "status_code", None)
