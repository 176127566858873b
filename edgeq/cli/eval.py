"""edgeq eval: how well a model predicts a text, and how far it is from a reference."""

from __future__ import annotations

import click


@click.group("eval")
def command() -> None:
    """Measure quality: perplexity of a text, divergence from a reference model."""
