"""What a person may call a model on the hub: OWNER/NAME with a revision, a type or a file, or its address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

MAIN = "main"  # the branch that is meant where none is named
PREFIX = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://", re.IGNORECASE)
FILES = (".gguf", ".edgeq")  # what can be named as one file of a repository
LOCAL = (*FILES, ".safetensors", ".bin", ".pt", ".pth")  # what ends so is meant as a local file

_REPOSITORY = r"(?P<repository>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
_REVISION = r"(?P<revision>[\w./-]{1,200})"
_BRANCH = r"(?P<revision>(?:refs/\w+/)?[\w.-]{1,200})"  # where a path follows
_TYPE = r"(?P<type>[A-Za-z0-9_-]{1,40})"
_FILE = r"(?P<file>(?:[^/@:]{1,255}/){0,8}[^/@:]{1,250}\.(?:gguf|edgeq))"
FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        f"{_REPOSITORY}(?:@{_BRANCH})?/{_FILE}",
        f"{_REPOSITORY}/{_FILE}@{_REVISION}",
        f"{_REPOSITORY}(?:@{_REVISION})?(?::{_TYPE})?",
        f"{_REPOSITORY}:{_TYPE}@{_REVISION}",
    )
)
ADDRESS = re.compile(f"{_REPOSITORY}/(?:tree|blob|resolve|raw)/{_BRANCH}(?:/{_FILE})?/?", re.ASCII)


@dataclass(frozen=True)
class Name:
    """A model on the hub; of a repository of GGUF files `type` or `file` says which one."""

    repository: str  # OWNER/NAME
    revision: str = MAIN  # a branch, a tag or a commit
    type: str | None = None  # "Q4_K_M", in any case of letters
    file: str | None = None  # with / between folders

    def __str__(self) -> str:
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        if self.file is not None:
            return f"{self.repository}{revision}/{self.file}"
        return f"{self.repository}{revision}" + (f":{self.type}" if self.type else "")


def parse(text: str) -> Name | None:
    """The name that a text is, or None where it is none."""
    found = PREFIX.match(text)
    forms = FORMS
    if found is not None:
        text = unquote(text[found.end() :].partition("?")[0].partition("#")[0]).rstrip("/")
        forms = (ADDRESS, *FORMS)
    match = next((match for form in forms if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    words = match.groupdict()
    paths = [path for path in (words.get("file"), words.get("revision")) if path is not None]
    if words["repository"].lower().endswith(LOCAL) or not all(map(plain, paths)):
        return None
    kind = words.get("type")
    return Name(
        words["repository"],
        words.get("revision") or MAIN,
        None if kind is None or kind.lower() == "latest" else kind,  # ollama's word for no type
        words.get("file"),
    )


def plain(path: str) -> bool:
    """Whether a path inside a repository is one that can be made below a folder of ours."""
    parts = path.split("/")
    return (
        len(path) <= 1000
        and path.isprintable()
        and not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        and not any(character in '\\:*?"<>|' for character in path)
    )
