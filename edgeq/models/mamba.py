"""Layers of Mamba-2 (Dao and Gu 2024): their config's words, rows of tensors, and the pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.cache import StateShape
from edgeq.errors import UnsupportedError
from edgeq.models.base import BaseConfig
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, Part, Tensor, negative_exp
from edgeq.models.words import Truth, Whole, refuse, word
from edgeq.ops.recurrent import LINE, STATE_LEAST, history, lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeq.cache import StateLayer
    from edgeq.errors import EdgeqError
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector

AUTO = "auto"  # a head's width where it is that of all over their number
GGUF_WORDS = {
    "ssm.conv_kernel": "mamba_d_conv",
    "ssm.state_size": "mamba_d_state",
    "ssm.group_count": "mamba_n_groups",
    "ssm.time_step_rank": "mamba_n_heads",
    "ssm.inner_size": "mamba_d_head",
}
GGUF_NONE: Mapping[str, Any] = dict.fromkeys(GGUF_WORDS.values())
GGUF_THERE = {"mamba_conv_bias": ("ssm_conv1d.bias",)}
REQUIRE: Mapping[str, tuple[Any, ...]] = {"mamba_proj_bias": (False,)}
UNLIMITED = ([0, inf], [0, {"__float__": "Infinity"}])  # steps, as JSON has it and as transformers writes it
DEFAULTS: Mapping[str, Any] = {
    "mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_head": AUTO, "mamba_d_conv": 4,
    "mamba_expand": 2, "mamba_conv_bias": True,
}  # fmt: skip


@dataclass(frozen=True)
class Config(BaseConfig):
    mamba_n_heads: int = word(Whole(1, 1024))
    mamba_n_groups: int = word(Whole(1, 1024))  # of heads that are written and read alike
    mamba_d_head: int = word(Whole(1, 1024))
    mamba_d_state: int = word(Whole(STATE_LEAST, 1024))
    mamba_d_conv: int = word(Whole(1, 64))  # tokens that a convolution sees
    mamba_conv_bias: bool = word(Truth())

    one: ClassVar[int] = 1  # a dimension of convolutions and of what there is one of for each head

    @property
    def mamba_inner(self) -> int:
        """Rows of what enters, and of its gate."""
        return self.mamba_n_heads * self.mamba_d_head

    @property
    def mamba_group(self) -> int:
        """And of a group of heads."""
        return self.mamba_inner // self.mamba_n_groups

    @property
    def mamba_xbc(self) -> int:
        """Rows of what enters, what writes and what reads: those that are convolved."""
        return self.mamba_inner + 2 * self.mamba_n_groups * self.mamba_d_state

    @property
    def mamba_taps(self) -> int:
        """Numbers of a convolution."""
        return self.mamba_xbc * self.mamba_d_conv

    @property
    def state(self) -> StateShape:
        """What a layer keeps: the last tokens of its convolution, and a matrix for each head."""
        matrix = lines(self.mamba_d_head) * LINE * self.mamba_d_state
        return StateShape((history(self.mamba_xbc, self.mamba_d_conv), self.mamba_n_heads * matrix))

    @classmethod
    def _settle_mamba(cls, given: dict[str, Any], inner: int | None = None) -> None:
        """A head's width where it is not said; `inner` of all, or so many times the hidden size. Steps must
        have no limits.
        """
        limit = given.get("time_step_limit")
        if limit is not None and not (isinstance(limit, list | tuple) and [*limit] in UNLIMITED):
            refuse("time_step_limit", limit, "this family is written for steps without limits, from 0 on")
        heads = cls._read(given, "mamba_n_heads")
        if inner is None and given["mamba_expand"] is not None:
            expand = Whole(1, 64).read(given, "mamba_expand", UnsupportedError)
            inner = expand * cls._read(given, "hidden_size")
        if given["mamba_d_head"] == AUTO and inner is not None:
            if inner % heads:
                refuse("mamba_n_heads", heads, f"it must divide the width of all, {inner}")
            given["mamba_d_head"] = inner // heads
        elif inner is not None and heads * cls._read(given, "mamba_d_head") != inner:
            refuse("mamba_d_head", given["mamba_d_head"], f"{heads} of them must be {inner} wide")

    @classmethod
    def _words(cls, raw: Mapping[str, Any], error: type[EdgeqError]) -> dict[str, Any]:
        words = super()._words(raw, error)
        heads, groups = words["mamba_n_heads"], words["mamba_n_groups"]
        if heads % groups:
            refuse("mamba_n_groups", groups, f"it must divide mamba_n_heads {heads}", error)
        return words


def rows(*, when: Callable[[Any, int], bool], normed: Callable[[Any, int], bool]) -> tuple[Tensor, ...]:
    """All that a layer of Mamba-2 has, in checkpoints under `mamba`, in those blocks of which `when` is true;
    a norm of groups where `normed` is.
    """
    hf, fused = f"{HF}mamba.", ("mamba_inner", "mamba_xbc", "mamba_n_heads")
    heads, conv = ("mamba_n_heads",), ("mamba_xbc", "mamba_d_conv")

    def part(number: int, name: str) -> Tensor:
        """Of the matrix of all that is made of a token's row."""
        move = (Part(number, fused),)
        return Tensor(f"blocks.{{i}}.{name}", From(f"{hf}in_proj.weight", move),
                      From(f"{BLK}ssm_in.weight", move), (fused[number], "hidden_size"), "matrix",
                      when=when)  # fmt: skip

    def biased(c: Any, i: int) -> bool:
        return bool(c.mamba_conv_bias and when(c, i))

    return (
        part(0, "z"),
        part(1, "xbc"),
        part(2, "step"),
        Tensor("blocks.{i}.step_bias", f"{hf}dt_bias", f"{BLK}ssm_dt.bias", heads, "vector", when=when),
        Tensor("blocks.{i}.forget_slope", From(f"{hf}A_log", through=negative_exp),
               From(f"{BLK}ssm_a", of=(*heads, "one")), heads, "vector", when=when),
        Tensor("blocks.{i}.skip", f"{hf}D", From(f"{BLK}ssm_d", of=(*heads, "one")), heads, "vector",
               when=when),
        Tensor("blocks.{i}.conv", From(f"{hf}conv1d.weight", of=("mamba_xbc", "one", "mamba_d_conv")),
               From(f"{BLK}ssm_conv1d.weight", of=conv), ("mamba_taps",), "vector", when=when),
        Tensor("blocks.{i}.conv_bias", f"{hf}conv1d.bias", f"{BLK}ssm_conv1d.bias", ("mamba_xbc",), "vector",
               when=biased),
        Tensor("blocks.{i}.group_norm", f"{hf}norm.weight",
               From(f"{BLK}ssm_norm.weight", of=("mamba_n_groups", "mamba_group")), ("mamba_inner",),
               "vector", when=normed),
        Tensor("blocks.{i}.out", f"{hf}out_proj.weight", f"{BLK}ssm_out.weight",
               ("hidden_size", "mamba_inner"), "matrix", when=when),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mamba:
    """A layer's weights."""

    z: Matrix  # [heads * width, hidden]
    xbc: Matrix  # [heads * width + 2 * groups * state, hidden]
    step: Matrix  # [heads, hidden]
    step_bias: Vector  # [heads]
    forget_slope: Vector  # [heads]
    skip: Vector  # [heads]
    conv: Vector  # [rows of xbc * reach]
    conv_bias: Vector | None = None  # [rows of xbc]
    group_norm: Vector | None = None  # [heads * width]
    out: Matrix  # [hidden, heads * width]

    @property
    def readers(self) -> tuple[Matrix, ...]:
        """What reads the rows that tokens come with."""
        return self.z, self.xbc, self.step


def mix(
    p: Recorder, c: Config, b: Mamba, h: Input, state: tuple[StateLayer, ...], add_to: Rows | None = None
) -> Rows:
    """W_out . norm(silu(W_z . h) * state space(conv(W_xbc . h))), added to other rows or not; the norm is of
    each group, or there is none.
    """
    kept, matrices = state
    a = ops.conv_silu(p, ops.matmul(p, b.xbc, h), b.conv, kept, bias=b.conv_bias)
    step, forget = ops.time_steps(p, ops.matmul(p, b.step, h), b.forget_slope, b.step_bias)
    y = ops.state_space(
        p, a, step, forget, b.skip, matrices, groups=c.mamba_n_groups, state_dim=c.mamba_d_state
    )
    z = ops.matmul(p, b.z, h)
    if b.group_norm is None:
        return ops.matmul(p, b.out, ops.gated(p, z, y, (b.out,)), add_to=add_to)
    y = ops.gated_rows(p, z, y, "silu")
    ops.norm_heads(p, y, b.group_norm, head_dim=c.mamba_group, epsilon=c.rms_norm_eps)
    return ops.matmul(p, b.out, ops.quantize(p, y, (b.out,)), add_to=add_to)
