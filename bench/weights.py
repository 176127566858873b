"""Random-weight GGUF files with a real model's shape, written one block of rows at a time.

Random weights say nothing of quality; they time the same arithmetic and the same bytes as trained ones. The
vocabulary is made up as well, so no other file is needed. Every matrix has the one type asked for, the
norms are float32.

usage: python -m bench.weights SHAPE TYPE OUT.gguf        TYPE is f16, q8_0 or q4_0
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_PER_BLOCK = 1024  # rows made and quantized at a time: 8 MB of float32 at 2048 columns


@dataclass(frozen=True)
class Shape:
    """The numbers that settle a decoder's arithmetic, and the architecture of GGUF that has them."""

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float = 1e4
    context: int = 32768
    tied: bool = False  # the embedding is the head, too
    architecture: str = "llama"
    window: int = 0  # of most layers
    experts: int = 0  # in place of an MLP, each as wide as `intermediate`
    used: int = 0  # of them by a token
    attending: tuple[int, ...] | None = None  # layers with attention, all if None; others keep a state
    reach: int = 0  # tokens of a convolution
    linear: tuple[int, int, int] = (0, 0, 0)  # of a delta rule: heads of keys, of values, width of both

    def attends(self, i: int) -> bool:
        return self.attending is None or i in self.attending

    @property
    def convolved(self) -> int:
        """Columns of a convolution."""
        keys, values, width = self.linear
        return (2 * keys + values) * width if values else self.hidden

    @property
    def stacked(self) -> set[str]:
        """The names of matrices that all experts have in one tensor."""
        return {
            f"blk.{i}.ffn_{name}_exps.weight" for i in range(self.layers) for name in ("gate", "up", "down")
        }

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """(GGUF name, rows, columns) of every matrix, in file order."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "token_embd.weight", self.vocab, self.hidden
        for i in range(self.layers):
            if not self.attends(i):
                yield from self.recurrent(i)
            elif self.architecture == "phi3":
                yield f"blk.{i}.attn_qkv.weight", q + 2 * kv, self.hidden
            else:
                gated = 2 if self.architecture == "qwen35" else 1
                yield f"blk.{i}.attn_q.weight", q * gated, self.hidden
                yield f"blk.{i}.attn_k.weight", kv, self.hidden
                yield f"blk.{i}.attn_v.weight", kv, self.hidden
            if self.attends(i):
                yield f"blk.{i}.attn_output.weight", self.hidden, q
            if self.experts:
                wide, narrow = self.experts * self.intermediate, self.experts * self.hidden
                yield f"blk.{i}.ffn_gate_exps.weight", wide, self.hidden
                yield f"blk.{i}.ffn_up_exps.weight", wide, self.hidden
                yield f"blk.{i}.ffn_down_exps.weight", narrow, self.intermediate
                continue
            if self.architecture == "phi3":
                yield f"blk.{i}.ffn_up.weight", 2 * self.intermediate, self.hidden
            else:
                yield f"blk.{i}.ffn_gate.weight", self.intermediate, self.hidden
                yield f"blk.{i}.ffn_up.weight", self.intermediate, self.hidden
            yield f"blk.{i}.ffn_down.weight", self.hidden, self.intermediate
        if not self.tied:
            yield "output.weight", self.vocab, self.hidden

    def recurrent(self, i: int) -> Iterator[tuple[str, int, int]]:
        """The matrices of a layer that keeps a state."""
        _, heads, width = self.linear
        if not heads:
            yield f"blk.{i}.shortconv.in_proj.weight", 3 * self.hidden, self.hidden
            yield f"blk.{i}.shortconv.out_proj.weight", self.hidden, self.hidden
            return
        yield f"blk.{i}.attn_qkv.weight", self.convolved, self.hidden
        yield f"blk.{i}.attn_gate.weight", heads * width, self.hidden
        yield f"blk.{i}.ssm_out.weight", self.hidden, heads * width

    def vectors(self) -> Iterator[tuple[str, int]]:
        second = "post_attention_norm" if self.architecture == "qwen35" else "ffn_norm"
        for i in range(self.layers):
            yield f"blk.{i}.attn_norm.weight", self.hidden
            yield f"blk.{i}.{second}.weight", self.hidden
            if not self.attends(i):
                if heads := self.linear[1]:
                    yield f"blk.{i}.ssm_a", heads
                    yield f"blk.{i}.ssm_dt.bias", heads
                    yield f"blk.{i}.ssm_norm.weight", self.linear[2]
                continue
            if self.architecture == "gemma3":
                yield f"blk.{i}.post_attention_norm.weight", self.hidden
                yield f"blk.{i}.post_ffw_norm.weight", self.hidden
            if self.architecture in ("gemma3", "qwen3", "qwen3moe", "lfm2", "qwen35"):
                yield f"blk.{i}.attn_q_norm.weight", self.head_dim
                yield f"blk.{i}.attn_k_norm.weight", self.head_dim
            if self.architecture == "olmoe":
                yield f"blk.{i}.attn_q_norm.weight", self.heads * self.head_dim
                yield f"blk.{i}.attn_k_norm.weight", self.kv_heads * self.head_dim
        yield "token_embd_norm.weight" if self.architecture == "lfm2" else "output_norm.weight", self.hidden

    def floats(self) -> Iterator[tuple[str, int, int]]:
        """(GGUF name, rows, columns) of matrices that stay float32: what chooses the experts, convolutions,
        and what settles how much of a state is forgotten.
        """
        for i in range(self.layers):
            if self.experts:
                yield f"blk.{i}.ffn_gate_inp.weight", self.experts, self.hidden
            if not self.attends(i):
                conv = "ssm_conv1d" if self.linear[1] else "shortconv.conv"
                yield f"blk.{i}.{conv}.weight", self.convolved, self.reach
                for name in ("ssm_alpha", "ssm_beta") if self.linear[1] else ():
                    yield f"blk.{i}.{name}.weight", self.linear[1], self.hidden

    def body_macs(self) -> int:
        """Multiply-adds of the block matrices for one token; attention's own (1 % at 256) left out."""
        blocks = (matrix for matrix in self.matrices() if matrix[0].startswith("blk."))
        return sum(
            rows * columns // (self.experts // self.used if "_exps" in name else 1)
            for name, rows, columns in blocks
        )

    def output_macs(self) -> int:
        """Multiply-adds of the output head for one token."""
        return self.vocab * self.hidden


LFM2 = (2, 5, 8, 10, 12, 14)  # layers with attention
SHAPES = {
    "tinyllama-1.1b": Shape(32000, 2048, 5632, 22, 32, 4, 64),
    "smollm2-135m": Shape(49152, 576, 1536, 30, 9, 3, 64, 1e5, tied=True),
    "smollm2-135m-untied": Shape(49152, 576, 1536, 30, 9, 3, 64, 1e5),
    "danube3-500m": Shape(32000, 1536, 4096, 16, 16, 8, 96, 1e5),
    "llama-3.2-3b": Shape(128256, 3072, 8192, 28, 24, 8, 128, 5e5),
    "one-kv-head": Shape(8192, 1024, 3072, 12, 4, 1, 256, 1e6),  # heads of gemma-3-1b
    "gemma-3-1b": Shape(262144, 1152, 6912, 26, 4, 1, 256, 1e6, tied=True, architecture="gemma3", window=512),
    "qwen3-0.6b": Shape(151936, 1024, 3072, 28, 16, 8, 128, 1e6, tied=True, architecture="qwen3"),
    "phi-4-mini": Shape(200064, 3072, 8192, 32, 24, 8, 128, 1e4, tied=True, architecture="phi3"),
    "olmoe-1b-7b": Shape(50304, 2048, 1024, 16, 16, 16, 128, 1e4, architecture="olmoe", experts=64, used=8),
    # as many of its 48 layers as fit in a small machine's memory
    "qwen3-30b-a3b-8-layers": Shape(
        151936, 2048, 768, 8, 32, 4, 128, 1e6, architecture="qwen3moe", experts=128, used=8
    ),
    "lfm2-350m": Shape(
        65536, 1024, 4608, 16, 16, 8, 64, 1e6, tied=True, architecture="lfm2", attending=LFM2, reach=3
    ),
    "lfm2-1.2b": Shape(
        65536, 2048, 8192, 16, 32, 8, 64, 1e6, tied=True, architecture="lfm2", attending=LFM2, reach=3
    ),
    "qwen3.5-0.8b": Shape(
        248320,
        1024,
        3584,
        24,
        8,
        2,
        256,
        1e7,
        tied=True,
        architecture="qwen35",
        attending=tuple(range(3, 24, 4)),
        reach=4,
        linear=(16, 16, 128),
    ),
    "micro": Shape(512, 64, 160, 2, 4, 2, 16, context=512),
    "micro-experts": Shape(512, 64, 32, 2, 4, 2, 16, context=512, architecture="qwen3moe", experts=8, used=2),
}


def vocabulary(size: int) -> tuple[list[bytes], list[float], list[int]]:
    """A made-up sentencepiece vocabulary: 3 control pieces, 256 bytes, then `▁wN`. Texts, scores, kinds."""
    tokens = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % byte for byte in range(256)]
    kinds = [2, 3, 3] + [6] * 256  # unknown, control, control, byte
    tokens = tokens + [f"▁w{i}".encode() for i in range(size - len(tokens))]
    kinds = kinds + [1] * (size - len(kinds))
    scores = [0.0] * 259 + [-float(i) for i in range(size - 259)]
    return tokens, scores, kinds


def describe(writer: Any, shape: Shape, name: str) -> None:
    """Put the metadata of a model of this shape into a gguf.GGUFWriter."""
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    heads = [shape.kv_heads if shape.attends(i) else 0 for i in range(shape.layers)]
    writer.add_head_count_kv(heads if shape.architecture == "lfm2" else shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_dimension_count(shape.head_dim // (4 if shape.architecture == "qwen35" else 1))
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_vocab_size(shape.vocab)
    if shape.window or shape.architecture == "phi3":
        writer.add_sliding_window(shape.window)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.used)
        writer.add_expert_feed_forward_length(shape.intermediate)
    if shape.architecture == "lfm2":
        writer.add_shortconv_l_cache(shape.reach)
    if shape.architecture == "qwen35":
        keys, values, width = shape.linear
        writer.add_rope_dimension_sections([11, 11, 10, 0])
        writer.add_full_attention_interval(4)
        writer.add_ssm_conv_kernel(shape.reach)
        writer.add_ssm_state_size(width)
        writer.add_ssm_group_count(keys)
        writer.add_ssm_time_step_rank(values)
        writer.add_ssm_inner_size(values * width)
    tokens, scores, kinds = vocabulary(shape.vocab)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


def write(path: Path, shape: Shape, kind: str, *, seed: int = 0, name: str = "random") -> None:
    """Write `path` with matrices of type `kind` ("f16", "q8_0" or "q4_0"); the file appears whole, by rename.

    The same seed gives the same numbers before quantization, whatever the kind.
    """
    import gguf

    kind_type = gguf.GGMLQuantizationType[kind.upper()]
    file_type = gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"]
    part = path.with_name(path.name + f".{os.getpid()}.part")
    writer = gguf.GGUFWriter(part, shape.architecture)
    describe(writer, shape, name)
    writer.add_file_type(file_type)
    for vector, length in shape.vectors():
        writer.add_tensor_info(vector, [length], np.dtype(np.float32), length * 4)
    for plain, rows, columns in shape.floats():
        writer.add_tensor_info(plain, [rows, columns], np.dtype(np.float32), rows * columns * 4)
    block, type_bytes = gguf.GGML_QUANT_SIZES[kind_type]
    for matrix, rows, columns in shape.matrices():
        row_bytes = columns // block * type_bytes
        count = [shape.experts, rows // shape.experts] if matrix in shape.stacked else [rows]
        if kind == "f16":
            writer.add_tensor_info(matrix, [*count, columns], np.dtype(np.float16), rows * row_bytes)
        else:  # gguf wants the shape in bytes of a quantized tensor
            writer.add_tensor_info(
                matrix, [*count, row_bytes], np.dtype(np.uint8), rows * row_bytes, kind_type
            )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for data in _tensors(shape, kind_type, np.random.default_rng(seed)):
            writer.write_tensor_data(data)
        writer.close()
        part.replace(path)
    finally:
        writer.close()
        part.unlink(missing_ok=True)


def _tensors(shape: Shape, kind: Any, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
    """Tensor data in the order in which `write` announced it."""
    import gguf.quants

    for name, length in shape.vectors():
        values = 1 + 0.1 * rng.standard_normal(length)
        yield (-values if name.endswith("ssm_a") else values).astype(np.float32)
    for _, rows, columns in shape.floats():
        yield rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)
    for matrix, rows, columns in shape.matrices():
        scale = 0.5 if matrix.startswith("token_embd") else columns**-0.5
        blocks = []
        for row in range(0, rows, ROWS_PER_BLOCK):
            count = min(ROWS_PER_BLOCK, rows - row)
            values = rng.standard_normal((count, columns), dtype=np.float32)
            blocks.append(gguf.quants.quantize(values * np.float32(scale), kind))
        yield np.concatenate(blocks)


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    write(Path(sys.argv[3]), SHAPES[sys.argv[1]], sys.argv[2], name=f"random-{sys.argv[1]}")


if __name__ == "__main__":
    main()
