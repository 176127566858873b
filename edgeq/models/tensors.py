"""Rows of a family's table of tensors: under which names checkpoints have them, and what is done to their
rows on the way into a file.

Knows no files: `edgeq.converters.source` does what is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from edgeq.models.base import BaseConfig

Order = np.ndarray[Any, Any]


class Move(Protocol):
    """Which rows, or columns, of another tensor become a tensor's."""

    def count(self, config: BaseConfig, rows: int) -> int:
        """How many the other has, for one of so many rows."""

    def order(self, config: BaseConfig, rows: int) -> Order:
        """int64 [rows]: for each row the other's."""


def size(config: BaseConfig, words: str | tuple[str, ...]) -> int:
    """A dimension of the config, or the product of several."""
    names = (words,) if isinstance(words, str) else words
    return int(np.prod([getattr(config, name) for name in names]))


@dataclass(frozen=True)
class Part:
    """One of several tensors that stand one after another in the other: `number`, of these dimensions."""

    number: int
    of: tuple[str, ...]

    def count(self, config: BaseConfig, rows: int) -> int:
        return sum(size(config, name) for name in self.of)

    def order(self, config: BaseConfig, rows: int) -> Order:
        first = sum(size(config, name) for name in self.of[: self.number])
        return np.arange(first, first + rows)


@dataclass(frozen=True)
class Interleaved:
    """The rows of each head that turn come as pairs that turn together in the other, and as two halves here.
    `heads` names how many heads there are; `config.rotary_size` pairs of each turn.
    """

    heads: str

    def count(self, config: BaseConfig, rows: int) -> int:
        return rows

    def order(self, config: BaseConfig, rows: int) -> Order:
        by_head = np.arange(rows).reshape(getattr(config, self.heads), -1)
        turned = 2 * config.rotary_size
        pairs = by_head[:, :turned].reshape(len(by_head), -1, 2).swapaxes(1, 2).reshape(len(by_head), -1)
        return np.concatenate([pairs, by_head[:, turned:]], 1).reshape(-1)


@dataclass(frozen=True)
class OfHeads:
    """The other has the rows of several tensors head by head: `number` of `of` of each head."""

    number: int
    of: int
    heads: str

    def count(self, config: BaseConfig, rows: int) -> int:
        return rows * self.of

    def order(self, config: BaseConfig, rows: int) -> Order:
        heads = getattr(config, self.heads)
        return np.arange(rows * self.of).reshape(heads, self.of, -1)[:, self.number].reshape(-1)


@dataclass(frozen=True)
class From:
    """A tensor of a checkpoint, and what becomes of it: rows are moved, first the first way, and columns one
    way; numbers of a vector are added to, and others made `through` them; a matrix is transposed before all
    that. With `of`, its dimensions, it is one whose
    rows make a vector; with `each`, a number in the config, it is as many tensors with `{n}` in their
    names, one after another; with `stacked`, such a number, too, it has a dimension more, of so many members
    that come one after another, each of which is what is transposed;
    `lifted`, it may be a vector that is a matrix's one row.
    """

    name: str
    moves: tuple[Move, ...] = ()
    plus: float = 0.0
    transposed: bool = False
    of: tuple[str, ...] = ()
    each: str = ""
    stacked: str = ""
    lifted: bool = False
    columns: Move | None = None
    through: Callable[[Order], Order] | None = None

    def filled(self, i: int) -> From:
        """With `{i}` in its name filled in."""
        return replace(self, name=self.name.replace("{i}", str(i)))

    def names(self, config: BaseConfig) -> list[str]:
        """Of all the tensors that it is."""
        count = getattr(config, self.each) if self.each else 1
        return [self.name.replace("{n}", str(n)) for n in range(count)]


def negative_exp(x: Order) -> Order:
    """- e to the x, rounded once: what is forgotten by, of logarithms."""
    return (-np.exp(x.astype(np.float64))).astype(np.float32)


# What a tensor's rows are multiplied by, one after another: a number, or one for each of several parts, of so
# many rows as a word of the config says.
Factors = tuple[float | tuple[tuple[str, float], ...], ...]
Names = str | From | tuple[str | From, ...] | None


def sources(names: Names) -> tuple[From, ...]:
    """The names that a tensor may have in a checkpoint, the usual one first."""
    each = names if isinstance(names, tuple) else () if names is None else (names,)
    return tuple(From(name) if isinstance(name, str) else name for name in each)


@dataclass(frozen=True)
class Tensor:
    """One row of a family's table; `{i}` in a name stands for the block, 0 … num_hidden_layers-1."""

    name: str  # in the .edgeq file
    hf: Names  # in a Hugging Face checkpoint; None: made at conversion
    gguf: Names  # in a GGUF file
    shape: tuple[str, ...]  # names of the config's dimensions
    role: str  # "embed", "output", "matrix", "table" (a matrix that stays float32) or "vector"
    shares: str | None = None  # name of the row whose tensor this one may be (tied); never in a block
    when: str | Callable[[Any, int], bool] | None = None  # a word that must be true, or one asked for a block

    @property
    def hf_name(self) -> str | None:
        """The usual one."""
        return next((source.name for source in sources(self.hf)), None)

    @property
    def gguf_name(self) -> str | None:
        return next((source.name for source in sources(self.gguf)), None)

    def exists(self, config: BaseConfig, i: int) -> bool:
        """Whether a model of that config has it, in block i."""
        if self.when is None:
            return True
        return bool(getattr(config, self.when) if isinstance(self.when, str) else self.when(config, i))


@dataclass(frozen=True)
class Expected:
    """A row of the table for one config: block and dimensions filled in."""

    name: str
    hf: tuple[From, ...]
    gguf: tuple[From, ...]
    shape: tuple[int, ...]
    role: str
    row: Tensor

    @property
    def hf_name(self) -> str | None:
        """The usual one."""
        return self.hf[0].name if self.hf else None

    @property
    def gguf_name(self) -> str | None:
        return self.gguf[0].name if self.gguf else None


def expand(table: tuple[Tensor, ...], config: BaseConfig) -> Iterator[Expected]:
    """The tensors that a config needs, in file order, with `{i}` filled in, without those that are tied."""
    once = [row for row in table if "{i}" not in row.name]
    each = [row for row in table if "{i}" in row.name]
    for row in once:
        if row.exists(config, 0) and not (row.shares and config.tie_word_embeddings):
            yield _fill(row, config, 0)
    for i in range(config.num_hidden_layers):
        for row in each:
            if row.exists(config, i):
                yield _fill(row, config, i)


def _fill(row: Tensor, config: BaseConfig, i: int) -> Expected:
    return Expected(
        row.name.replace("{i}", str(i)),
        tuple(source.filled(i) for source in sources(row.hf)),
        tuple(source.filled(i) for source in sources(row.gguf)),
        tuple(getattr(config, dimension) for dimension in row.shape),
        row.role,
        row,
    )


# ---- rows that many families have ----
HF, GGUF = "model.layers.{i}.", "blk.{i}."
QKV = ("q_size", "kv_size", "kv_size")


def ends(hf_norm: str = "model.norm.weight", plus: float = 0.0) -> tuple[Tensor, ...]:
    """Embedding, head, final norm and the frequencies of the rotation."""
    return (
        Tensor("embed", "model.embed_tokens.weight", "token_embd.weight", ("vocab_size", "hidden_size"),
               "embed"),
        Tensor("output", "lm_head.weight", "output.weight", ("vocab_size", "hidden_size"), "output",
               shares="embed"),
        norm("norm", hf_norm, "output_norm.weight", plus=plus),
        Tensor("rope.inverse_frequencies", None, None, ("rotary_size",), "vector"),
    )  # fmt: skip


def norm(name: str, hf: str, gguf: str, shape: str = "hidden_size", plus: float = 0.0) -> Tensor:
    """A norm's weight, or bias; `plus` is added to what a Hugging Face checkpoint has."""
    return Tensor(name, From(hf, plus=plus), gguf, (shape,), "vector")


def attention(
    *, hf_interleaved: bool = False, gguf_interleaved: bool = False, hf_fused: str = "", o: str = "o_proj"
) -> tuple[Tensor, ...]:
    """The four matrices. *_interleaved: queries and keys are so in such checkpoints; hf_fused: the name of
    one matrix that has the rows of q, k and v, where checkpoints may have that.
    """
    heads = ("num_attention_heads", "num_key_value_heads", "")
    rows = []
    for number, (letter, dimension) in enumerate(zip("qkv", QKV, strict=True)):
        turn = (Interleaved(heads[number]),) if heads[number] else ()
        part = Part(number, QKV)
        hf_turn, gguf_turn = turn * hf_interleaved, turn * gguf_interleaved
        hf: tuple[From, ...] = (From(f"{HF}self_attn.{letter}_proj.weight", hf_turn),)
        if hf_fused:
            hf = (From(f"{HF}self_attn.{hf_fused}.weight", (part, *hf_turn)), *hf)
        gguf = (
            From(f"{GGUF}attn_{letter}.weight", gguf_turn),
            From(f"{GGUF}attn_qkv.weight", (part, *gguf_turn)),
        )
        rows.append(Tensor(f"blocks.{{i}}.{letter}", hf, gguf, (dimension, "hidden_size"), "matrix"))
    o_row = Tensor("blocks.{i}.o", f"{HF}self_attn.{o}.weight", f"{GGUF}attn_output.weight",
                   ("hidden_size", "q_size"), "matrix")  # fmt: skip
    return (*rows, o_row)


def attention_biases(
    when: str | None = None, *, interleaved: bool = False, o: str | None = None
) -> tuple[Tensor, ...]:
    """The biases of q, k and v, where the word `when` is true; that of o where `o` is. interleaved: those of
    queries and keys are so in all checkpoints.
    """
    rows = [
        Tensor(f"{row.name}_bias", biases(row.hf), biases(row.gguf), row.shape[:1], "vector", when=when)
        for row in attention(hf_interleaved=interleaved, gguf_interleaved=interleaved)[:3]
    ]
    if o:
        rows.append(Tensor("blocks.{i}.o_bias", f"{HF}self_attn.o_proj.bias", f"{GGUF}attn_output.bias",
                           ("hidden_size",), "vector", when=o))  # fmt: skip
    return tuple(rows)


def biases(names: Names) -> tuple[From, ...]:
    """The biases beside what is called so, whose rows are moved as those are."""
    return tuple(
        replace(source, name=source.name.removesuffix("weight") + "bias") for source in sources(names)
    )


def mlp(hf_fused: str = "", gguf_fused: str = "", *, hf: str = "mlp.") -> tuple[Tensor, ...]:
    """The three matrices of a gated MLP, in checkpoints under `hf`. *_fused: the name of one matrix that has
    the rows of gate and up, where checkpoints may have that.
    """
    both = ("intermediate_size", "intermediate_size")
    rows = []
    for number, letter in enumerate(("gate", "up")):
        part = (Part(number, both),)
        names: tuple[From, ...] = (From(f"{HF}{hf}{letter}_proj.weight"),)
        gguf: tuple[From, ...] = (From(f"{GGUF}ffn_{letter}.weight"),)
        if hf_fused:
            names = (From(f"{HF}{hf}{hf_fused}.weight", part), *names)
        if gguf_fused:
            gguf = (From(f"{GGUF}{gguf_fused}.weight", part),)
        rows.append(
            Tensor(f"blocks.{{i}}.{letter}", names, gguf, ("intermediate_size", "hidden_size"), "matrix")
        )
    return (
        *rows,
        Tensor("blocks.{i}.down", f"{HF}{hf}down_proj.weight", f"{GGUF}ffn_down.weight",
               ("hidden_size", "intermediate_size"), "matrix"),
    )  # fmt: skip


def head_norms(hf: tuple[str, str] = ("q_norm", "k_norm"), plus: float = 0.0) -> tuple[Tensor, ...]:
    """Norms of each head of queries and keys."""
    return tuple(
        norm(f"blocks.{{i}}.{letter}_norm", f"{HF}self_attn.{name}.weight",
             f"{GGUF}attn_{letter}_norm.weight", "head_dim", plus)
        for letter, name in zip("qk", hf, strict=True)
    )  # fmt: skip


def decoder(*, gguf_interleaved: bool = False) -> tuple[Tensor, ...]:
    """All rows that a decoder of the Llama line has."""
    return (
        *ends(),
        norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{GGUF}attn_norm.weight"),
        *attention(gguf_interleaved=gguf_interleaved),
        norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{GGUF}ffn_norm.weight"),
        *mlp(),
    )
