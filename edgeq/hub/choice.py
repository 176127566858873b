"""Which files of a repository a name means: a checkpoint's, or those of one GGUF model."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import UnsupportedError, UsageError

from .listing import Entry, Listing
from .names import Name

# Of a checkpoint: weights in safetensors, JSON, tokenizers, and what says who made it; nothing else.
WANTED = (
    "*.safetensors", "*.json", "tokenizer.model", "tokenizer.model.v*", "*.jinja", "merges.txt", "vocab.txt",
    "README.md", "LICENSE*",
)  # fmt: skip
MODULE = re.compile(r"\d{1,2}_\w{1,40}/config\.json")  # of a model that gives vectors
UNWANTED = ("*/*", "consolidated*", "adapter*", "training_args*")
WHOLE = "model.safetensors"  # beside which shards are not read
# The types that are tried in turn where a name says none; then the first file by its name.
TYPES = ("Q4_K_M", "Q4_0", "Q4_K_S", "Q5_K_M", "Q6_K", "Q8_0")
ASIDE = re.compile(r"(?:^|[-_./])(?:mmproj|imatrix|mtp|draft)", re.IGNORECASE)  # beside a model, none itself
SHOWN = 12  # files in a message


@dataclass(frozen=True)
class Choice:
    """What is to be fetched; `main` is the file that is named to read the model, None for the folder."""

    entries: tuple[Entry, ...]
    main: str | None = None


def choose(listing: Listing, name: Name) -> Choice:
    """What a name means in a repository; UsageError where it has no such file, UnsupportedError where it has
    no model that edgeq reads."""
    if name.file is not None:
        return one_file(listing, name.file, name)
    ggufs = models(listing)
    if name.type is None and any(fnmatch.fnmatchcase(e.name, WANTED[0]) for e in checkpoint(listing)):
        return Choice(tuple(checkpoint(listing)))
    if not ggufs:
        raise UnsupportedError(
            f"{name.repository} has no GGUF file, and so none of type {name.type}"
            if name.type
            else f"{name.repository} has neither weights in safetensors nor a GGUF file, which are what "
            f"edgeq reads{pickled(listing)}"
        )
    return one_file(listing, of_type(ggufs, name), name)


def checkpoint(listing: Listing) -> list[Entry]:
    """The files of a checkpoint; shards are left out where there is one file of all weights."""
    found = [
        entry
        for entry in listing.entries
        if MODULE.fullmatch(entry.name)
        or any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in WANTED)
        and not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in UNWANTED)
    ]
    if any(entry.name == WHOLE for entry in found):
        found = [e for e in found if e.name == WHOLE or not e.name.endswith(".safetensors")]
    return found


def readable(choice: Choice) -> bool:
    """Whether a checkpoint has what none can be without; for files that nobody holds against a list."""
    names = {entry.name for entry in choice.entries}
    tokenizers = {"tokenizer.json", "tokenizer.model", "vocab.json"}
    return choice.main is not None or ("config.json" in names and not tokenizers.isdisjoint(names))


def pickled(listing: Listing) -> str:
    """A hint for a repository whose weights are pickles."""
    names = [entry.name for entry in listing.entries if entry.name.endswith((".bin", ".pt", ".pth"))]
    return f" ({names[0]:.80} is a pickle, which is never loaded)" if names else ""


def one_file(listing: Listing, file: str, name: Name) -> Choice:
    """A file by its name, with the other parts where the model has several."""
    entries = {entry.name: entry for entry in listing.entries}
    parts = parts_of(file)
    missing = [part for part in parts if part not in entries]
    if missing:
        raise UsageError(
            f"{name.repository} has no file {missing[0]!r:.120} at {name.revision}"
            f"; it has {several(models(listing))}"
        )
    return Choice(tuple(entries[part] for part in parts), file)


def models(listing: Listing) -> list[str]:
    """The GGUF models of a repository: files, or the first parts of them."""
    return [entry.name for entry in listing.entries if is_model(entry.name)]


def is_model(file: str) -> bool:
    """Whether a file is a GGUF model by its name, or the first part of one."""
    from edgeq.formats.gguf import PART_NAME

    if not file.lower().endswith(".gguf") or ASIDE.search(file):
        return False
    found = PART_NAME.fullmatch(file.rpartition("/")[2])
    return found is None or int(found["number"]) == 1


def parts_of(file: str) -> list[str]:
    """The files of a model that a file is a part of; itself alone where it is no part."""
    from edgeq.formats.gguf import part_paths

    return [part.as_posix() for part in part_paths(Path(file))]


def of_type(files: Sequence[str], name: Name) -> str:
    """The one of these files that has the type a name says, or a usual type; UsageError for none and for
    several."""
    for wanted in (name.type,) if name.type else TYPES:
        found = with_type(files, wanted)
        if len(found) > 1:
            raise UsageError(
                f"{name.repository} has several files of type {wanted}: {several(found)}; name one of them "
                f"as {name.repository}/FILE"
            )
        if found:
            return found[0]
    if name.type:
        raise UsageError(f"{name.repository} has no file of type {name.type}; it has {several(files)}")
    return min(files)


def with_type(files: Sequence[str], wanted: str) -> list[str]:
    """The files with a type in their names; those of a variant (UD-Q4_K_M) only where there are no others."""
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(wanted)}(?![A-Za-z0-9_])", re.IGNORECASE)
    variant = re.compile(rf"(?<![A-Za-z0-9])UD-{re.escape(wanted)}(?![A-Za-z0-9_])", re.IGNORECASE)
    found = [file for file in files if word.search(file.rpartition("/")[2])]
    return [file for file in found if not variant.search(file)] or found


def several(files: Sequence[str]) -> str:
    """Some names for a message."""
    shown = ", ".join(sorted(files)[:SHOWN]) or "no GGUF file"
    return shown + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")
