"""Layers of the gated delta rule (Yang et al. 2024): their config's words, rows of tensors, and the pass.

Heads of values are in the order that GGUF files have, where columns of quantized matrices stay where they
are: of Qwen3.5 head h has the keys of head h % key heads, of Qwen3-Next heads with the same keys come one
after another, as they do in checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq import ops
from edgeq.cache import StateShape
from edgeq.formats.schemes.scheme import TILE_ROWS
from edgeq.models.base import BaseConfig
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, Order, Tensor, negative_exp, norm, size, sources
from edgeq.models.words import Whole, refuse, word
from edgeq.ops.recurrent import history
from edgeq.runtime.weights import Vector

if TYPE_CHECKING:
    from edgeq.cache import StateLayer
    from edgeq.errors import EdgeqError
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix

EPSILON = 1e-6  # beside the squares of a query or key
GGUF_WORDS = {
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.time_step_rank": "linear_num_value_heads",
    "ssm.inner_size": "linear_value_head_dim",
}
GGUF_NONE: Mapping[str, Any] = dict.fromkeys(GGUF_WORDS.values())


@dataclass(frozen=True)
class Config(BaseConfig):
    linear_conv_kernel_dim: int = word(Whole(1, 64))  # tokens that a convolution sees
    linear_num_key_heads: int = word(Whole(1, 1024))
    linear_num_value_heads: int = word(Whole(1, 1024))
    linear_key_head_dim: int = word(Whole(1, 1024))
    linear_value_head_dim: int = word(Whole(TILE_ROWS, 1024))

    one: ClassVar[int] = 1  # a dimension of convolutions

    @property
    def linear_keys(self) -> int:
        """Rows of queries, and of keys."""
        return self.linear_num_key_heads * self.linear_key_head_dim

    @property
    def linear_values(self) -> int:
        """Rows of values."""
        return self.linear_num_value_heads * self.linear_value_head_dim

    @property
    def linear_qkv(self) -> int:
        """Rows of all three."""
        return 2 * self.linear_keys + self.linear_values

    @property
    def linear_share(self) -> int:
        """Heads of values for each of keys."""
        return self.linear_num_value_heads // self.linear_num_key_heads

    @property
    def linear_share_values(self) -> int:
        """And the rows of those."""
        return self.linear_share * self.linear_value_head_dim

    @property
    def linear_alike(self) -> int:
        """Heads of values one after another that have the same keys."""
        return 1

    @property
    def linear_taps(self) -> int:
        """Numbers of a convolution."""
        return self.linear_qkv * self.linear_conv_kernel_dim

    @property
    def state(self) -> StateShape:
        """What a layer keeps: the last tokens of its convolution, and a matrix for each head."""
        kept = history(self.linear_qkv, self.linear_conv_kernel_dim)
        return StateShape((kept, self.linear_values * self.linear_key_head_dim))

    @classmethod
    def _words(cls, raw: Mapping[str, Any], error: type[EdgeqError]) -> dict[str, Any]:
        words = super()._words(raw, error)
        heads, keys = words["linear_num_value_heads"], words["linear_num_key_heads"]
        if heads % keys:
            refuse("linear_num_key_heads", keys, f"it must divide linear_num_value_heads {heads}", error)
        if (width := words["linear_value_head_dim"]) % TILE_ROWS:
            refuse("linear_value_head_dim", width, f"a multiple of {TILE_ROWS} is needed", error)
        return words


@dataclass(frozen=True)
class ByTurns:
    """Heads of values, which the other has key head by key head, come one of each key head by turns. Words of
    the config say how many rows of queries and of keys come before, and how many numbers each row is.
    """

    before: str = ""
    each: str = "one"

    def count(self, config: BaseConfig, rows: int) -> int:
        return rows

    def order(self, config: BaseConfig, rows: int) -> Order:
        first = 2 * getattr(config, self.before) * getattr(config, self.each) if self.before else 0
        keys, heads = (getattr(config, f"linear_num_{kind}_heads") for kind in ("key", "value"))
        by_key = np.arange(first, rows).reshape(keys, heads // keys, -1)
        return np.concatenate([np.arange(first), by_key.swapaxes(0, 1).reshape(-1)])


@dataclass(frozen=True)
class ByKeyHead:
    """The other has rows of several tensors key head by key head, `of` these words of the config of each;
    here are those of `numbers`, one tensor after another.
    """

    of: tuple[str, ...]
    numbers: tuple[int, ...]

    def count(self, config: BaseConfig, rows: int) -> int:
        return sum(self._sizes(config)) * size(config, "linear_num_key_heads")

    def order(self, config: BaseConfig, rows: int) -> Order:
        by_head = np.arange(self.count(config, rows)).reshape(size(config, "linear_num_key_heads"), -1)
        parts = np.split(by_head, np.cumsum(self._sizes(config))[:-1], axis=1)
        return np.concatenate([parts[number].reshape(-1) for number in self.numbers])

    def _sizes(self, config: BaseConfig) -> list[int]:
        return [size(config, name) for name in self.of]


def rows() -> tuple[Tensor, ...]:
    """All that a delta rule has, in checkpoints under `linear_attn`."""
    hf, turns = f"{HF}linear_attn.", (ByTurns(),)
    conv, taps = (ByTurns("linear_keys", "linear_conv_kernel_dim"),), "linear_conv_kernel_dim"
    heads, wide = ("linear_num_value_heads",), ("linear_num_value_heads", "hidden_size")
    return (
        Tensor("blocks.{i}.qkv", From(f"{hf}in_proj_qkv.weight", (ByTurns("linear_keys"),)),
               f"{BLK}attn_qkv.weight", ("linear_qkv", "hidden_size"), "matrix"),
        Tensor("blocks.{i}.z", From(f"{hf}in_proj_z.weight", turns), f"{BLK}attn_gate.weight",
               ("linear_values", "hidden_size"), "matrix"),
        Tensor("blocks.{i}.forget", From(f"{hf}in_proj_a.weight", turns), f"{BLK}ssm_alpha.weight",
               wide, "table"),
        Tensor("blocks.{i}.write", From(f"{hf}in_proj_b.weight", turns), f"{BLK}ssm_beta.weight",
               wide, "table"),
        Tensor("blocks.{i}.forget_slope", From(f"{hf}A_log", turns, through=negative_exp),
               f"{BLK}ssm_a", heads, "vector"),
        Tensor("blocks.{i}.forget_bias", From(f"{hf}dt_bias", turns), f"{BLK}ssm_dt.bias", heads, "vector"),
        Tensor("blocks.{i}.conv", From(f"{hf}conv1d.weight", conv, of=("linear_qkv", "one", taps)),
               From(f"{BLK}ssm_conv1d.weight", of=("linear_qkv", taps)), ("linear_taps",), "vector"),
        norm("blocks.{i}.head_norm", f"{hf}norm.weight", f"{BLK}ssm_norm.weight", "linear_value_head_dim"),
        Tensor("blocks.{i}.out", From(f"{hf}out_proj.weight", columns=ByTurns()), f"{BLK}ssm_out.weight",
               ("hidden_size", "linear_values"), "matrix"),
    )  # fmt: skip


def grouped_rows() -> tuple[Tensor, ...]:
    """The same where heads of values with the same keys come one after another, and projections are fused."""

    keys, values = ("linear_key_head_dim",), ("linear_share_values",)
    qkvz, ba = (*keys * 2, *values * 2), ("linear_share", "linear_share")
    moved = {
        "qkv": ("qkvz", ByKeyHead(qkvz, (0, 1, 2))),
        "z": ("qkvz", ByKeyHead(qkvz, (3,))),
        "forget": ("ba", ByKeyHead(ba, (1,))),
        "write": ("ba", ByKeyHead(ba, (0,))),
    }
    found = []
    for row in rows():
        kind, move = moved.get(row.name.rpartition(".")[2], ("", None))
        (hf,), gguf = sources(row.hf), sources(row.gguf)
        if move is None:
            hf = replace(hf, moves=(), columns=None)
        else:
            hf = From(f"{HF}linear_attn.in_proj_{kind}.weight", (move,))
            fused = From(f"{BLK}{'ssm_ba' if kind == 'ba' else 'ssm_in'}.weight", (move,))
            gguf = (fused,) if kind == "ba" else (*gguf, fused)  # which only old files have so
        found.append(replace(row, hf=hf, gguf=gguf))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A layer's weights."""

    qkv: Matrix  # [2 * key heads * key dim + heads * value dim, hidden]
    z: Matrix  # [heads * value dim, hidden]
    forget: Matrix  # [heads, hidden]
    write: Matrix  # [heads, hidden]
    forget_slope: Vector  # [heads]
    forget_bias: Vector  # [heads]
    conv: Vector  # [rows of qkv * reach]
    head_norm: Vector  # [value dim]
    out: Matrix  # [hidden, heads * value dim]

    @property
    def readers(self) -> tuple[Matrix, ...]:
        """What reads the rows that tokens come with."""
        return self.qkv, self.z, self.forget, self.write


def mix(p: Recorder, c: Config, b: Delta, h: Input, x: Rows, state: tuple[StateLayer, ...]) -> Rows:
    """x + W_out . (silu(W_z . h) * norm(delta rule)), whose queries and keys are convolved, with values, and
    then of length 1.
    """
    kept, matrices = state
    qkv, size = ops.conv_silu(p, ops.matmul(p, b.qkv, h), b.conv, kept), c.linear_key_head_dim
    unit = Vector("the length of queries and keys", np.full(size, 1 / sqrt(size), np.float32))
    ops.norm_heads(p, qkv.part(0, 2 * c.linear_keys), unit, epsilon=EPSILON / size)
    forget = ops.decay(p, ops.matmul(p, b.forget, h), b.forget_slope, b.forget_bias)
    write = ops.sigmoid(p, ops.matmul(p, b.write, h))
    y = ops.delta_rule(
        p, qkv, forget, write, matrices,
        key_heads=c.linear_num_key_heads, key_dim=size, alike=c.linear_alike,
    )  # fmt: skip
    ops.norm_heads(p, y, b.head_norm, epsilon=c.rms_norm_eps)
    return ops.matmul(p, b.out, ops.gated(p, ops.matmul(p, b.z, h), y, (b.out,)), add_to=x)
