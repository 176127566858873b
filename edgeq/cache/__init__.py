"""The KV cache: its kinds, the pages that it lies on, and the memory that they share."""

from .kinds import DEFAULT, KINDS, Kind, kind_of, stored
from .layout import PageLayout
from .plan import CacheLayer, LayerShape, Plan, StateShape
from .pool import Page, PagePool
from .states import StateLayer
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
    "StateLayer",
    "StateShape",
    "Table",
    "kind_of",
    "stored",
]
