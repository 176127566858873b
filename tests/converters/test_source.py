"""What a source gives the pipeline."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.converters.source import Source, SourceTensor
from edgeq.formats.reader import FileMap


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and MADV_DONTNEED are Linux's")
def test_pages_of_a_source_go(tmp_path: Path) -> None:
    """What was read counts as memory until it is let go; then it is read again from the file."""

    def resident() -> int:
        words = Path("/proc/self/smaps").read_text().split(str(path))[1].split("\n")
        return next(int(word.split()[1]) << 10 for word in words if word.startswith("Rss:"))

    size = 4 << 20
    path = tmp_path / "pages"
    path.write_bytes(bytes(range(256)) * (size // 256))
    with path.open("rb") as file:
        data = FileMap.of(file, size, path).view(3, size - 3)
    total = int(data.sum())
    assert resident() == size
    tensor = SourceTensor("t", "F32", (1,), data)
    Source("gguf", "m", "llama", None, {"t": tensor, "free": replace(tensor, data=np.zeros(9, np.uint8))},  # type: ignore[arg-type]
           {}, lambda: None).let_pages_go()  # fmt: skip
    assert resident() == 0
    assert int(data.sum()) == total
