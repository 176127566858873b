"""What a comparison of quantizers starts from: a model's float32 GGUF file, and texts.

Both sides quantize the one file, and both get the one calibration text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTE = 6  # llama_token_type of a piece that stands for one byte
LEFT = ("general.architecture", "general.file_type", "general.quantization_version")  # written or untrue


def write(source: Path, target: Path) -> None:
    """`target`, a GGUF file of float32 alone: of a Hugging Face checkpoint of bf16, f16 or f32, which loses
    nothing, or of a GGUF file of any types, decoded, with its metadata.
    """
    if source.is_dir():
        from_checkpoint(source, target)
    else:
        from_gguf(source, target)


def from_checkpoint(source: Path, target: Path) -> None:
    import gguf

    from tests.golden import gguf_checkpoint, reference

    def stored(name: str, values: NDArray[Any]) -> gguf_checkpoint.Stored:
        return gguf.GGMLQuantizationType.F32, values, 1.0

    checkpoint = reference.load(source)
    vocabulary = gguf_checkpoint.vocabulary(source, checkpoint.config["vocab_size"])
    gguf_checkpoint.write(target, checkpoint, stored, vocabulary)


def from_gguf(source: Path, target: Path) -> None:
    import gguf
    import gguf.quants

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in LEFT:
            kind, *inner = field.types
            writer.add_key_value(name, field.contents(), kind, inner[-1] if inner else None)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape(tensor.shape[::-1]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def text_of(spec: str) -> str:
    """The text of FILE, or of FILE:FIRST:END a part: entries of a .json list, joined by newlines, else
    characters. ValueError where the part is empty or not of numbers; OSError.
    """
    path, *ends = spec.rsplit(":", 2) if not Path(spec).exists() else [spec]
    part = slice(*(int(end) if end else None for end in ends)) if ends else slice(None)
    text = Path(path).read_bytes().decode()
    if path.endswith(".json"):
        text = "\n".join(story.strip() for story in json.loads(text)[part])
    else:
        text = text[part]
    if not text:
        raise ValueError(f"{spec} is empty")
    return text


def spellable(text: str, gguf_file: Path) -> str:
    """`text` with a space for each character that the vocabulary of a GGUF file cannot spell: llama.cpp ends
    with an error where a sentencepiece vocabulary has neither a piece nor bytes for one.
    """
    import gguf

    fields = gguf.GGUFReader(gguf_file).fields
    if fields["tokenizer.ggml.model"].contents() != "llama":
        return text
    if BYTE in fields["tokenizer.ggml.token_type"].contents():
        return text
    known = {" "} | {piece for piece in fields["tokenizer.ggml.tokens"].contents() if len(piece) == 1}
    return "".join(letter if letter in known else " " for letter in text)
