"""What lm-eval says of a served model, beside transformers on the same weights: minimal pairs of sentences.

    python -m bench.pairs MODEL.gguf [--at-once 8] [--pairs N]

Pairs in the manner of BLiMP, a sentence and the same one with a mistake, are written as a local task. lm-eval
asks `edgeq serve` for it, by local-completions; transformers scores the same token ids in float32 with the
file's weights, decoded. An accuracy is the share of pairs whose right sentence is the likelier. Needs the
extras `clients` and `golden`. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import edgeq
from bench import servers
from bench.files import say
from edgeq.converters import KEEP, convert
from edgeq.cores import default_threads

BAR = 0.5  # points that the accuracies may be apart
NAME = "pairs"
TASK = {
    "task": NAME,
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "",
    "doc_to_choice": "{{[good, bad]}}",
    "doc_to_target": 0,
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}
Pair = tuple[str, str]  # right, wrong
Scored = Callable[[Sequence[Sequence[int]]], Sequence[np.ndarray]]  # texts' ids → their logits, or more rows
BATCH = 32  # sentences

NOUNS = ("cat", "teacher", "river", "house", "doctor", "bird", "student", "train", "farmer", "picture")
VERBS = ("sleep", "fall", "move", "disappear", "matter", "return")
SEEN = ("saw", "likes", "remembers", "found")
HIM = ("boy", "man", "king", "father", "brother", "actor")
HER = ("girl", "woman", "queen", "mother", "sister", "actress")
HURT = ("hurt", "admired", "hid", "described", "helped", "blamed")


def pairs() -> Iterator[Pair]:
    """Agreement of verbs, also across a phrase, of determiners and of reflexives, and what `ever` needs."""
    for noun, verb in product(NOUNS, VERBS):
        yield f"The {noun} {verb}s.", f"The {noun} {verb}."
        yield f"The {noun}s {verb}.", f"The {noun}s {verb}s."
        yield f"No {noun} will ever {verb}.", f"The {noun} will ever {verb}."
    for noun, other, verb in product(NOUNS[:5], NOUNS[5:], VERBS[:3]):
        yield f"The {noun} near the {other}s {verb}s today.", f"The {noun} near the {other}s {verb} today."
        yield f"The {noun}s near the {other} {verb} today.", f"The {noun}s near the {other} {verb}s today."
    for noun, verb in product(NOUNS, SEEN):
        yield f"She {verb} these {noun}s.", f"She {verb} these {noun}."
        yield f"She {verb} this {noun}.", f"She {verb} this {noun}s."
    for (him, her), verb in product(zip(HIM, HER, strict=True), HURT):
        yield f"The {him} {verb} himself.", f"The {him} {verb} herself."
        yield f"The {her} {verb} herself.", f"The {her} {verb} himself."


def task(folder: Path, chosen: Sequence[Pair]) -> None:
    lines = "".join(json.dumps({"good": good, "bad": bad}) + "\n" for good, bad in chosen)
    (folder / "pairs.jsonl").write_text(lines, encoding="utf-8")
    files = {"data_files": {"test": str(folder / "pairs.jsonl")}, "cache_dir": str(folder / "cache")}
    whole = json.dumps({**TASK, "dataset_kwargs": files})
    (folder / "pairs.yaml").write_text(whole, encoding="utf-8")  # JSON is YAML


@contextmanager
def served(model: Path) -> Iterator[str]:
    """A server of the model, and its address."""
    cores = default_threads()
    with servers.edgeq(model, threads=cores, parallel=16, context=2048) as server:
        yield f"127.0.0.1:{server.port}"


def by_lm_eval(folder: Path, address: str, at_once: int) -> float:
    """Per cent that lm-eval finds over HTTP."""
    arguments = f"base_url=http://{address}/v1/completions,model=any,num_concurrent={at_once}"
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", arguments,
        "--tasks", NAME, "--include_path", str(folder), "--output_path", str(folder / "out"),
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=sys.stderr)
    (table,) = (folder / "out").rglob("results_*.json")
    found: float = json.loads(table.read_text(encoding="utf-8"))["results"][NAME]["acc,none"]
    return 100 * found


def likelihood(logits: np.ndarray, ids: Sequence[int]) -> float:
    """Of ids, each by the row of float logits [ids, vocabulary] before it."""
    rows = np.asarray(logits, np.float64)
    most = rows.max(1)
    spread = most + np.log(np.exp(rows - most[:, None]).sum(1))
    return float((rows[np.arange(len(ids)), list(ids)] - spread).sum())


def accuracy(scored: Scored, sentences: Sequence[list[int]], first: int) -> float:
    """Per cent of pairs, right and wrong in turns, that are told apart, each sentence behind `first`."""
    found = []
    for start in range(0, len(sentences), BATCH):
        part = sentences[start : start + BATCH]
        logits = scored([[first, *ids] for ids in part])
        found += [likelihood(rows[: len(ids)], ids) for rows, ids in zip(logits, part, strict=True)]
    right = sum(good > bad for good, bad in zip(found[::2], found[1::2], strict=True))
    return 200 * right / len(found)


def by_transformers(source: Path) -> Scored:
    """Float32 logits of the file's weights. What pads a text is behind it, where no token of it looks."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.golden import gguf_checkpoint

    checkpoint = gguf_checkpoint.read(source)
    config = {name: value for name, value in checkpoint.config.items() if name != "model_type"}
    rope = {"rope_type": "default", "rope_theta": config.pop("rope_theta")}
    model = LlamaForCausalLM(LlamaConfig(**config, rope_parameters=rope)).eval()
    weights = {name: torch.from_numpy(np.array(values)) for name, values in checkpoint.weights.items()}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown or set(missing) - {"lm_head.weight"}:  # which is the embedding, where they are tied
        sys.exit(f"the weights are not those of a Llama model: {[*missing, *unknown][:3]}")
    model.tie_weights()

    def scored(texts: Sequence[Sequence[int]]) -> Sequence[np.ndarray]:
        longest = max(map(len, texts))
        padded = [[*ids, *[0] * (longest - len(ids))] for ids in texts]
        with torch.inference_mode():
            return list(model(torch.tensor(padded)).logits.float().numpy())

    return scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=None)
    given = parser.parse_args()
    chosen = list(pairs())[: given.pairs]
    found: dict[str, Any] = {"pairs": len(chosen)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "model.edgeq"
        convert(given.model, path, scheme=KEEP)
        task(folder, chosen)
        began = time.monotonic()
        with served(path) as address:
            found["lm-eval"] = by_lm_eval(folder, address, given.at_once)
        found["seconds"] = round(time.monotonic() - began, 1)
        with edgeq.load(path) as model:
            tokenizer = model.tokenizer
            sentences = [tokenizer.encode(text, add_bos=False) for pair in chosen for text in pair]
            first = tokenizer.bos_id
    found["transformers"] = accuracy(by_transformers(given.model), sentences, first)
    found["apart"] = abs(found["lm-eval"] - found["transformers"])
    for label in ("lm-eval", "transformers"):
        say(f"{label:12} {found[label]:6.2f} %")
    say(f"{found['apart']:.2f} points apart, of {BAR} at the most")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
