"""ggml's tensor types, as files of others hold them: layouts, and their numbers as parts of our schemes."""

from .types import NUMBERED, TYPES, TensorType, described, name_of

__all__ = ["NUMBERED", "TYPES", "TensorType", "described", "name_of"]
