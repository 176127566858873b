"""From others' files to an .edgeq file: `convert(source, output)`. README.md says how to add a source."""

from edgeq.converters.pipeline import CHOICES, convert, open_source

__all__ = ["CHOICES", "convert", "open_source"]
