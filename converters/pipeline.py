"""From a source to a file: the header, and the data in pieces.

Memory is a few row blocks and what of one tensor comes after its first part (`encode_rows`), whatever the
model's size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.converters.gguf import open_file
from edgeq.converters.hub import open_hub, open_snapshot
from edgeq.converters.huggingface import open_directory
from edgeq.converters.recipe import Recipe, choose
from edgeq.converters.source import Array, Source, SourceTensor
from edgeq.converters.wrapped import told
from edgeq.embed.pooling import CLASSIFIER
from edgeq.errors import EdgeqError, FormatError, UsageError, printable
from edgeq.formats import (
    NUMBERS,
    SCHEMES,
    Parts,
    Scheme,
    TensorPlan,
    Writer,
    annotated,
    encode_blocks,
    encode_parts,
    encode_rows,
    row_blocks,
)
from edgeq.hub import Snapshot
from edgeq.models import BaseConfig, expected
from edgeq.rounding import rounding_of

Progress = Callable[[int, int, str], None]
Sizes = Callable[[int, int], None]
Tell = Callable[[str], object]
Ready = Callable[[str], Parts | None]
Examine = Callable[[Path], Mapping[str, Any]]
TOKENIZER = "tokenizer"  # the tensor that holds the tokenizer's bytes


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    scheme: str | None = None,
    embed_scheme: str | None = None,
    output_scheme: str | None = None,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    sizes: Sizes | None = None,
    tell: Tell | None = None,
    follow_links: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    words: Mapping[str, Any] | None = None,
    examine: Examine | None = None,
) -> None:
    """Write the model `source` (checkpoint directory, .gguf file or hub name) as the .edgeq file `output`.

    A name on the hub is fetched first, in silence: `edgeq.library.locate` tells of it and shows progress.

    `scheme` (q4 unless given) is for the matrices of the blocks; embedding and output head get 8 bits under a
    quantized scheme (e8 where that has a float for each row, else q8) and the same scheme under a float one,
    unless named. "keep" gives each tensor the scheme that holds its numbers as they are. `recipe`, a file or
    the name of one of edgeq's (`converters.recipe`), chooses for each tensor instead. Vectors stay float32.
    `progress(done, total, tensor)` is called with bytes of output, `sizes(output, source)` once, before
    anything is written, with bytes of the source's tensors, and `tell(line)` before that where parts of the
    source are left out, as those of a model that sees. Links in a checkpoint's directory may lead into
    the directory follow_links, and nowhere else. A file that is there is refused unless overwrite says that
    it may be replaced. `words` are more of the header's; examine(path) may give others, from the file when
    it is whole and before it has its name. The file appears under its name only then; any exception,
    KeyboardInterrupt included, leaves nothing behind. Raises UnsupportedError, FormatError or UsageError.
    """
    chosen = choose(recipe, scheme, embed_scheme, output_scheme)
    target = checked_target(source, output)
    if target.exists() and not overwrite:
        raise UsageError(f"{str(output)!r} exists; another name for the output, or overwrite=True, is needed")
    opened = open_source(source, follow_links)
    if tell is not None and opened.left_out:
        tell(told(opened.left_out))
    write(opened, target, chosen, progress, sizes, words=words, examine=examine)


def checked_target(source: str | os.PathLike[str] | None, output: str | os.PathLike[str]) -> Path:
    """Where the output goes; UsageError where no file can be, or the source is. None: it has no path."""
    target = Path(output)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(
            f"{str(output)!r} cannot be the output; a file name in an existing directory is needed"
        )
    if source is not None and target.exists() and os.path.exists(source) and target.samefile(source):
        raise UsageError(f"{str(output)!r} is the source itself; another name for the output is needed")
    return target


def open_source(source: str | os.PathLike[str], follow_links: str | os.PathLike[str] | None = None) -> Source:
    """Open a checkpoint by what it is: a directory, a GGUF file, what was fetched from the hub, or else a hub
    name.

    Of what is here every message starts with its path.
    """
    path = Path(source)
    try:
        if isinstance(source, Snapshot):
            return open_snapshot(source)
        if path.is_dir():
            links = Path(follow_links) if follow_links else None
            return here(path, lambda: open_directory(path, follow_links=links))
        if path.suffix in (".safetensors", ".json") and path.is_file():
            raise UsageError(
                f"{path.name!r} is one file of a checkpoint; the directory that holds it is needed"
            )
        if path.exists():
            return here(path, lambda: open_file(path))
    except OSError as error:
        raise EdgeqError(f"{str(source)!r:.120} cannot be read ({error.strerror or error})") from None
    return open_hub(os.fspath(source) if isinstance(source, str) else path.as_posix())


def here(path: Path, opened: Callable[[], Source]) -> Source:
    """A file or a directory as source: what is wrong with it, or its tokenizer, starts with its path."""
    with named(path):
        source = opened()
    read = source.tokenizer

    def tokenizer() -> tuple[dict[str, Any], bytes] | None:
        with named(path):
            return read()

    return replace(source, tokenizer=tokenizer)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the block start with the path, once."""
    try:
        yield
    except EdgeqError as error:
        where = printable(str(path))
        said = str(error)
        raise type(error)(said if said.startswith((where, str(path))) else f"{where}: {said}") from None


def write(
    source: Source,
    target: Path,
    recipe: Recipe,
    progress: Progress | None,
    sizes: Sizes | None = None,
    *,
    ready: Ready | None = None,
    words: Mapping[str, Any] | None = None,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
    examine: Examine | None = None,
) -> None:
    """Write an opened source; see `convert`.

    ready(name) gives the parts of a matrix that were found elsewhere, or None. `words` are more of the
    header's, `extra` more of tensors' entries, by name. examine(path) gives more of the header's words when
    the file is whole.
    """
    tokenizer = source.tokenizer()
    plans = planned(source.family, source.config, recipe, source.tensors)
    plans = [replace(plan, extra=(extra or {}).get(plan.name, {})) for plan in plans]
    if tokenizer is not None:
        count, rows = tokenizer[0]["vocab_size"], source.config.vocab_size
        if count > rows:  # the file could be written, but not opened
            raise FormatError(
                f"the tokenizer has {count} tokens, more than the {rows} rows of the model's embedding"
            )
        plans.append(TensorPlan(TOKENIZER, "bytes", "plain", (len(tokenizer[1]),)))
    classifier = source.pooling and source.pooling.classifier
    if classifier:
        labels = classifier().reshape(-1)
        source = replace(source, made={**source.made, CLASSIFIER: labels})
        plans.append(TensorPlan(CLASSIFIER, "f32", "plain", labels.shape))
    done, total = 0, sum(plan.nbytes for plan in plans)
    if sizes is not None:
        sizes(sum(plan.nbytes for plan in plans if plan.name in source.tensors), source.nbytes)
    head = header(source, recipe, tokenizer and tokenizer[0]) | dict(words or {})
    with Writer(target, head, plans) as writer:
        for plan in plans:
            parts = ready(plan.name) if ready else None
            found = encode_parts(parts, plan.scheme) if parts else None
            for chunk in found or data_of(source, plan, tokenizer and tokenizer[1]):
                writer.write(plan.name, chunk)
                done += chunk.nbytes
                if progress is not None:
                    progress(done, total, plan.name)
        more = examine(writer.finish()) if examine else {}
        if not more:
            writer.commit()
            return
        with annotated(writer.finish(), target, more) as second:
            writer.abort()  # what its hidden file holds is in the second one
            second.commit()


def planned(
    family: str, config: BaseConfig, recipe: Recipe, tensors: Mapping[str, SourceTensor] | None = None
) -> list[TensorPlan]:
    """The tensors of a model's file but the tokenizer, in order.

    `tensors` of the source are needed where the recipe keeps what a tensor has.
    """
    schemes = recipe.schemes(family, config)
    plans = []
    for want in expected(family, config):
        if want.role == "vector":
            plans.append(TensorPlan(want.name, "f32", "plain", want.shape))
        elif want.role == "table":  # small, or what it says is a choice
            plans.append(TensorPlan(want.name, "f32", "lines16", want.shape))
        else:
            scheme = schemes[want.name] or (tensors or {})[want.name].scheme
            plans.append(TensorPlan(want.name, scheme.name, "lines16", want.shape))
    return plans


def header(source: Source, recipe: Recipe, tokenizer: dict[str, Any] | None) -> dict[str, Any]:
    """The header's words; the writer adds the tensors."""
    origin: dict[str, Any] = {"kind": source.kind, "name": source.name}
    origin |= {"revision": source.revision, "recipe": recipe.name}
    if source.left_out:
        origin["left_out"] = list(source.left_out)
    pooled = {"pooling": source.pooling.pooling.to_header()} if source.pooling else {}
    return {
        "family": source.family,
        "config": source.config.to_header(),
        **pooled,
        "tokenizer": None if tokenizer is None else {**tokenizer, "tensor": TOKENIZER},
        "chat_template": source.chat_template,
        "generation": source.generation,
        "license": source.license,
        "source": origin,
        "required": [],
    }


def data_of(source: Source, plan: TensorPlan, tokenizer: bytes | None) -> Iterator[Array]:
    """A tensor's data in pieces, in file order."""
    tensor = source.tensors.get(plan.name)
    scheme = SCHEMES[plan.scheme] if isinstance(plan.scheme, str) else plan.scheme
    if tensor is not None:
        yield from chunks(tensor, scheme)
    elif plan.name == TOKENIZER and tokenizer is not None:
        yield np.frombuffer(tokenizer, np.uint8)
    else:
        yield from encode_blocks(source.made[plan.name], scheme)


def chunks(tensor: SourceTensor, scheme: Scheme) -> Iterator[Array]:
    """A tensor's data in a scheme, in pieces; codes that the scheme can hold are moved, not rounded again."""
    try:
        if len(tensor.shape) == 1:
            yield from encode_blocks(tensor.floats().reshape(-1), scheme)
        elif scheme.holds(tensor.scheme) and not tensor.times:
            yield from encode_rows(moved(tensor, scheme), scheme)
        else:
            yield from encode_blocks(Rows(tensor), scheme, rounding_of(scheme))  # type: ignore[arg-type]
    except FormatError as error:
        raise FormatError(f"tensor {tensor.name!r}: {error}") from None


class Rows:
    """A matrix whose row slices, [a:b], or parts of one row, [r, a:b], are read as float32 when asked for."""

    ndim = 2

    def __init__(self, tensor: SourceTensor) -> None:
        self.shape = tensor.shape
        self._tensor = tensor

    def __getitem__(self, place: slice | tuple[int, slice]) -> Array:
        if isinstance(place, slice):
            return self._tensor.floats(place)
        row, columns = place
        return self._tensor.floats(slice(row, row + 1))[0, columns]


def moved(tensor: SourceTensor, scheme: Scheme) -> Iterator[Parts]:
    """The parts of a few rows after another of a tensor whose codes a scheme holds.

    FormatError where a scale or a min is not finite.
    """
    codes = scheme.codes_of(tensor.scheme)
    for start, stop in row_blocks(*tensor.shape):
        parts = tensor.parts(slice(start, stop))
        for array in tensor.scheme.arrays:
            if array.number:
                bad = np.argwhere(~NUMBERS[array.number].finite(parts[array.name]))
                if bad.size:
                    raise FormatError(f"row {start + int(bad[0][0])}: a {array.noun} is not finite")
        yield {**parts, "codes": codes[parts["codes"]]} if tensor.scheme != scheme else parts
