"""What a model file or a checkpoint's directory holds, as one JSON-able dict; nothing is converted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgeq.errors import EdgeqError, FormatError

if TYPE_CHECKING:
    from edgeq.converters.source import Source
    from edgeq.formats.gguf import GGUFFile
    from edgeq.models import BaseConfig

Facts = dict[str, Any]
T = TypeVar("T")

KNOWN = (
    "format", "family", "config", "tensors", "tokenizer", "chat_template", "generation", "license", "source",
    "quantization", "cache", "pooling", "required",
)  # fmt: skip


def edgeq_facts(model: str) -> Facts:
    """The facts of an .edgeq file."""
    from edgeq.formats import open_model
    from edgeq.models import check

    with open_model(model) as file:
        header = file.header
        config, refused = tried(lambda: check(file))
        tensors = [
            {
                "name": t.name,
                "scheme": t.scheme.name,
                "layout": t.layout,
                "shape": list(t.shape),
                "bytes": t.nbytes,
                "parts": {name: span.nbytes for name, span in t.geometry.spans.items()},
            }
            for t in file.tensors.values()
        ]
        return {
            "file": str(model),
            "kind": "edgeq",
            "bytes": file.bytes_total,
            "refused": refused,
            "family": file.family,
            "config": header["config"],
            "tokenizer": header.get("tokenizer"),
            "chat_template": header.get("chat_template"),
            "generation": header.get("generation") or {},
            "license": header.get("license"),
            "source": header.get("source") or {},
            "quantization": header.get("quantization") or {},
            "pooling": header.get("pooling") or {},
            "other": {name: value for name, value in header.items() if name not in KNOWN},
            "cache": cache_facts(config, header.get("cache")),
            "schemes": by_scheme(tensors),
            "tensors": tensors,
        }


def gguf_facts(model: str) -> Facts:
    """The same facts of a GGUF file, in its own words: metadata stands for config."""
    from edgeq.converters.gguf import open_file
    from edgeq.formats.gguf import open_gguf

    file = open_gguf(model)
    source, refused = tried(lambda: open_file(Path(model)))
    tensors = [
        {"name": t.name, "scheme": t.type, "layout": "gguf", "shape": list(t.shape), "bytes": t.nbytes}
        for t in file.tensors.values()
    ]
    config = {name: plain(value) for name, value in file.metadata.items()}
    template = config.pop("tokenizer.chat_template", None)
    return {
        "file": str(model),
        "kind": "gguf",
        "bytes": sum(path.stat().st_size for path in file.paths),
        "bytes_kept": kept_bytes(file),
        "refused": refused,
        "family": config.get("general.architecture"),
        "config": config,
        "tokenizer": {"kind": config.get("tokenizer.ggml.model")},
        "chat_template": template if isinstance(template, str) else None,
        "generation": {},
        "pooling": pooling_facts(source),
        "license": config.get("general.license"),
        "source": {},
        "quantization": {},
        "other": {},
        "cache": cache_facts(source.config if source else None),
        "schemes": by_scheme(tensors),
        "tensors": tensors,
    }


def directory_facts(model: str) -> Facts:
    """The same facts of a checkpoint's directory: its config.json, and the heads of its weights' files."""
    from edgeq.converters import huggingface, jsonfile
    from edgeq.converters.instead import no_checkpoint

    path = Path(model)
    folder = jsonfile.Folder(path)
    config = jsonfile.load(folder, "config.json")
    if config is None:
        raise FormatError(f"{model}: {no_checkpoint(path, 'the directory')}")
    source, refused = tried(lambda: huggingface.open_directory(path))
    stored, _ = tried(lambda: huggingface.weights(folder))
    tensors = [
        {"name": name, "scheme": dtype, "layout": "safetensors", "shape": list(shape), "bytes": data.size}
        for name, (dtype, shape, data) in (stored or {}).items()
    ]
    tokenizer = None
    if source is not None:
        tokenizer, refused = tried(source.tokenizer)
    return {
        "file": str(model),
        "kind": "directory",
        "bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        "refused": refused,
        "family": source.family if source else config.get("model_type"),
        "config": config,
        "tokenizer": tokenizer and tokenizer[0],
        "chat_template": source.chat_template if source else None,
        "generation": source.generation if source else {},
        "pooling": pooling_facts(source),
        "license": source.license if source else None,
        "source": {"left_out": list(source.left_out)} if source and source.left_out else {},
        "quantization": {},
        "other": {},
        "cache": cache_facts(source.config if source else None),
        "schemes": by_scheme(tensors),
        "tensors": tensors,
    }


def pooling_facts(source: Source | None) -> Facts:
    """What a source says of vectors, as a header has it."""
    return source.pooling.pooling.to_header() if source is not None and source.pooling else {}


def tried(read: Callable[[], T]) -> tuple[T | None, str | None]:
    """What `read` gives, or the sentence with which it refuses: show tells of every file that is one."""
    try:
        return read(), None
    except EdgeqError as error:
        return None, str(error)


def cache_facts(config: BaseConfig | None, named: Facts | None = None) -> Facts | None:
    """Bytes of the key-value cache for each token of a long context, by kind, and the kind that the file
    names; bytes of a sequence's states, whatever its length. None for a model that cannot run.
    """
    if config is None:
        return None
    from edgeq.cache import DEFAULT, KINDS, Plan
    from edgeq.cache.plan import LIVE

    most = config.max_position_embeddings
    plans = {name: Plan.of(kind, most, config.cache_layers()) for name, kind in KINDS.items()}
    sizes = {name: plan.token_bytes for name, plan in plans.items()}
    kind, states = (named or {}).get("kind", DEFAULT), LIVE * plans[DEFAULT].state_bytes
    return {"bytes_per_token": sizes, "tokens_max": most, "kind": kind, "state_bytes": states}


def kept_bytes(file: GGUFFile) -> int | None:
    """What `convert --scheme keep` makes of the tensors, in bytes; None where a type has no scheme."""
    from edgeq.formats import nbytes
    from edgeq.formats.ggml import TYPES

    total = 0
    for tensor in file.tensors.values():
        row = TYPES.get(tensor.type)
        if row is None or not row.scheme_name:
            return None
        if len(tensor.shape) == 1:
            total += 4 * tensor.shape[0]
            continue
        try:
            total += nbytes(row.scheme, "lines16", (math.prod(tensor.shape[:-1]), tensor.shape[-1]))
        except EdgeqError:  # show tells of every file that can be opened
            return None
    return total


def plain(value: Any) -> Any:
    """A value of GGUF metadata for JSON: arrays by their length, numbers that JSON lacks as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if hasattr(value, "__len__") and not isinstance(value, str):
        return f"[{len(value)} values]"
    return value


def by_scheme(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tensors, weights and bytes of each scheme, the largest first."""
    rows: dict[str, dict[str, Any]] = {}
    for tensor in tensors:
        row = rows.setdefault(
            tensor["scheme"], {"scheme": tensor["scheme"], "tensors": 0, "weights": 0, "bytes": 0}
        )
        count = 1
        for extent in tensor["shape"]:
            count *= extent
        row["tensors"] += 1
        row["weights"] += count
        row["bytes"] += tensor["bytes"]
    return sorted(rows.values(), key=lambda row: -row["bytes"])
