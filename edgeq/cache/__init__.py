"""The KV cache: its kinds, the pages that it lies on, and the memory that they share."""

from .kinds import KINDS, Kind, kind_of
from .plan import CacheLayer, LayerShape, Plan
from .pool import Page, PagePool
from .table import Table

__all__ = ["KINDS", "CacheLayer", "Kind", "LayerShape", "Page", "Plan", "PagePool", "Table", "kind_of"]
