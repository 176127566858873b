"""From others' files to an .edgeq file: `convert(source, output)`. README.md says how to add a source."""

from edgeq.converters.pipeline import convert, open_source
from edgeq.converters.recipe import CHOICES, KEEP

__all__ = ["CHOICES", "KEEP", "convert", "open_source"]
