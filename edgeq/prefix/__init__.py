"""Prefixes: what was computed for the beginning of one text serves every other text that begins like it.

`Tree` has them in memory, `Folder` in files that other processes find, and `Prefixes` is what an engine
calls: before a prompt is computed, and when an answer has ended. Which tokens a page holds is decided by the
tokens themselves, compared one by one; a digest only names files.
"""

from __future__ import annotations

from .file import identity as identity
from .folder import Folder as Folder
from .pages import Found as Found
from .pages import Layout as Layout
from .pages import Page as Page
from .prefixes import Prefixes as Prefixes
from .tree import Tree as Tree
