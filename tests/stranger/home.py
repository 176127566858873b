"""The person's folder: files under the names that README and docs use, so that their commands run unchanged.

The model is stories260K, also where a page says Qwen3: a directory under a hub's name wins over the hub.
Nothing is asked of the network, and the kernels are those that the other tests compiled.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from pathlib import Path

from edgeq.converters import convert
from tests.golden import gguf_checkpoint, reference
from tests.stranger.pages import ROOT

TEMPLATE = (
    "{% for m in messages %}"
    "{{ 'Once upon a time' if m['role'] == 'assistant' }}{{ m['content'] }}\n"
    "{% endfor %}{{ '' if enable_thinking else 'Once upon a time' }}"
)
# How many tokens of context each has: an answer of so many as the last's is ended by Ctrl-C, if by anything.
CHECKPOINTS = {
    "model-dir": 512,
    "checkpoint-dir": 512,
    "Qwen/Qwen3-0.6B": 512,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 1 << 20,
}
GGUF = {"model-Q4_K_M.gguf": "q4_0", "model-Q8_0.gguf": "q8_0", "model.gguf": "q8_0"}
VECTORS = ROOT / "tests/golden/vectors"  # tiny models that give vectors and scores
TEXTS = ("text.txt", "wiki.test.raw", "mine.txt")
SMALL = {
    "story.txt": "Once upon a time, there was a little girl\n",
    "notes.txt": "Lily had a dog.\n",
    "letter.txt": "Lily wanted to play.\nShe had a ball.\n",
    "manual.txt": "The red button starts the machine.\n\nThe green button stops it.\n",
    "chats.jsonl": '{"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "Ho!"}]}\n',
    "hellaswag_val.jsonl": '{"ctx": "Lily had a", "endings": ["dog.", "zzzz qqqq."], "label": 0}\n',
    "picture.png": "\x89PNG",
}


def furnish(home: Path, demo: Path) -> None:
    """Put models, texts and an installed edgeq into the folder; demo: the bundled checkpoint."""
    for name, context in CHECKPOINTS.items():
        shutil.copytree(demo, home / name)
        change(home / name / "tokenizer_config.json", chat_template=TEMPLATE)
        change(home / name / "config.json", max_position_embeddings=context)
    model = reference.load(demo)
    words = gguf_checkpoint.vocabulary(demo, model.config["vocab_size"])
    for name, kind in GGUF.items():
        gguf_checkpoint.write(home / name, model, gguf_checkpoint.rounded(kind), words, TEMPLATE)
    stories = (ROOT / "edgeq/calibrate/text/stories.txt").read_text(encoding="utf-8")
    for name in ("embedding", "reranker"):
        convert(VECTORS / name, home / f"{name}.edgeq", scheme="q8")
    for name in TEXTS:
        (home / name).write_text(stories[:20_000], encoding="utf-8")
    (home / "report.txt").write_text(stories[:700], encoding="utf-8")  # which leaves room for an answer
    for name, content in SMALL.items():
        (home / name).write_text(content, encoding="latin-1")
    (home / ".venv").symlink_to(Path(sysconfig.get_path("scripts")).parent)
    assert (home / ".venv/bin/edgeq").exists(), "no edgeq stands beside this Python: pip install -e '.[test]'"


def change(path: Path, **values: object) -> None:
    """Change some values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def environment(home: Path) -> dict[str, str]:
    """What the person's processes are given, and nothing else of this one's."""
    return {
        "PATH": f"{home / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",  # as docs/raspberry-pi.md says
        "PYTHONPATH": str(ROOT),  # this tree's edgeq, whichever was installed
        "HOME": str(home / "home"),
        "XDG_CACHE_HOME": str(home / "home/cache"),
        "XDG_STATE_HOME": str(home / "home/state"),
        "HF_HOME": str(home / "home/hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
        "EDGEQ_KERNELS": os.path.join(os.environ["EDGEQ_TEST_CACHE"], "edgeq", "kernels"),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
