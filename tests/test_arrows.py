"""Imports point one way, and the light commands stay light.

The first half parses every import of the tree and compares it with the table below; the second starts fresh
interpreters and looks at what they really imported.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parent.parent

# part -> the parts of edgeq that it may import, at module level or inside functions. A module edgeq/NAME.py
# is the part NAME. Every part may import `errors` and the package itself (`from edgeq import __version__`).
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "formats": set(),
    "sizes": set(),
    "whole": set(),
    "ownership": set(),
    "arguments": set(),
    "passes": set(),
    "threads": set(),
    "simd": {"formats"},
    "catalog": {"formats", "simd"},  # the modules of edgeq.kernels below
    "kernels": {"catalog", "simd", "formats"},
    "packs": {"catalog", "cores", "formats", "ownership", "simd"},
    "memory": set(),
    "cache": {"catalog", "formats", "memory", "ownership"},
    "runtime": {"catalog", "cache", "formats", "memory", "ownership", "packs", "simd", "threads"},
    "cores": set(),
    "prefix": {"cores", "formats", "ownership"},
    "tuned": {"catalog", "formats", "whole"},
    "tune": {"ops", "catalog", "cores", "formats", "memory", "packs", "runtime", "simd", "tuned"},
    "ops": {"runtime", "catalog"},
    "models": {"cache", "ops", "runtime", "formats"},
    "tokenizer": {"formats"},
    "sampling": {"catalog", "packs", "simd"},
    "runner": {
        "models", "ops", "runtime", "packs", "tuned", "cores", "cache", "catalog", "memory",
        "simd", "formats", "ownership",
    },
    "sequence": {"arguments", "cache", "catalog", "ownership", "passes", "runtime"},
    "advance": {"arguments", "ownership", "passes", "sequence"},
    "defaults": {"arguments", "cache", "cores"},
    "reuse": {"cache", "catalog", "prefix"},
    "embed": {"arguments", "passes"},
    "engine": {
        "advance", "cache", "catalog", "defaults", "reuse", "runner", "sequence", "models", "packs",
        "formats", "ownership", "embed", "tokenizer", "generate", "chat", "library", "arguments", "passes",
        "prefix", "speculate", "tools",
    },
    "speculate": {"arguments", "passes"},
    "schedule": {"ownership", "passes", "speculate"},
    "structured": {"arguments"},
    "generate": {
        "arguments", "ownership", "passes", "sampling", "schedule", "speculate", "structured", "tokenizer",
    },
    "chat": {"arguments", "generate", "ownership", "sampling", "speculate", "tokenizer"},
    "tools": {"arguments", "chat", "generate", "structured"},
    "evaluate": {"arguments", "engine", "generate", "sampling", "tokenizer", "formats"},
    "rounding": {"formats"},
    "hub": {"formats", "whole"},
    "converters": {"embed", "formats", "hub", "models", "rounding", "tokenizer"},
    "library": {"converters", "formats", "hub", "sizes"},
    "calibrate": {
        "arguments", "cache", "chat", "converters", "formats", "models", "runtime", "tokenizer",
    },
    "quantize": {
        "arguments", "calibrate", "converters", "cores", "evaluate", "formats", "models", "rounding",
        "runtime", "tokenizer",
    },
    "serve": {"chat", "engine", "generate", "sampling", "schedule", "structured", "tokenizer", "tools"},
    "demo": set(),
    "__init__": {"chat", "converters", "engine"},
    "idle": set(),
    "ends": set(),
    "__main__": {"cli", "ends"},
    "cli": {
        "engine", "generate", "sampling", "speculate", "chat", "tokenizer", "evaluate", "converters",
        "models", "formats", "rounding", "calibrate", "quantize", "catalog", "simd", "packs", "cache",
        "demo", "cores", "embed", "serve", "tune", "tuned", "idle", "ends", "hub", "library", "sizes",
        "tools", "whole",
    },
}  # fmt: skip

# modules of edgeq.kernels that import no numba: what there is to know of kernels
CATALOG = {
    "catalog", "roles", "row", "rows_attention", "rows_experts", "rows_logits", "rows_recurrent", "sources",
    "table",
}  # fmt: skip

# imported only inside functions, so that nothing pays for them before it needs them
HEAVY = {
    "h11", "huggingface_hub", "jinja2", "llama_cpp", "llguidance", "msgspec", "numba", "llvmlite",
    "prometheus_client", "safetensors", "sentencepiece", "starlette", "tokenizers", "torch", "uvicorn",
}  # fmt: skip
HEAVY_ALLOWED = {
    "simd": {"numba", "llvmlite"},
    "kernels": {"numba", "llvmlite"},
    "rounding": {"numba"},
    "quantize": {"numba"},
    "serve": {"h11", "msgspec", "starlette", "uvicorn"},  # the whole part is imported late
}


def sources() -> Iterator[tuple[str, Path]]:
    """(part, file) of every product source; links are skipped, so each file comes once."""
    for name, part in (("formats", "formats"), ("converters", "converters")):
        for path in sorted((ROOT / name).rglob("*.py")):
            yield part, path
    for path in sorted((ROOT / "edgeq").rglob("*.py")):
        inside = path.relative_to(ROOT / "edgeq")
        if inside.parts[0] not in ("formats", "converters"):
            yield part_of(inside.with_suffix("").parts), path


def part_of(words: Sequence[str]) -> str:
    """The part of a module by its words below edgeq: ("models", "llama") is in models."""
    return "catalog" if words[0] == "kernels" and set(words[1:2]) & CATALOG else words[0]


def type_checking_lines(tree: ast.Module) -> set[int]:
    """Lines under `if TYPE_CHECKING:`: they are never run, so they are no arrows."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for inner in node.body:
                lines.update(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    return lines


def package_of(path: Path) -> list[str]:
    """The words of the package that a source file belongs to: formats/gguf.py is in edgeq.formats."""
    words = list(path.relative_to(ROOT).parent.parts) if path.is_relative_to(ROOT) else []
    return words if words[:1] == ["edgeq"] else ["edgeq", *words]


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(dotted module, line, at module level) of every import statement that can run."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    skipped = type_checking_lines(tree)
    top = {id(node) for node in tree.body}
    for block in tree.body:
        if isinstance(block, ast.If | ast.Try | ast.With):
            top.update(id(node) for node in ast.walk(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            home = package_of(path)[: -node.level + 1 or None] if node.level else []
            names = [".".join([*home, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            continue
        if node.lineno not in skipped:
            yield from ((name, node.lineno, id(node) in top) for name in names)


def test_every_part_is_in_the_table() -> None:
    assert {part for part, _ in sources()} <= set(ARROWS)
    assert all(target in ARROWS for targets in ARROWS.values() for target in targets)


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Parts that lead back to the first of them, or none."""
    left = {part: set(targets) for part, targets in arrows.items()}
    while ends := [part for part, targets in left.items() if not targets & left.keys()]:
        for part in ends:
            del left[part]
    path = list(left)[:1]
    while path and path[-1] not in path[:-1]:
        path.append(min(left[path[-1]] & left.keys()))
    return path[path.index(path[-1]) :] if path else []


def test_no_arrows_lead_in_a_circle() -> None:
    assert circle(ARROWS) == []
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": {"d", "b"}, "d": set()}) == ["b", "c", "b"]


def test_imports_follow_the_arrows() -> None:
    wrong = []
    for part, path in sources():
        for name, line, _ in imports(path):
            words = name.split(".")
            where = f"{path.relative_to(ROOT)}:{line}"
            if words[0] in ("formats", "converters", "tests", "bench"):
                wrong.append(f"{where}: {words[0]} is imported as edgeq.{words[0]}, or not at all")
            if words[0] != "edgeq" or len(words) == 1:
                continue
            target = part_of(tuple(words[1:]))
            if target in ARROWS and target not in {part, "errors", "__init__"} | ARROWS[part]:
                wrong.append(f"{where}: {part} may not import edgeq.{target}")
            if target not in ARROWS and (part == "errors" or target not in ("__version__", "load", "Model")):
                wrong.append(f"{where}: edgeq.{target} is no part of the table")
    assert not wrong, "\n".join(wrong)


def test_heavy_modules_are_imported_late() -> None:
    wrong = []
    for part, path in sources():
        for name, line, at_top in imports(path):
            module = name.split(".")[0]
            if at_top and module in HEAVY - HEAVY_ALLOWED.get(part, set()):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {module} is imported at module level")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder, most", [("edgeq", 400), ("edgeq/models/families", 200)])
def test_no_file_is_a_hub(folder: str, most: int) -> None:
    long = [path for _, path in sources() if path.is_relative_to(ROOT / folder)]
    assert long and not [path for path in long if len(path.read_text().splitlines()) > most]


def test_relative_imports_are_resolved() -> None:
    assert package_of(ROOT / "formats" / "gguf.py") == ["edgeq", "formats"]
    assert package_of(ROOT / "edgeq" / "models" / "llama.py") == ["edgeq", "models"]
    assert package_of(ROOT / "edgeq" / "engine.py") == ["edgeq"]


def test_a_wrong_arrow_is_seen(tmp_path: Path) -> None:
    """The parser behind the two tests above sees imports at module level, in functions and behind `try`."""
    source = tmp_path / "bad.py"
    source.write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "try:\n    import numba.core\nexcept ImportError:\n    pass\n"
        "def f():\n    from edgeq.engine import load\n"
        "from . import cli\nfrom .cli import run\n"
    )
    found = [item for item in imports(source) if item[0].split(".")[0] in ("torch", "numba", "edgeq")]
    assert sorted(found, key=lambda item: item[1]) == [
        ("numba.core", 6, True),
        ("edgeq.engine.load", 10, False),
        ("edgeq.cli", 11, True),
        ("edgeq.cli.run", 12, True),
    ]


REPORT = """
import json, sys
found = [name for name in ("huggingface_hub", "llguidance", "llvmlite", "numba") if name in sys.modules]
print(json.dumps(found), file=sys.stderr)
"""


def heavy_after(code: str) -> list[str]:
    """What a fresh interpreter has imported of the heavy modules after running `code`."""
    command = [sys.executable, "-c", code + REPORT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stderr.splitlines()[-1])
    return loaded


MODULES = [
    "edgeq", "edgeq.calibrate.texts", "edgeq.chat.conversation", "edgeq.cli", "edgeq.converters",
    "edgeq.demo", "edgeq.errors", "edgeq.formats", "edgeq.formats.gguf", "edgeq.formats.schemes",
    "edgeq.generate", "edgeq.hub", "edgeq.library", "edgeq.models", "edgeq.models.families.llama",
    "edgeq.models.families.gemma3", "edgeq.models.families.qwen3", "edgeq.packs.store", "edgeq.rounding",
    "edgeq.structured", "edgeq.tools",
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_importing_is_light(module: str) -> None:
    assert heavy_after(f"import {module}\n") == []
