"""edgeq dtypes: the formats of numbers that schemes are made of."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option


@click.command("dtypes")
@json_option
def command(as_json: bool) -> None:
    """List the formats of numbers: bytes, bits of each field, and what they reach; then the integers that
    scales are multiplied by."""
    from edgeq.formats import NUMBERS
    from edgeq.formats.schemes import SUBS

    floats = [
        {
            "dtype": number.name,
            "bytes": number.nbytes,
            "sign": number.sign,
            "exponent": number.exponent,
            "mantissa": number.mantissa,
            "largest": number.largest,
            "normal": number.smallest_normal,
            "smallest": number.smallest,
        }
        for number in NUMBERS.values()
    ]
    integers = [{"sub_scale": name} | asdict(kind) for name, kind in SUBS.items()]
    if as_json:
        terminal.say_json({"dtypes": floats, "sub_scales": integers})
        return
    reach = ("largest", "normal", "smallest")
    rows = [[f"{row[name]:.7g}" if name in reach else row[name] for name in row] for row in floats]
    head = ("number", "bytes", "sign", "exponent", "mantissa", "largest", "smallest normal", "smallest")
    terminal.say(terminal.table(head, rows) + "\n")
    subs = [
        (
            row["sub_scale"],
            f"{row['low']} to {row['high']}",
            row["submin"] or "-",
            "yes" if row["chooses"] else "-",
        )
        for row in integers
    ]
    terminal.say(terminal.table(("sub-scale", "range", "min beside it", "chooses"), subs, left=4))
