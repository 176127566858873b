"""Models on the Hugging Face hub: what a name means, what of a repository is wanted, and how it gets here.

Whatever is fetched lies in the hub's own cache, which other programs share, and is held against the hub's
checksums.
"""

from .names import Name as Name
from .names import parse as parse
from .snapshot import Snapshot as Snapshot
from .snapshot import fetch as fetch
