"""edgeq show: what a model file holds, read from its header alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option, model_argument
from edgeq.errors import EdgeqError, UsageError
from edgeq.library.find import kind

if TYPE_CHECKING:
    from edgeq.formats import ModelFile
    from edgeq.formats.gguf import GGUFFile

SHORT = 120  # characters of a value in the overview
CONTEXTS = (2048, 8192)  # tokens, for which the overview says what the cache takes


@click.command("show")
@model_argument
@click.option("--tensors", is_flag=True, help="Every tensor: scheme, layout, shape, bytes.")
@click.option("--template", is_flag=True, help="The chat template and nothing else.")
@json_option
def command(model: str, tensors: bool, template: bool, as_json: bool) -> None:
    """Show what MODEL (an .edgeq or .gguf file) holds. Nothing is converted and nothing of the file is
    run."""
    found = kind(model)
    if found == "directory":
        raise UsageError(f"{model} is a directory: show takes an .edgeq or a .gguf file")
    facts = (edgeq_facts if found == "edgeq" else gguf_facts)(model)
    if template:
        if facts["chat_template"] is None:
            raise UsageError(f"{model} has no chat template")
        if as_json:
            terminal.say_json({"chat_template": facts["chat_template"]})
        else:
            terminal.say(facts["chat_template"])
    elif as_json:
        terminal.say_json(
            facts if tensors else {name: value for name, value in facts.items() if name != "tensors"}
        )
    else:
        terminal.say(overview(facts))
        if tensors:
            rows = [
                (t["name"], t["scheme"], t["layout"], "×".join(map(str, t["shape"])), t["bytes"])
                for t in facts["tensors"]
            ]
            terminal.say(
                "\n" + terminal.table(("tensor", "scheme", "layout", "shape", "bytes"), rows, left=3)
            )


def edgeq_facts(model: str) -> dict[str, Any]:
    """The facts of an .edgeq file as one JSON-able dict."""
    from edgeq.formats import open_model

    with open_model(model) as file:
        header = file.header
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
        known = (
            "format",
            "family",
            "config",
            "tensors",
            "tokenizer",
            "chat_template",
            "generation",
            "license",
            "source",
            "quantization",
            "required",
        )
        return {
            "file": str(model),
            "kind": "edgeq",
            "bytes": file.bytes_total,
            "family": file.family,
            "config": header["config"],
            "tokenizer": header.get("tokenizer"),
            "chat_template": header.get("chat_template"),
            "generation": header.get("generation") or {},
            "license": header.get("license"),
            "source": header.get("source") or {},
            "quantization": header.get("quantization") or {},
            "other": {name: value for name, value in header.items() if name not in known},
            "cache": cache_facts(file),
            "schemes": by_scheme(tensors),
            "tensors": tensors,
        }


def cache_facts(file: ModelFile) -> dict[str, Any] | None:
    """Bytes of the key-value cache for each token of context, by kind; None for a model that cannot run."""
    from edgeq.cache import KINDS, CacheShape
    from edgeq.models import check

    try:
        c = check(file)
    except EdgeqError:  # show tells of every file that can be opened
        return None
    shapes = {
        kind: CacheShape.of(kind, c.num_hidden_layers, c.num_key_value_heads, c.head_dim, 1) for kind in KINDS
    }
    sizes = {kind: shape.nbytes // shape.capacity for kind, shape in shapes.items()}
    return {"bytes_per_token": sizes, "tokens_max": c.max_position_embeddings}


def gguf_facts(model: str) -> dict[str, Any]:
    """The same facts of a GGUF file, in its own words: metadata stands for config."""
    from edgeq.formats.gguf import open_gguf

    file = open_gguf(model)
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
        "family": config.get("general.architecture"),
        "config": config,
        "tokenizer": {"kind": config.get("tokenizer.ggml.model")},
        "chat_template": template if isinstance(template, str) else None,
        "generation": {},
        "license": config.get("general.license"),
        "source": {},
        "quantization": {},
        "other": {},
        "cache": None,
        "schemes": by_scheme(tensors),
        "tensors": tensors,
    }


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


def overview(facts: dict[str, Any]) -> str:
    """The facts as lines for a person; every value of the file is one line, cleaned and shortened."""
    weights = sum(row["weights"] for row in facts["schemes"] if row["scheme"] != "bytes")
    lines = [
        f"file        {facts['file']}",
        f"size        {terminal.size(facts['bytes'])}, {len(facts['tensors'])} tensors, {weights:,} weights",
        f"family      {facts['family']}",
    ]
    tokenizer = facts["tokenizer"]
    lines.append(f"tokenizer   {tokenizer.get('kind') if isinstance(tokenizer, dict) else 'none'}")
    template = facts["chat_template"]
    lines.append(f"template    {f'{len(template)} characters (--template shows it)' if template else 'none'}")
    if isinstance(facts["generation"], dict) and facts["generation"].get("do_sample") is False:
        lines.append("sampling    none: the likeliest token (do_sample is false), unless --temp is given")
    lines.append(f"license     {facts['license'] or 'not given'}")
    if facts.get("bytes_kept"):
        lines.append(f"kept        {terminal.size(facts['bytes_kept'])} as an .edgeq file (--scheme keep)")
    if facts["cache"]:
        lines.append(f"cache       {cache_line(**facts['cache'])}")
    for name in ("source", "quantization", "generation", "other", "config"):
        values = facts[name]
        if isinstance(values, dict) and values:
            lines += ["", f"{name}:"] + [f"  {key}: {short(value)}" for key, value in values.items()]
    rows = [
        (
            row["scheme"],
            row["tensors"],
            f"{row['weights']:,}",
            row["bytes"],
            f"{8 * row['bytes'] / row['weights']:.2f}",
        )
        for row in facts["schemes"]
        if row["weights"]
    ]
    head = ("scheme", "tensors", "weights", "bytes", "bits/weight")
    return "\n".join(map(terminal.one_line_kept, lines)) + "\n\n" + terminal.table(head, rows)


def cache_line(bytes_per_token: dict[str, int], tokens_max: int) -> str:
    """What the context costs: a token, and contexts that the model can have."""
    size = bytes_per_token["q8"]
    known = sorted({min(tokens, tokens_max) for tokens in CONTEXTS})
    return f"{terminal.size(size)} a token: " + ", ".join(
        f"{terminal.size(size * tokens)} for {tokens}" for tokens in known
    )


def short(value: Any) -> str:
    text = terminal.one_line(str(value))
    return text if len(text) <= SHORT else text[:SHORT] + "…"
