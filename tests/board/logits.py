"""The bits that a processor makes of models: run on the host and on every emulated board, then compared.

usage: python logits.py '[{"model": PATH, "tokens": N, "single": M, "options": {...}}, …]'

For each case N tokens are fed at once, again in pieces of seven, and the first M of them one by one, which
must agree. It prints a line of JSON: the instruction set, the SHA-256 of each case's logits, and which
compilers were imported. It needs edgeq and nothing of this tree.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import numpy as np

import edgeq

COMPILERS = ("numba", "llvmlite")
PIECE = 7  # tokens


def digest(case: dict[str, Any]) -> tuple[str, str]:
    """(instruction set, SHA-256 of the logits) of one case; options go to `edgeq.load`."""
    with edgeq.load(case["model"], **case["options"]) as model:
        ids = [1, *(3 + 37 * n % (model.vocab_size - 3) for n in range(case["tokens"] - 1))]
        logits = model.logits(ids)
        for step, count in ((PIECE, len(ids)), (1, case["single"])):
            sequence = model.sequence()
            for at in range(0, count, step):
                piece = ids[at : at + step]
                if sequence.feed(piece).tobytes() != logits[at + len(piece) - 1].tobytes():
                    raise SystemExit(
                        f"{case['model']}: {step} tokens at {at} give other bits than all at once"
                    )
        if not np.isfinite(logits).all() or not logits.any():
            raise SystemExit(f"{case['model']}: the logits are not finite or all zero")
        return model.isa, hashlib.sha256(logits.tobytes()).hexdigest()


def main() -> None:
    found = [digest(case) for case in json.loads(sys.argv[1])]
    (isa,) = {isa for isa, _ in found}
    compilers = [name for name in COMPILERS if name in sys.modules]
    print(json.dumps({"isa": isa, "digests": [sha for _, sha in found], "compilers": compilers}))


if __name__ == "__main__":
    main()
