"""The KV cache: its kinds, the pages that it lies on, and the memory that they share."""

from .kinds import DEFAULT, KINDS, Kind, kind_of, stored
from .layout import PageLayout
from .plan import BothShape, CacheLayer, LayerShape, Plan, Shape, States, StateShape
from .pool import Page, PagePool
from .states import StateLayer
from .table import Narrowing, Table

__all__ = [
    "DEFAULT",
    "KINDS",
    "BothShape",
    "CacheLayer",
    "Kind",
    "LayerShape",
    "Narrowing",
    "Page",
    "PageLayout",
    "PagePool",
    "Plan",
    "Shape",
    "StateLayer",
    "StateShape",
    "States",
    "Table",
    "kind_of",
    "stored",
]
