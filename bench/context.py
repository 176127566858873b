"""How speed holds up as the context grows: one engine against itself, short and long, in turns.

usage: python -m bench.context MODEL [--engine edgeq] [--threads 1] [--repeat 3] [--kv q8]

MODEL is an .edgeq file (a .gguf for --engine llamacpp). It compares decode after 64 tokens with decode after
4096, and prefill of 256 tokens with prefill of 2048. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict

from bench.peers import Worker, say, warn_if_busy

DECODE_TOKENS = 32
NEAR, FAR = 64, 4096  # positions
SHORT, LONG = 256, 2048  # tokens of prefill


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.context", description=__doc__, formatter_class=raw)
    parser.add_argument("model")
    parser.add_argument("--engine", default="edgeq", choices=["edgeq", "llamacpp"])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the engine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--kv", default="q8", choices=["q8", "f16", "f32"], help="edgeq's cache")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    warn_if_busy()
    options = {"model": arguments.model, "threads": arguments.threads, "kv": arguments.kv}
    rates: dict[str, list[float]] = defaultdict(list)
    with (
        Worker(arguments.engine, {**options, "context": NEAR + LONG}, arguments.python) as short,
        Worker(arguments.engine, {**options, "context": FAR + DECODE_TOKENS}, arguments.python) as far,
    ):
        say(f"filling {FAR} positions")
        far.ask(do="decode", prompt=FAR, tokens=1)
        for turn in range(arguments.repeat):
            for tokens in (SHORT, LONG):
                seconds = short.ask(do="prefill", tokens=tokens)["seconds"]
                rates[f"prefill_{tokens}_tps"].append(tokens / seconds)
            for worker, position in ((short, NEAR), (far, FAR)):
                seconds = worker.ask(do="decode", prompt=position, tokens=DECODE_TOKENS)["seconds"]
                rates[f"decode_at_{position}_tps"].append(DECODE_TOKENS / seconds)
            say(f"  turn {turn + 1}: " + "  ".join(f"{key} {value[-1]:.1f}" for key, value in rates.items()))
    middle = {key: round(statistics.median(values), 3) for key, values in rates.items()}
    decode = middle[f"decode_at_{FAR}_tps"] / middle[f"decode_at_{NEAR}_tps"]
    prefill = middle[f"prefill_{LONG}_tps"] / middle[f"prefill_{SHORT}_tps"]
    for name, value in middle.items():
        print(f"{name:20} {value:9.2f}")
    print(f"decode at {FAR} keeps {decode:.0%} of the rate at {NEAR}")
    print(f"prefill of {LONG} keeps {prefill:.0%} of the rate of {SHORT}")
    print(json.dumps({**vars(arguments), **middle, "decode_kept": decode, "prefill_kept": prefill}))


if __name__ == "__main__":
    main()
