"""The tokenizers of tests/tokenizer."""

from __future__ import annotations

from tests.tokenizer.conftest import demo, vocabulary

__all__ = ["demo", "vocabulary"]
