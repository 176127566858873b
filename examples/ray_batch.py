"""A file of requests over the actors of a Ray cluster, for those who outgrow one machine and have Ray.

usage: python ray_batch.py MODEL IN.jsonl -o OUT.jsonl [--actors 2] [--lines 64] [--threads N]

pip install 'edgeq[serve]' 'ray[data]'. Each actor loads MODEL, which every machine must have under that path,
and answers whole blocks of lines with the scheduler of `edgeq batch`; Ray starts an actor that ends anew, and
gives its block to it or to another. Answers come in the order of the requests, without what differs from
run to run (ids, times), so that with seeds the file is the same byte for byte however many actors there are.
Machines without Ray: `edgeq batch --workers`, which also goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHANGING = ("id", "created", "timings")  # from run to run


class Answers:
    """An actor: a model, and blocks of lines answered by it."""

    def __init__(self, model: str, threads: int | None = None) -> None:
        import edgeq
        from edgeq.serve.served import Served

        self.served = Served(edgeq.load(model, threads=threads), Path(model).stem)

    def __call__(self, block: dict[str, Sequence[str]]) -> dict[str, list[str]]:
        """{"line": requests} -> {"answer": one for each, in their order}."""
        from edgeq.serve import batch

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "requests.jsonl", Path(folder) / "answers.jsonl"
            source.write_text("".join(f"{line}\n" for line in block["line"]), encoding="utf-8")
            batch.run(self.served, source, target)
            found = dict(map(told, target.read_text(encoding="utf-8").splitlines()))
        return {"answer": [found[json.loads(line)["custom_id"]] for line in block["line"]]}


def told(line: str) -> tuple[str, str]:
    """(custom_id, the answer without what changes) of a line that `edgeq batch` wrote."""
    answer = json.loads(line)
    response = answer["response"]
    body: dict[str, Any] = {name: value for name, value in response["body"].items() if name not in CHANGING}
    if "usage" in body:  # what was known of prompts depends on who asked before
        body["usage"] = {k: v for k, v in body["usage"].items() if k != "prompt_tokens_details"}
    kept = {"status_code": response["status_code"], "body": body}
    return answer["custom_id"], json.dumps({"custom_id": answer["custom_id"], "response": kept})


def answered(
    lines: Sequence[str], model: str, actors: int, at_once: int, threads: int | None, kind: type = Answers
) -> Iterator[str]:
    """The answers to requests, in their order, by so many actors."""
    import ray

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    blocks = -(-len(lines) // at_once)
    data = ray.data.from_items([{"line": line} for line in lines], override_num_blocks=blocks)
    pool = ray.data.ActorPoolStrategy(size=actors)
    options: dict[str, Any] = {"fn_constructor_args": (model, threads), "batch_size": None, "compute": pool}
    for row in data.map_batches(kind, **options).iter_rows():
        yield row["answer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("source", type=Path, metavar="IN.jsonl")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.jsonl")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--lines", type=int, default=64, help="that an actor takes at once")
    parser.add_argument("--threads", type=int, help="of each actor")
    arguments = parser.parse_args()
    run(**vars(arguments))


def run(
    model: str, source: Path, output: Path, actors: int, lines: int, threads: int | None, kind: type = Answers
) -> None:
    """Write all answers, or no file. UsageError, before Ray starts, for a file that holds no requests."""
    from edgeq.serve import batch

    for _ in batch.lines_of(source):
        pass
    requests = [line for line in source.read_text(encoding="utf-8").split("\n") if line.strip()]
    part = output.with_name(output.name + ".part")
    with open(part, "w", encoding="utf-8") as file:
        for answer in answered(requests, str(Path(model).absolute()), actors, lines, threads, kind):
            file.write(answer + "\n")
    os.replace(part, output)


if __name__ == "__main__":
    main()
