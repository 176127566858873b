"""Families of models, one file each in `families`: config words, tensor table, forward pass, and how
checkpoints and GGUF files spell it.

`family(name)` gives a family's module, `row_of(config)` the model_type and family of a Hugging Face config,
`gguf_row(...)` how GGUF files spell it, and `check(file)` holds an .edgeq file against its family's
table.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgeq.errors import EdgeqError, FormatError, Troubles, UnsupportedError, printable
from edgeq.models import families
from edgeq.models.base import BaseConfig
from edgeq.models.gguf import Gguf
from edgeq.models.tensors import Expected, Tensor, expand

if TYPE_CHECKING:
    from edgeq.formats import ModelFile
    from edgeq.formats import Tensor as FileTensor

__all__ = [
    "BaseConfig",
    "Expected",
    "Tensor",
    "check",
    "expand",
    "expected",
    "family",
    "family_names",
    "family_of",
    "gathered",
    "gguf_architectures",
    "gguf_row",
    "row_of",
    "unread",
]


NAME = re.compile(r"[a-z][a-z0-9_]*")


def family_names() -> list[str]:
    """The families that this version knows: the modules of `families`."""
    return sorted(module.name for module in pkgutil.iter_modules(families.__path__))


def family(name: str) -> ModuleType:
    """The module of a family: `Config`, `TENSORS`, its forward pass, and of that `embed`, a `layer` and the
    `head` for themselves; `HUGGINGFACE` and `GGUF`, its spellings; `FOLDS`, where it is known what feeds
    what; `NUMBERS`, words of its config that a checkpoint has as tensors of its layers, `UNREAD`, rows of
    tensors that it may have for nothing, and `factors(words)`, by what a checkpoint's words multiply tensors.
    UnsupportedError for other names.
    """
    where = f"{families.__name__}.{name}"
    try:
        if NAME.fullmatch(name):
            return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name != where:
            raise
    raise UnsupportedError(f"family {name!r:.80} is unknown; this version knows {', '.join(family_names())}")


def family_of(raw: Mapping[str, Any]) -> str:
    """The family of a Hugging Face config; see `row_of`."""
    return row_of(raw)[1]


def huggingface_rows() -> Iterator[tuple[str, str, str]]:
    """Hugging Face model_type, its architecture, the family that computes it."""
    for name in family_names():
        for model_type, architecture in family(name).HUGGINGFACE:
            yield model_type, architecture, name


def gguf_architectures() -> list[str]:
    """Those of GGUF files that are known."""
    return sorted({row.architecture for name in family_names() for row in family(name).GGUF})


def gguf_row(architecture: str, keys: Mapping[str, Any]) -> tuple[Gguf, str]:
    """How a GGUF file of a known architecture that has these keys spells a family's config, and its name."""
    rows = [(row, name) for name in family_names() for row in family(name).GGUF]
    found = [(row, name) for row, name in rows if row.architecture == architecture]
    special = [(row, name) for row, name in found if row.when is not None and row.when(keys)]
    return (special or [(row, name) for row, name in found if row.when is None])[0]


def row_of(raw: Mapping[str, Any]) -> tuple[str, str]:
    """(model_type, family) of a Hugging Face config, by its `model_type`, its `architectures`, or both in
    agreement; UnsupportedError for others.
    """
    rows = list(huggingface_rows())
    model_type, architectures = raw.get("model_type"), raw.get("architectures")
    known = ", ".join(dict.fromkeys(row[0] for row in rows))
    if model_type is not None and model_type not in (row[0] for row in rows):
        raise UnsupportedError(f"config: model_type is {model_type!r:.80}, but only {known} are supported")
    if architectures in (None, []):
        if model_type is None:
            raise UnsupportedError(f"config: model_type is missing; one of {known} is needed")
        return next((kind, name) for kind, _, name in rows if kind == model_type)
    for kind, architecture, name in rows:
        if architectures == [architecture] and model_type in (None, kind):
            return kind, name
    right = ", ".join(row[1] for row in rows if model_type in (None, row[0]))
    raise UnsupportedError(f"config: architectures is {architectures!r:.80}, but only [{right}] is supported")


def expected(name: str, config: BaseConfig) -> list[Expected]:
    """The tensors of a model of that family and config, in file order."""
    return list(expand(family(name).TENSORS, config))


def unread(name: str, config: BaseConfig) -> list[Expected]:
    """Tensors that a checkpoint of that family and config may have, and of which nothing is computed."""
    return list(expand(getattr(family(name), "UNREAD", ()), config))


def gathered(name: str, config: BaseConfig) -> set[str]:
    """The tensors of which a pass reads no more than its tokens' rows."""
    head = "embed" if config.tie_word_embeddings else "output"
    return {want.name for want in expected(name, config) if want.role == "embed"} - {head}


def check(file: ModelFile) -> BaseConfig:
    """Hold an open model file against its family: config words, then each tensor's shape, scheme and layout.

    Returns the family's Config; FormatError (UnsupportedError for the family) begins with the path and names
    all that is wrong.
    """
    try:
        return _fits(file)
    except EdgeqError as error:
        raise type(error)(f"{printable(str(file.path))}: {error}") from None


def _fits(file: ModelFile) -> BaseConfig:
    config: BaseConfig = family(file.family).Config.from_header(file.config)
    rest, troubles = dict(file.tensors), Troubles()
    for want in expected(file.family, config):
        with troubles.noted():
            _check_tensor(rest.pop(want.name, None), want)
    with troubles.noted():
        _check_tokenizer(file, rest)
    with troubles.noted():
        _check_classifier(file, rest, config)
    if rest:
        troubles.add(FormatError(f"tensor {min(rest)!r} is not one of family {file.family}'s"))
    troubles.tell()
    return config


def _check_tensor(tensor: FileTensor | None, want: Expected) -> None:
    if tensor is None:
        raise FormatError(f"tensor {want.name!r} is missing; shape {list(want.shape)} is needed")
    if tuple(tensor.shape) != want.shape:
        raise FormatError(
            f"tensor {want.name!r} has shape {list(tensor.shape)}, but {list(want.shape)} is needed"
        )
    scheme, layout = tensor.scheme.name, tensor.layout
    if want.role == "vector":
        if (scheme, layout) != ("f32", "plain"):
            raise FormatError(f"tensor {want.name!r} is {scheme} {layout}, but f32 plain is needed")
    elif layout != "lines16" or scheme == "bytes":
        raise FormatError(f"tensor {want.name!r} is {scheme} {layout}, but a matrix in lines16 is needed")


def _check_tokenizer(file: ModelFile, rest: dict[str, Any]) -> None:
    """Take the tokenizer's tensor out of `rest`; it must be there as bytes when the header names one."""
    spec = file.header.get("tokenizer")
    if spec is None:
        return
    name = spec.get("tensor") if isinstance(spec, dict) else None
    tensor = rest.pop(name, None) if isinstance(name, str) else None
    if tensor is None or tensor.scheme.name != "bytes":
        raise FormatError(f"the header's tokenizer names tensor {name!r:.80}, which is no tensor of bytes")


def _check_classifier(file: ModelFile, rest: dict[str, Any], config: BaseConfig) -> None:
    """Take the classifier out of `rest`; its rows must be there when the header says that the model ranks."""
    if (file.header.get("pooling") or {}).get("kind") != "rank":
        return
    tensor, columns = rest.pop("classifier", None), config.hidden_size
    if tensor is None or (tensor.scheme.name, tensor.layout) != ("f32", "plain"):
        raise FormatError("the header's pooling ranks, but there is no tensor 'classifier' of f32 plain")
    if len(tensor.shape) != 1 or tensor.shape[0] % columns:
        raise FormatError(
            f"tensor 'classifier' has shape {list(tensor.shape)}, but whole rows of {columns} are needed"
        )
