"""The space before a text of a sentencepiece model, and before what follows a control token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeq.converters import tokenizers as converter
from edgeq.tokenizer import load

# As LlamaTokenizer, the slow one of transformers 4.57, has it: legacy puts a space before each part of a text
# that control tokens take apart, else there is none after a control token.
SPELLED = {
    True: ["<s>", "▁Once", "▁upon", "</s>", "▁Once"],
    False: ["<s>", "O", "n", "ce", "▁upon", "</s>", "O", "n", "ce"],
}


@pytest.mark.parametrize("legacy", [True, False])
def test_the_space_after_a_control_token(demo_checkpoint: Path, tmp_path: Path, legacy: bool) -> None:
    shutil.copy(demo_checkpoint / "tokenizer.model", tmp_path)
    settings = json.loads((demo_checkpoint / "tokenizer_config.json").read_text()) | {"legacy": legacy}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    made = converter.from_directory(tmp_path)
    assert made is not None
    tokenizer = load(*made)
    ids = tokenizer.encode("<s>Once upon</s>Once", special=True)
    assert [tokenizer.spelling(id) for id in ids] == SPELLED[legacy]
    assert tokenizer.decode(ids) == {True: "Once upon Once", False: "Once uponOnce"}[legacy]
