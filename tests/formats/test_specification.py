"""formats/README.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from edgeq.formats import SCHEMES, header, layout
from tests.formats.samples import HEADER

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "formats" / "README.md").read_text(encoding="utf-8")


def test_every_rule_names_tests_that_exist() -> None:
    rules = set(re.findall(r"\*\*(R\d+)\*\*", PAGE))
    table = PAGE.split("## Which test breaks which rule")[1]
    assert rules and rules == set(re.findall(r"R\d+", table))
    written = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", table)
    assert named and [name for name in named if f"def {name}(" not in written] == []


def test_schemes_are_the_table() -> None:
    rows = re.findall(r"^\| `(q\d)` \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) bits a weight", PAGE, re.MULTILINE)
    assert {name: tuple(map(float, rest)) for name, *rest in rows} == {
        row.name: (row.bits, row.group, row.zero, row.bits_per_weight) for row in SCHEMES.values() if row.bits
    }
    assert set(SCHEMES) <= set(re.findall(r"`(\w+)`", PAGE))


def test_header_keys_magic_and_limits_are_the_code() -> None:
    keys = re.findall(r"^\| `(\w+)` \| ", PAGE.split("## Header")[1].split("A tensor is")[0], re.MULTILINE)
    assert set(keys) == {"format", "tensors", *HEADER}
    assert header.MAGIC.hex(" ") in PAGE
    assert (header.HEADER_BYTES_MAX, header.MARKS_MAX, header.DEPTH_MAX) == (16 << 20, 1 << 20, 32)
    assert (layout.ALIGNMENT, layout.ALIGNMENT_LARGE, layout.LARGE_BYTES) == (64, 65536, 1 << 20)


def test_every_file_of_the_folder_is_on_the_page() -> None:
    files = {path.name for path in (ROOT / "formats").glob("*.py")} - {"__init__.py"}
    assert files == set(re.findall(r"`(\w+\.py)`", PAGE.split("## Code")[1]))
