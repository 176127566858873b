"""Make smollm2.json: what llama.cpp gives for SmolLM2-135M-Instruct.

usage: python -m tests.real.make_smollm2     from the top; needs llama_cpp and what tests.real.fetch fetches

Logits are those of a float32 KV cache without flash attention. For each prompt, its ids and the largest
logits after the last of them; for text.txt, the mean negative log-likelihood of the second halves of windows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from tests.golden.llamacpp.make_llamacpp import llamacpp_logits
from tests.real import fetch

HERE = Path(__file__).parent
CONTEXT = 128  # of a window
TOP = 16
PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Monday, Tuesday, Wednesday, Thursday,",
    "Das Wetter ist heute 20 °C warm, und 3 + 4 =",
)


def prompt(tokens: Any, text: str, path: Path, vocab: int) -> dict[str, Any]:
    ids = tokens(text)
    last = llamacpp_logits(path, ids, vocab)[-1]
    top = np.argsort(-last)[:TOP]
    return {"text": text, "ids": ids, "top": top.tolist(), "logits": [round(float(x), 4) for x in last[top]]}


def losses(ids: list[int], path: Path, vocab: int) -> Any:
    """Of the second half of a window, in nats: float64 [63]."""
    rows = llamacpp_logits(path, ids, vocab)[CONTEXT // 2 : -1].astype(np.float64)
    largest = rows.max(1, keepdims=True)
    sums = largest[:, 0] + np.log(np.exp(rows - largest).sum(1))
    return sums - rows[np.arange(len(rows)), ids[CONTEXT // 2 + 1 :]]


def spell(golden: dict[str, Any]) -> str:
    """JSON, a prompt to a line."""
    prompts = ",\n".join(json.dumps(prompt, ensure_ascii=False) for prompt in golden["prompts"])
    rest = {key: value for key, value in golden.items() if key != "prompts"}
    return json.dumps(rest)[:-1] + f', "prompts": [\n{prompts}\n]}}\n'


def main() -> None:
    path = fetch.path()
    fetch.check(path)
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    vocab = model.n_vocab()

    def tokens(text: str) -> list[int]:
        return model.tokenize(
            text.encode(), add_bos=True, special=False
        )  # BOS where the model's file asks for it

    ids = tokens((HERE / "text.txt").read_text(encoding="utf-8"))
    windows = [ids[at : at + CONTEXT] for at in range(0, len(ids) - CONTEXT + 1, CONTEXT)]
    nll = np.concatenate([losses(window, path, vocab) for window in windows])
    mean = round(float(nll.mean()), 5)
    golden = {
        "made_by": f"llama-cpp-python {llama_cpp.__version__}",
        "prompts": [prompt(tokens, text, path, vocab) for text in PROMPTS],
        "text": {
            "tokens": len(ids),
            "scored": len(nll),
            "context": CONTEXT,
            "nll": mean,
        },
    }
    (HERE / "smollm2.json").write_text(spell(golden), encoding="utf-8")


if __name__ == "__main__":
    main()
