"""What ollama's clients ask of the model."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from edgeq import __version__
from edgeq.serve.served import Served, predicts

VERSION = "0.12.0"  # of the dialect: clients ask for one that is new enough


def version(_: Sequence[Served]) -> dict[str, str]:
    return {"version": VERSION, "edgeq": __version__}


def _details(served: Served) -> dict[str, Any]:
    facts = served.facts
    family = served.model.file.family
    return {
        "format": "edgeq",
        "family": family,
        "families": [family],
        "parameter_size": f"{facts['n_params'] / 1e9:.1f}B",
        "quantization_level": facts["quant"],
    }


def tags(all: Sequence[Served]) -> dict[str, Any]:
    """The models that there are."""
    return {"models": list(map(_tag, all))}


def _tag(served: Served) -> dict[str, Any]:
    made = datetime.datetime.fromtimestamp(served.created, datetime.UTC).isoformat()
    name = f"{served.name}:latest"
    head = {"name": name, "model": name, "modified_at": made, "size": served.bytes}
    return {**head, "digest": served.fingerprint, "details": _details(served)}


def ps(all: Sequence[Served]) -> dict[str, Any]:
    """Those that are loaded: all of them, and they stay."""
    stays = {"expires_at": "9999-01-01T00:00:00Z", "size_vram": 0}
    return {"models": [{**_tag(served), **stays} for served in all]}


def show(served: Served, data: Mapping[str, Any]) -> dict[str, Any]:
    template = served.template or served.model.chat_template or ""
    family = served.model.file.family
    can = {
        "completion": predicts(served.model),
        "tools": predicts(served.model) and bool(template),
        "thinking": "thinking" in template,
        "embedding": served.model.pooling is not None,
    }
    info = {"general.architecture": family, f"{family}.context_length": served.model.context}
    return {
        "details": _details(served),
        "model_info": {**info, "general.parameter_count": served.facts["n_params"]},
        "capabilities": [name for name, is_so in can.items() if is_so],
        "template": template,
        "parameters": "",
    }
