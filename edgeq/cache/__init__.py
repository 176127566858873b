"""The KV cache: its kinds, the pages that it lies on, and the memory that they share."""

from .kinds import DEFAULT, KINDS, Kind, kind_of, stored
from .layout import PageLayout
from .plan import CacheLayer, LayerShape, Plan
from .pool import Page, PagePool
from .table import Narrowing, Table

__all__ = [
    "DEFAULT",
    "KINDS",
    "CacheLayer",
    "Kind",
    "LayerShape",
    "Narrowing",
    "Page",
    "PageLayout",
    "PagePool",
    "Plan",
    "Table",
    "kind_of",
    "stored",
]
