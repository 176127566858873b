"""The second turn of a chat whose history is long: how soon its first token comes.

usage: python -m bench.prefix [MODEL.edgeq] [--shape tinyllama-1.1b] [--format q4_0] [--history 2000]
                              [--new 20] [--repeat 5] [--threads N] [--kv q8] [--dir DIR] [--json]

Three times are told, each the median of --repeat turns that take turns with each other:

- cold: all of the history and the new tokens are computed;
- tree: this process has computed the history, in another sequence;
- disk: another process has, and wrote it; the time is that of a fresh process's first `generate`, from the
  call to the first token, with its model loaded and its kernels compiled.

Bars: tree takes at most 5 % of cold, disk at most 0.5 s. The ids are random, and the first token drawn is
the same in all three, or the bench fails. The exit code is 1 where a bar is missed. The last line of stdout
is one JSON object; with --json it is the only one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.files import PLAIN, default_directory, prepare, say
from bench.peers import warn_if_busy
from bench.quantize import ROOT
from bench.weights import SHAPES

TREE_PART, DISK_S = 0.05, 0.5  # the bars


def random_ids(vocabulary: int, count: int, seed: int) -> list[int]:
    """Ids above those that are likely to be control tokens."""
    return np.random.default_rng(seed).integers(vocabulary // 4, vocabulary, count).tolist()


def first_token(model: Any, ids: list[int], **options: Any) -> tuple[float, int, int]:
    """(seconds from the call to the first token, the token, tokens that were found)."""
    start = time.perf_counter()
    with model.generate(ids, temperature=0, max_tokens=1, ignore_eos=True, **options) as generation:
        next(generation)
        seconds = time.perf_counter() - start
        for _ in generation:
            pass
    return seconds, generation.ids[0], generation.usage.cached_tokens


def once(job: dict[str, Any]) -> dict[str, Any]:
    """What a fresh process measures. It warms up with tokens that the history does not begin with."""
    import edgeq

    options: dict[str, Any] = {**job["options"], "prompt_cache": job["folder"]}
    with edgeq.load(job["model"], **options) as model:
        history = random_ids(model.vocab_size, job["history"], job["seed"])
        new = random_ids(model.vocab_size, job["new"], job["seed"] + 1)
        first_token(model, random_ids(model.vocab_size, 8, job["seed"] + 2), cache_prompt=False)
        if job["do"] == "write":
            first_token(model, history)
            return {}
        if job["do"] == "disk":
            seconds, token, cached = first_token(model, [*history, *new])
            return {"disk_s": seconds, "token": token, "cached": cached}
        cold, token, cached = first_token(model, [*history, *new], cache_prompt=False)
        assert cached == 0, f"{cached} tokens were found though none was asked for"
        first_token(model, history)
        warm, again, cached = first_token(model, [*history, *new])
        return {"cold_s": cold, "tree_s": warm, "token": token, "again": again, "cached": cached}


def asked(job: dict[str, Any]) -> dict[str, Any]:
    """`once`, in a process of its own."""
    command = [sys.executable, "-m", "bench.prefix", "--job", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians, and what they are held to."""
    path = arguments.model or prepare(arguments.dir, arguments.shape, arguments.format).edgeq
    context = arguments.history + arguments.new + 16
    options = {"context": context, "kv": arguments.kv, "threads": arguments.threads}
    job = {"model": str(path), "options": options, "history": arguments.history, "new": arguments.new}
    rows: list[dict[str, Any]] = []
    for turn in range(arguments.repeat):
        say(f"turn {turn + 1} of {arguments.repeat}")
        with tempfile.TemporaryDirectory() as folder:
            told = asked({**job, "do": "tree", "folder": None, "seed": 10 * turn})
            asked({**job, "do": "write", "folder": folder, "seed": 10 * turn})
            file_mb = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
            disk = asked({**job, "do": "disk", "folder": folder, "seed": 10 * turn})
        assert told["token"] == told["again"] == disk["token"], "the first tokens differ"
        for what, cached in (("the tree", told["cached"]), ("the folder", disk["cached"])):
            assert cached >= arguments.history, f"{what} had {cached} of {arguments.history} tokens"
        rows.append({**told, "disk_s": disk["disk_s"], "file_mb": file_mb})
    figures = {
        key: round(statistics.median(row[key] for row in rows), 4)
        for key in ("cold_s", "tree_s", "disk_s", "file_mb")
    }
    part = statistics.median(row["tree_s"] / row["cold_s"] for row in rows)
    return {
        "model": Path(path).name,
        "history": arguments.history,
        "new": arguments.new,
        "kv": arguments.kv,
        **figures,
        "tree_part": round(part, 4),
        "met": {"tree": part <= TREE_PART, "disk": figures["disk_s"] <= DISK_S},
    }


def spell(told: dict[str, Any]) -> str:
    """For people."""
    over = {name: "" if met else "  missed" for name, met in told["met"].items()}
    return (
        f"first token after {told['history']} + {told['new']} tokens, {told['model']}, {told['kv']}\n"
        f"cold {told['cold_s']:8.3f} s\n"
        f"tree {told['tree_s']:8.3f} s, {told['tree_part']:.1%} of cold; bar {TREE_PART:.0%}{over['tree']}\n"
        f"disk {told['disk_s']:8.3f} s, {told['file_mb']:.1f} MB; bar {DISK_S} s{over['disk']}"
    )


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.prefix", description=__doc__, formatter_class=raw)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama-1.1b")
    parser.add_argument("--format", choices=PLAIN, default="q4_0")
    parser.add_argument("--history", type=int, default=2000)
    parser.add_argument("--new", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kv", default="q8")
    parser.add_argument("--dir", type=Path, default=default_directory(), help="where model files are kept")
    parser.add_argument("--json", action="store_true", help="only the JSON object")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.job:
        print(json.dumps(once(json.loads(arguments.job))))
        return
    warn_if_busy()
    told = measured(arguments)
    if not arguments.json:
        print(spell(told))
    print(json.dumps(told))
    if not all(told["met"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
