"""formats/README.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from edgeq.formats import NUMBERS, SCHEMES, header, layout
from edgeq.formats.schemes import SUBS, table
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
    """The table's cells, made from each row as the page writes them."""
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|.*\|$", PAGE.split("## Schemes")[1], re.MULTILINE)
    written = {name: [cell.strip() for cell in cells.split("|")] for name, cells in lines if name in SCHEMES}
    tables = {name: value for name, value in vars(table).items() if name.isupper() and type(value) is tuple}
    names = {value: name for name, value in tables.items()}
    for row in SCHEMES.values():
        assert f"`{row.name}`" in PAGE
        if row.floats:
            part = f"/{1 / row.unit:g}" if row.unit != 1 else ""
            shared = [f"{of.number}{part}, {of.columns}" if of else "" for of in (row.scale, row.min)]
            shared.append(row.row.number + ", the same" * row.tensor if row.row else "")
            meaning = f"code − {row.zero}" if row.zero else row.number or "code"
            index = "code" if len(row.tables) == 1 else f"code + {1 << row.bits} · choice"
            meaning = f"{names[row.table]}[{index}]" if row.table else meaning
            meaning += f" − {names[row.zeros]}" if row.zeros != (0,) else ""
            sub = f"{row.sub.kind}, {row.sub.columns}" if row.sub else ""
            bits = f"{row.bits_per_weight:g}"
            assert written[row.name] == [str(row.bits or ""), meaning, sub, *shared, bits], row.name
    for name, value in tables.items():
        assert f"{name} = {' '.join(map(str, value))}".replace("-", "−") in PAGE.replace("\n", " ")
    assert {f"`{name}`" for name in (*SUBS, *NUMBERS)} <= set(re.findall(r"`[\w+]+`", PAGE))


def test_header_keys_magic_and_limits_are_the_code() -> None:
    keys = re.findall(r"^\| `(\w+)` \| ", PAGE.split("## Header")[1].split("A tensor is")[0], re.MULTILINE)
    assert set(keys) == {"format", "tensors", "quantization", "cache", "pooling", *HEADER}
    assert set(header._FIELDS) <= set(keys)
    assert header.MAGIC.hex(" ") in PAGE
    assert (header.HEADER_BYTES_MAX, header.MARKS_MAX, header.DEPTH_MAX) == (16 << 20, 1 << 20, 32)
    assert (layout.ALIGNMENT, layout.ALIGNMENT_LARGE, layout.LARGE_BYTES) == (64, 65536, 1 << 20)


def test_every_file_of_the_folder_is_on_the_page() -> None:
    folders = (ROOT / "formats", ROOT / "formats" / "schemes", ROOT / "formats" / "ggml")
    files = {path.name for folder in folders for path in folder.glob("*.py")} - {"__init__.py"}
    assert files == set(re.findall(r"`(\w+\.py)`", PAGE.split("## Code")[1]))
