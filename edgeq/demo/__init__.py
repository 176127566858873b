"""A bundled checkpoint that tells stories: stories260K of llama2.c (MIT, its licence lies beside it)."""

from __future__ import annotations

from pathlib import Path


def checkpoint() -> Path:
    """The directory of the bundled Hugging Face checkpoint."""
    return Path(__file__).resolve().parent / "stories260K"
