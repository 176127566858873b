"""The example of a file of requests over Ray: two actors, one of them killed, say what one process says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.patience import STUCK_S

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'ray[data]'"),
    pytest.mark.skipif(find_spec("starlette") is None, reason="the extra edgeq[serve] is not installed"),
]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LINES = 1000

SCRIPT = """
import os, signal, sys
from pathlib import Path
import ray_batch

class Mortal(ray_batch.Answers):
    calls = 0
    def __call__(self, block):
        self.calls += 1
        if self.calls == 3:  # it has answered before, and has a block in hand
            try:
                os.close(os.open(DEAD, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return super().__call__(block)

model, source, output, DEAD = sys.argv[1:]
ray_batch.run(model, Path(source), Path(output), actors=2, lines=50, threads=1, kind=Mortal)
"""


def test_an_actor_is_killed(tmp_path: Path) -> None:
    from tests.serve.spawned import demo

    model = str(demo(tmp_path))
    source, output, dead = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "dead"
    source.write_text(
        "".join(
            json.dumps({"custom_id": str(n), "url": "/v1/completions", "body": body(n)}) + "\n"
            for n in range(LINES)
        )
    )
    words = [model, str(source), str(output), str(dead)]
    path = os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    line = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=STUCK_S, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert dead.exists()
    sys.path.insert(0, str(EXAMPLES))
    try:
        alone = import_module("ray_batch").Answers(model, 1)({"line": source.read_text().splitlines()})
        alone_bytes = "".join(f"{answer}\n" for answer in alone["answer"]).encode()
    finally:
        sys.path.remove(str(EXAMPLES))
    assert output.read_bytes() == alone_bytes and alone_bytes.count(b'"status_code": 200') == LINES


def body(n: int) -> dict[str, object]:
    return {"prompt": f"Tom {n}", "max_tokens": 5 + n % 7, "seed": n, "n": 1 + n % 2}
