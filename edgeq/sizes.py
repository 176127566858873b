"""Numbers of bytes as people write them: 700M, 1.5G, 2GiB."""

from __future__ import annotations

import re

UNITS = {
    "": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40,
}  # fmt: skip
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?[iI]?)[bB]?", re.ASCII)
DIGITS_MAX = 30


def bytes_in(text: str) -> int | None:
    """The number of bytes; None where the text says none."""
    match = SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in UNITS or len(match[1]) > DIGITS_MAX:
        return None
    return int(float(match[1]) * UNITS[match[2].upper()])
