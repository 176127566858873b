"""edgeq schemes and edgeq dtypes: the tables of the formats, computed from them."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

from edgeq.cli import convert
from edgeq.converters import CHOICES
from edgeq.formats import NUMBERS, SCHEMES, Scheme
from edgeq.formats.schemes import SUBS, Floats
from tests.cli.conftest import Call


def test_schemes_are_the_table(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is added is listed, with its parts and what rounding to it costs."""
    row = Scheme("toy6", planes=(4, 2), zero=32, scale=Floats("f16", 32))
    monkeypatch.setitem(SCHEMES, row.name, row)
    rows = {row["scheme"]: row for row in json.loads(call("schemes", "--json").out)["schemes"]}
    assert list(rows) == [name for name in SCHEMES if name != "bytes"]
    toy = rows["toy6"]
    assert toy["parts"] == [
        {"name": "low", "bits": 4, "columns": 1},
        {"name": "high", "bits": 2, "columns": 1},
        {"name": "scale", "bits": 16, "columns": 32},
    ]
    assert toy["bits_per_weight"] == 6.5 and toy["holds"] == ["q4", "q5", "fp4", "toy6"]
    assert rows["k4"]["error"] is None and rows["k4"]["holds"] == ["k4"] and not rows["k4"]["rounds"]
    for name in ("normal", "student_t"):
        errors = [rows[scheme]["error"][name] for scheme in ("q4", "q5", "toy6", "q8", "bf16", "f16", "f32")]
        assert sorted(errors, reverse=True)[:4] == errors[:4] and 0.05 < errors[0] < 0.2
        assert errors[6] < errors[5] < errors[4] < errors[3]
    lines = call("schemes").out.splitlines()
    assert len(lines) == len(rows) + 1
    assert any(line.startswith("toy6    low 4 + high 2 + scale 16/32 ") for line in lines)


def test_dtypes_are_computed_from_the_formats(call: Call) -> None:
    found = json.loads(call("dtypes", "--json").out)
    rows = {row["dtype"]: row for row in found["dtypes"]}
    assert list(rows) == list(NUMBERS) and [row["sub_scale"] for row in found["sub_scales"]] == list(SUBS)
    for name, type_ in (("f32", np.float32), ("f16", np.float16)):
        info, row = np.finfo(type_), rows[name]
        assert (row["largest"], row["normal"], row["smallest"]) == (
            float(info.max),
            float(info.smallest_normal),
            float(info.smallest_subnormal),
        )
        assert (row["exponent"], row["mantissa"]) == (info.iexp, info.nmant)
    assert rows["bf16"]["largest"] == 2.0**127 * (2 - 2.0**-7) and rows["bf16"]["smallest"] == 2.0**-133
    assert (rows["e4m3"]["largest"], rows["e4m3"]["smallest"]) == (448, 2.0**-9)
    assert (rows["e5m2"]["largest"], rows["e5m2"]["smallest"]) == (57344, 2.0**-16)
    assert (rows["e8m0"]["largest"], rows["e8m0"]["smallest"]) == (2.0**127, 2.0**-127)
    assert (rows["ue4m3"]["largest"], rows["ue4m3"]["smallest"]) == (448, 2.0**-9)
    for row in rows.values():
        unused = row["dtype"] == "ue4m3"  # a bit, where e4m3 has a sign
        assert row["sign"] + row["exponent"] + row["mantissa"] + unused == 8 * row["bytes"]
    assert "e8m0" in call("dtypes").out and "-32 to 31" in call("dtypes").out


def test_convert_takes_what_is_rounded_to(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    told = call("convert", str(demo_checkpoint), "-o", str(tmp_path / "out.edgeq"), "--scheme", "k4")
    assert told.code == 2 and f"scheme 'k4' is unknown; one of {', '.join(CHOICES)} or " in told.err
    option = next(option for option in convert.command.params if option.name == "scheme")
    words = [item.value for item in option.shell_complete(click.Context(convert.command), "q")]
    assert words == [name for name in CHOICES if name.startswith("q")]
