"""Small tasks of lm-eval's three kinds as local files, and the engine in this process as a model of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

CHOICES = [
    {"question": "The capital of France is", "choices": [" Paris", " a large yellow dog", " 7"], "answer": 0},
    {"question": "Two plus two makes", "choices": [" five", " four", " the sea"], "answer": 1},
    {"question": "In winter it often", "choices": [" snows", " melts the moon"], "answer": 0},
    {"question": "Die Hauptstadt von Österreich ist", "choices": [" Wien", " Bär 🐻"], "answer": 0},
]
TEXTS = [
    {"text": "A cat sat on the mat and watched the rain fall. It was a long, quiet afternoon."},
    {"text": "Überall dies: 3 + 4 = 7, naïve café 🙂\n\tand <|im_start|> is a name."},
    {"text": "word " * 90 + "end."},
]
QUESTIONS = [
    {"question": "What is 2 plus 2?", "answer": "4"},
    {"question": "Which day follows Monday?", "answer": "Tuesday"},
    {"question": "Say three colors.", "answer": "red, green, blue"},
]
KINDS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "local_choice": (
        CHOICES,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        },
    ),
    "local_rolling": (
        TEXTS,
        {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
        },
    ),
    "local_generate": (
        QUESTIONS,
        {
            "output_type": "generate_until",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["\n", "Question:"], "max_gen_toks": 24, "temperature": 0.0},
            "metric_list": [{"metric": "exact_match"}],
        },
    ),
}


def write(folder: Path) -> list[str]:
    """The tasks' files, one .yaml and one .jsonl for each; their names."""
    for name, (rows, task) in KINDS.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        whole = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(folder / f"{name}.jsonl")},
                "cache_dir": str(folder / "cache"),
            },
            "test_split": "test",
            **task,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(whole), encoding="utf-8")  # JSON is YAML
    return list(KINDS)


def in_process(model: Any, max_length: int) -> Any:
    """A model of lm-eval that asks `model` itself: float32 logits, and their log-softmax in float64."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    tokenizer = model.tokenizer

    class InProcess(TemplateLM):
        eot_token_id = prefix_token_id = property(lambda self: tokenizer.bos_id)

        def tok_encode(self, string: str, **_: Any) -> list[int]:
            return tokenizer.encode(string, add_bos=False, special=True)

        def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
            return [self._score(context, ids) for _, context, ids in requests]

        def _score(self, context: list[int], ids: list[int]) -> tuple[float, bool]:
            logits = model.logits([*context, *ids][:-1])[-len(ids) :].astype(np.float64)
            most = logits.max(1, keepdims=True)
            likely = logits - most - np.log(np.exp(logits - most).sum(1, keepdims=True))
            found = likely[np.arange(len(ids)), ids]
            return float(found.sum()), bool((found == likely.max(1)).all())

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            found = []
            for request in requests:
                ids = self.tok_encode(request.args[0])
                windows = get_rolling_token_windows(
                    token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=max_length, context_len=1
                )
                found.append(sum(self._score(*make_disjoint_window(each))[0] for each in windows))
            return found

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            found = []
            for request in requests:
                text, how = request.args
                stops = [*how["until"], tokenizer.spelling(tokenizer.eos_id)]
                ids = self.tok_encode(text)
                said = model.generate(ids, max_tokens=how["max_gen_toks"], temperature=0, stop=stops)
                found.append(said.read().text)
            return found

    return InProcess()
