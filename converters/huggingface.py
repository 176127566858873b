"""The source `huggingface`: a directory with config.json and safetensors weights, one file or shards."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq.converters import jsonfile, mxfp4, pooling, safetensors, ternary, wrapped
from edgeq.converters.conversation import checked_template, token_ids
from edgeq.converters.instead import INDEX, no_checkpoint, no_weights
from edgeq.converters.jsonfile import Folder
from edgeq.converters.multiplied import multiplied, untied
from edgeq.converters.source import (
    Source,
    SourceTensor,
    checked_tensors,
    is_dead,
    layer_numbers,
    made_of,
    shared_tensors,
)
from edgeq.errors import FormatError, Troubles, UnsupportedError
from edgeq.models import BaseConfig, expected, family, row_of

SHARDS_MAX = 4096
# Sampling defaults: whole numbers only, least, most.  The sampler takes all of these.
GENERATION_NUMBERS: dict[str, tuple[bool, float, float]] = {
    "temperature": (False, 0.0, 1e6),
    "top_k": (True, -1, 2**31 - 1),
    "top_p": (False, 0.0, 1.0),
    "min_p": (False, 0.0, 1.0),
    "repetition_penalty": (False, 1e-6, 1e6),
    "presence_penalty": (False, -1e6, 1e6),
    "frequency_penalty": (False, -1e6, 1e6),
}
NOTE_BYTES = 1 << 16  # of a descriptive file, from its start


def open_directory(
    path: Path,
    *,
    kind: str = "huggingface",
    name: str | None = None,
    revision: str | None = None,
    follow_links: Path | None = None,
) -> Source:
    """Open a checkpoint directory; UnsupportedError or FormatError says what is wrong with it.

    Links in it may lead into the directory follow_links, and nowhere else.
    """
    folder = Folder(path, follow_links)
    raw = jsonfile.load(folder, "config.json")
    if raw is None:
        raise FormatError(no_checkpoint(path, name or "the directory"))
    seen = wrapped.text_config(raw)
    raw = raw if seen is None else seen
    troubles, found = Troubles(), dict[str, SourceTensor]()
    form, coded = None, mxfp4.is_form(raw)
    with troubles.noted():
        if (form := ternary.form_of(raw)) or coded:
            raw = {key: value for key, value in raw.items() if key != "quantization_config"}
    with troubles.noted():
        stored = weights(folder, name or "the directory")
        guessing = seen is None
        stored, others = wrapped.apart(stored, wrapped.GUESSING) if guessing else wrapped.text_tensors(stored)
        found = {
            key: SourceTensor(key, dtype, shape, data)
            for key, (dtype, shape, data) in stored.items()
            if not is_dead(key)
        }
        found = ternary.unpacked(found, form) if form and form.packed else found
        found = mxfp4.unpacked(found) if coded else found
    with troubles.noted():
        raw["model_type"], family_name = row_of(raw)
        module = family(family_name)
        raw |= layer_numbers(getattr(module, "NUMBERS", {}), found)
        config: BaseConfig = module.Config.from_hf(raw)
    troubles.tell()
    # a model that gives vectors may have no head, whatever its config says of one
    found = _whole_names(family_name, found)
    flag = None if pooling.gives_vectors(folder) else raw.get("tie_word_embeddings")
    found, tied = shared_tensors(family_name, found, lambda row: row.hf, flag)
    factors = module.factors(raw) if hasattr(module, "factors") else {}
    if tied and factors.get("embed") != factors.get("output"):
        found, tied = untied(family_name, found), False
    config = replace(config, tie_word_embeddings=tied)
    own = name or path.resolve().name.encode("utf-8", "replace").decode()
    tensors = checked_tensors(family_name, config, found, lambda want: want.hf)
    tensors = multiplied(tensors, factors, config)
    if form and not form.packed:
        roles = {want.name: want.role for want in expected(family_name, config)}
        tensors = {key: ternary.rounded(t) if roles[key] == "matrix" else t for key, t in tensors.items()}
    pooled = pooling.from_directory(folder, family_name, own, tensors)
    return Source(
        kind=kind,
        name=own,
        revision=revision,
        family=family_name,
        config=config,
        tensors=tensors,
        made=made_of(type(config).ropes(raw), config),
        tokenizer=lambda: _tokenizer(folder, config.WHOLE or pooled is not None),
        chat_template=checked_template(_template(folder)),
        generation=_generation(folder, raw, config.vocab_size),
        license=_license(folder),
        left_out=tuple(sorted(others)),
        pooling=pooled,
    )


def _tokenizer(folder: Folder, pooled: bool) -> tuple[dict[str, Any], bytes] | None:
    from edgeq.converters import tokenizers

    return tokenizers.from_directory(folder, pooled=pooled)


def _whole_names(family_name: str, found: dict[str, SourceTensor]) -> dict[str, SourceTensor]:
    """The tensors as a model with a head names them: savers of one without it leave "model." out."""
    usual = {str(row.hf_name) for row in family(family_name).TENSORS if row.hf_name}
    inner = {name for name in usual if name.startswith("model.") and "{i}" not in name}
    if any(name in found for name in inner) or not any(f"model.{name}" in inner for name in found):
        return found
    return {name if name in usual else f"model.{name}": tensor for name, tensor in found.items()}


def weights(folder: Folder, what: str = "the directory") -> dict[str, Any]:
    """{name: (dtype, shape, data)} of model.safetensors, or of all shards that the index names.

    `what` is the checkpoint's name in errors.
    """
    single = folder.inside("model.safetensors")
    if single.is_file():
        return safetensors.read(single)
    index = jsonfile.load(folder, INDEX)
    if index is None:
        raise UnsupportedError(f"{what} cannot be read: {no_weights(folder.path)}")
    places = index.get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise FormatError(
            f"{INDEX}: weight_map is missing or wrong; an object {{tensor: file name}} is needed"
        )
    shards = sorted(set(places.values()))
    if not 1 <= len(shards) <= SHARDS_MAX:
        raise FormatError(f"{INDEX}: weight_map names {len(shards)} files; 1 to {SHARDS_MAX} are allowed")
    found: dict[str, Any] = {}
    absent = [shard for shard in shards if not _shard(folder, shard).is_file()]
    if absent:
        more = f" and {len(absent) - 1} more of {len(shards)} are" if len(absent) > 1 else " is"
        raise FormatError(
            f"{INDEX}: shard {absent[0]!r:.80}{more} not in {folder.name!r}; download all of the checkpoint"
        )
    for shard in shards:
        file = _shard(folder, shard)
        for name, entry in safetensors.read(file).items():
            if places.get(name) != shard:
                raise FormatError(
                    f"{shard}: tensor {name!r:.80} is not in the index's weight_map for this shard"
                )
            found[name] = entry
    missing = sorted(set(places) - set(found))
    if missing:
        raise FormatError(
            f"{places[missing[0]]}: tensor {missing[0]!r:.80} is missing, but {INDEX} promises it"
        )
    return found


def _shard(folder: Folder, name: str) -> Path:
    """Where a file is that the index names."""
    if not name.endswith(".safetensors"):
        raise FormatError(f"{INDEX}: shard {name!r:.80} is no .safetensors file")
    return folder.inside(name)


def _template(folder: Folder) -> str | None:
    """The chat template: chat_template.jinja, or tokenizer_config.json (of a list, the default)."""
    template: Any = jsonfile.text(folder, "chat_template.jinja")
    if template is None:
        template = (jsonfile.load(folder, "tokenizer_config.json") or {}).get("chat_template")
    if template is None:
        template = (jsonfile.load(folder, "chat_template.json") or {}).get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise FormatError(f"chat_template is {template!r:.80}, but a text is needed")
    return template


def _generation(folder: Folder, raw: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """Token ids that end a text, and sampling defaults; generation_config.json goes before config.json."""
    words = jsonfile.load(folder, "generation_config.json") or {}
    generation: dict[str, Any] = {}
    for key in ("bos_token_id", "eos_token_id"):
        ids = token_ids(words.get(key, raw.get(key)), key, vocab_size)
        if ids:
            generation[key] = ids if key == "eos_token_id" else ids[0]
    for key, (whole, least, most) in GENERATION_NUMBERS.items():
        value: Any = words.get(key)
        if type(value) not in (int, float) or not least <= value <= most:
            continue
        if not whole:
            generation[key] = value
        elif value == int(value):
            generation[key] = int(value)
    if isinstance(words.get("do_sample"), bool):
        generation["do_sample"] = words["do_sample"]
    return generation


def _license(folder: Folder) -> str | None:
    """The licence's name from the front matter of README.md, or else the first line of LICENSE."""
    lines = _note(folder, "README.md")
    if lines and lines[0].startswith("---"):
        front = "\n".join(itertools.takewhile(lambda line: not line.startswith("---"), lines[1:]))
        words = dict(
            re.findall(r"^(license|license_name):[ \t]*[\"']?([^\"'\n]{1,200}?)[\"']?[ \t]*$", front, re.M)
        )
        name = words.get("license_name") or words.get("license")
        if name:
            return name
    for file in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        for line in _note(folder, file):
            if line.strip("# \t"):
                return line.strip("# \t")[:200]
    return None


def _note(folder: Folder, name: str) -> list[str]:
    """The printable lines of a file that only describes; no lines where it cannot be read."""
    try:
        data = jsonfile.start(folder, name, NOTE_BYTES)
    except (FormatError, OSError):
        return []
    text = data.decode("utf-8-sig", "replace")
    return ["".join(c if c.isprintable() else " " for c in line) for line in text.splitlines()]
