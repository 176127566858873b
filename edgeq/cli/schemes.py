"""edgeq schemes: how the numbers of a matrix can be stored, and what rounding to each costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option

if TYPE_CHECKING:
    from edgeq.formats import Scheme

ROWS, COLUMNS = 256, 1024  # of a sample
FREEDOM = 4  # degrees of Student's t: about as heavy in its tails as weights


@click.command("schemes")
@json_option
def command(as_json: bool) -> None:
    """List the schemes: bits a weight, the parts of a matrix in the order of the file, what each takes.

    A scheme that takes any numbers rounds them; the others take what is in them already. The errors are
    those of rounding samples of a normal and of a Student t distribution, relative to the samples' size."""
    from edgeq.formats import SCHEMES

    rows = [facts(scheme) for scheme in SCHEMES.values() if scheme.planes or scheme.number]
    if as_json:
        terminal.say_json({"schemes": rows})
        return
    head = ("scheme", "parts", "takes", "bits/weight", "normal", "Student t")
    terminal.say(terminal.table(head, [cells(row) for row in rows], left=3))


def facts(scheme: Scheme) -> dict[str, Any]:
    """A row as a JSON-able dict."""
    from edgeq.formats import SCHEMES
    from edgeq.rounding import rounding_of

    rounds = not scheme.planes or rounding_of(scheme) is not None
    return {
        "scheme": scheme.name,
        "bits_per_weight": scheme.bits_per_weight,
        "parts": [
            {"name": part.name, "bits": part.bits or 8 * part.itemsize, "columns": part.columns}
            for part in scheme.parts
        ],
        "rounds": rounds,
        "holds": [other.name for other in SCHEMES.values() if scheme.holds(other)],
        "error": errors(scheme) if rounds else None,
    }


def errors(scheme: Scheme) -> dict[str, float]:
    """The size of what rounding changes, as a part of the size of the sample."""
    import numpy as np

    from edgeq.formats import decode, encode
    from edgeq.rounding import rounding_of

    random = np.random.default_rng(0)
    samples = {
        "normal": random.standard_normal((ROWS, COLUMNS)),
        "student_t": random.standard_t(FREEDOM, (ROWS, COLUMNS)),
    }
    found = {}
    for name, x in samples.items():
        change = decode(encode(x, scheme, rounding_of(scheme)), scheme, x.shape) - x
        found[name] = float(np.linalg.norm(change) / np.linalg.norm(x))
    return found


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row for a person: "scale 16/32" has 16 bits for 32 columns."""
    shared = [
        f"{part['name']} {part['bits']}" + ("" if part["columns"] == 1 else f"/{part['columns'] or 'row'}")
        for part in row["parts"]
    ]
    error = ("", "") if row["error"] is None else tuple(f"{value:.2g}" for value in row["error"].values())
    takes = "any numbers" if row["rounds"] else ", ".join(row["holds"])
    return row["scheme"], " + ".join(shared), takes, f"{row['bits_per_weight']:g}", *error
