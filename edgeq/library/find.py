"""From what a person names as a model to an .edgeq file: a hub name is fetched, a checkpoint or GGUF file is
converted once, into the cache. What runs is converted to be small and fast; what is measured keeps its
numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

from edgeq.errors import EdgeqError, UsageError, near, printable
from edgeq.errors import size as size_of
from edgeq.hub import Name, Snapshot, fetch, parse

from . import kept

Progress = Callable[[int, int, str], None]
Tell = Callable[[str], object]
KEEP = "keep"  # converters.KEEP, which is heavy to import
TERNARY = "t2"
QUANTIZED = {"bitnet": TERNARY, "mxfp4": KEEP}  # what a checkpoint's own numbers become, as it says it has
CONFIG_BYTES = 1 << 20  # of a config.json that is looked into
GROWTH = 1.05  # times the source: less is padding and the alignment of tensors
FLOATS = ("F32", "F16", "BF16", "F64")  # GGUF's types of numbers that are not quantized
NAME_BYTES = 120  # of a source's name in that of its conversion: a file's may have 255 in all
NEAR_MAX = 1000  # files of a folder, among which one of a similar name is looked for
CONVERSION = 4  # raised when the same source becomes another file, so that no copy of before is taken for it


def cache_directory() -> Path:
    """Where converted models are kept: `models` in edgeq's part of the user's cache
    ($XDG_CACHE_HOME/edgeq)."""
    from platformdirs import user_cache_path

    return user_cache_path("edgeq", appauthor=False) / "models"


def kind(model: str | os.PathLike[str]) -> str:
    """ "edgeq", "gguf" or "directory". Raises UsageError when there is nothing of that name."""
    if not os.fspath(model):
        raise UsageError("the model's name is empty: name an .edgeq file, a .gguf file or a directory")
    path = Path(model)
    said = printable(str(path))
    try:
        if path.is_dir():
            return "directory"
        if not path.exists():
            if (name := hub_name(model)) is not None:
                raise UsageError(
                    f"there is no file or directory {said}; `edgeq pull {name}` fetches it if it is a model "
                    "on the hub, and prints the path"
                )
            raise UsageError(
                f"there is no file or directory {said}: name an .edgeq file, a .gguf file, a directory, or a "
                f"model on the hub as OWNER/NAME{near_file(path)}"
            )
        if not path.is_file():
            raise UsageError(f"{said} is not a regular file: a model is mapped, which takes a file on a disk")
        with path.open("rb") as file:
            start = file.read(5)
        return "gguf" if start[:4] == b"GGUF" or path.suffix == ".gguf" and start != b"EDGEQ" else "edgeq"
    except OSError as error:
        raise UsageError(f"{said} cannot be read ({error.strerror}): name a file that you may read") from None


def near_file(path: Path) -> str:
    """The end of a sentence that names the file, among the first of its folder, whose name is nearest.

    A suffix that both have makes no names near.
    """
    try:
        beside = [one.name for one in islice(path.parent.iterdir(), NEAR_MAX)]
    except OSError:
        return ""
    return near(path.name, [one for one in beside if near(path.stem, [Path(one).stem])])


def scheme_of(path: Path, model_kind: str) -> str:
    """The scheme for a conversion nobody chose one for: a GGUF that is quantized is kept, and a checkpoint
    whose experts are MXFP4; one whose matrices are ternary is t2, all else is q4.
    """
    if model_kind == "gguf":
        from edgeq.formats.gguf import open_gguf

        floats = others = 0  # bytes
        for tensor in open_gguf(path).tensors.values():
            if tensor.type in FLOATS:
                floats += tensor.nbytes
            else:
                others += tensor.nbytes
        if others > floats:
            return KEEP
    return QUANTIZED.get(quantized_by(path), "q4") if model_kind == "directory" else "q4"


def quantized_by(path: Path) -> str:
    """How a checkpoint says that it is quantized, "" where it does not; what is wrong with it is told by who
    reads it.
    """
    from edgeq.formats import strictjson

    try:
        with (path / "config.json").open("rb") as file:
            raw = strictjson.parse(file.read(CONFIG_BYTES), "config.json")
    except (EdgeqError, OSError):
        return ""
    words = raw.get("quantization_config") if isinstance(raw, dict) else None
    method = words.get("quant_method") if isinstance(words, dict) else None
    return method if isinstance(method, str) else ""


def hub_name(model: str | os.PathLike[str]) -> Name | None:
    """The name on the hub that `model` is where nothing here is called so; None for all else.

    OWNER/NAME/FILE is a file that is missing where there is a directory OWNER; hf:// before it says that it
    is not.
    """
    text = model if isinstance(model, str) else Path(model).as_posix()
    name = None if os.path.exists(text) else parse(text)
    if name is not None and name.file is not None and os.path.isdir(text.partition("/")[0]):
        return None
    return name


def locate(
    model: str | os.PathLike[str],
    *,
    refresh: bool = False,
    tell: Tell | None = None,
    progress: Progress | None = None,
) -> Path | Snapshot:
    """The files of `model` on this machine, fetched from the hub where it is a hub name; see `hub.fetch`.

    UsageError where there is no such model. A Snapshot is a path, too, and knows where it is from.
    """
    if isinstance(model, Snapshot):
        return model
    name = hub_name(model)
    if name is not None:
        return fetch(name, refresh=refresh, tell=tell, progress=progress)
    kind(model)
    return Path(model)


def cached_path(path: Path, scheme: str, label: str | None = None) -> Path:
    """The cache's file for this source in its present state (path, size and time of each of its files) and
    scheme. It is called after the source, or `label`."""
    from edgeq import __version__

    if path.is_dir():
        path = path.resolve()
        stem = path.name  # of Qwen3-0.6B, ".6B" is no suffix
        files = sorted(p for p in path.iterdir() if p.is_file())
    else:
        from edgeq.formats.gguf import part_paths

        files = [part.resolve() for part in part_paths(path) if part.is_file()]
        path = files[0]
        stem = path.stem
    state = hashlib.sha256(f"{__version__}\0{CONVERSION}\0{scheme}\0".encode())
    for file in files:
        facts = file.stat()
        state.update(
            f"{os.fspath(file)}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode(errors="surrogateescape")
        )
    source = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in label or stem)
    name = name.encode()[:NAME_BYTES].decode(errors="ignore")
    return cache_directory() / f"{name}-{scheme}-{source}-{state.hexdigest()[:12]}.edgeq"


def resolve(
    model: str | os.PathLike[str],
    *,
    keep: bool = False,
    tell: Tell | None = None,
    progress: Progress | None = None,
) -> Path:
    """The .edgeq file for `model`, converted into the cache when it is something else; UsageError where
    there is no such model or no place for it, NetworkError where the hub does not give it.

    keep: no number of it is rounded. tell(line) is called with what is done, progress(done, total, what)
    while it is fetched and converted, with a file or a tensor.
    """
    tell = tell or quiet
    source = locate(model, tell=tell, progress=progress)
    path, label = Path(source), source.label if isinstance(source, Snapshot) else None
    model_kind = kind(source)
    if model_kind == "edgeq":
        return path
    scheme = KEEP if keep else scheme_of(path, model_kind)
    target = cached_path(path, scheme, label)
    if target.is_file():
        kept.use(target)
        tell(f"using {target}, converted earlier from {source}")
        return target
    from edgeq.converters import convert

    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the cache {target.parent} cannot be made ({error.strerror}): set XDG_CACHE_HOME to a directory "
            f"that can be written, or convert with `edgeq convert {model} -o FILE`"
        ) from None

    def sizes(output: int, stored: int) -> None:  # called once the source is found to be one
        tell(f"converting {source} to {scheme}, once, into {target}")
        if line := growth(output, stored):
            tell(line)
        kept.make_room(target.parent, output, tell)

    kept.limit_of(target.parent)  # a wrong EDGEQ_CACHE_LIMIT is told before the source is read
    convert(source, target, scheme=scheme, progress=progress, sizes=sizes, tell=tell, overwrite=True)
    kept.use(target)
    prefix = target.name.rsplit("-", 1)[0]
    for old in target.parent.glob(f"{prefix}-????????????.edgeq"):  # the same source in an earlier state
        if old != target:
            with suppress(OSError):  # it takes room, but what was asked for is there
                old.unlink()
    return target


def quiet(_: str) -> None:
    """Tell nobody."""


def growth(output: int, source: int) -> str:
    """What the result takes, in words, where that is notably more than what it is made from."""
    if output <= GROWTH * source:
        return ""
    return f"the result takes {size_of(output)}, {output / source:.2f} times the source's {size_of(source)}"
