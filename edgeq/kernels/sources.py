"""What kernels are compiled from."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from edgeq.formats import schemes

SCHEME_SOURCES = ("numbers.py", "scheme.py", "table.py")  # what a tag says of its scheme


@cache
def digest() -> str:
    """Of all that shapes machine code besides compiler and tag."""
    here = Path(__file__).parent
    paths = [*(here.parent / "simd").rglob("*.py"), *here.rglob("*.py")]
    tables = [Path(schemes.__file__).parent / name for name in SCHEME_SOURCES]
    found = hashlib.sha256()
    for path in (*tables, *sorted(p for p in paths if p.name != "meaning.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
