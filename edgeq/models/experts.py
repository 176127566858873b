"""Mixtures of experts in place of an MLP: their config's words, rows of tensors, and the pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.errors import EdgeqError
from edgeq.formats.schemes.scheme import TILE_ROWS
from edgeq.models import decoder
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Words
from edgeq.models.tensors import GGUF, HF, From, Names, OfHeads, Tensor
from edgeq.models.words import Truth, Whole, refuse, word

if TYPE_CHECKING:
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector

    Gate = Callable[[Recorder, Rows, Rows, tuple[Matrix], int], Input]

WORDS = ("num_experts", "num_local_experts")
REQUIRE_EXPERTS: Mapping[str, tuple[Any, ...]] = {k: v for k, v in REQUIRE_BASE.items() if k not in WORDS}
GGUF_EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
GGUF_SHARED = {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"}
GGUF_NONE: Mapping[str, Any] = {"num_experts": None, "num_experts_per_tok": None}  # where a file has no key


def gguf_widths(raw: Words, keys: Mapping[str, Any]) -> None:
    """Old files of Qwen's have the width of an MLP alone: of the chosen experts together it is that, and that
    of the one that all tokens share.
    """
    inner, picked = raw["intermediate_size"], raw["num_experts_per_tok"]
    if type(inner) is int and type(picked) is int and picked > 0:
        raw.setdefault("moe_intermediate_size", inner // picked)
        raw.setdefault("shared_expert_intermediate_size", inner)


@dataclass(frozen=True)
class Config(BaseConfig):
    num_experts: int = word(Whole(1, 4096))
    num_experts_per_tok: int = word(Whole(1, 64))
    moe_intermediate_size: int = word(Whole(1, 1 << 16))  # of one expert
    norm_topk_prob: bool = word(Truth())  # whether the shares of the chosen ones add up to 1

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_EXPERTS, "attention_bias": (False,)}

    one: ClassVar[int] = 1  # a dimension of gates

    @property
    def experts_width(self) -> int:
        """Rows of the gates of all experts."""
        return self.num_experts * self.moe_intermediate_size

    @property
    def experts_hidden(self) -> int:
        """Rows of the last matrices of all experts."""
        return self.num_experts * self.hidden_size

    @classmethod
    def _words(cls, raw: Mapping[str, Any], error: type[EdgeqError]) -> dict[str, Any]:
        words = super()._words(raw, error)
        if words["num_experts_per_tok"] > words["num_experts"]:
            right = f"at most num_experts {words['num_experts']} is needed"
            refuse("num_experts_per_tok", words["num_experts_per_tok"], right, error)
        if words["num_experts"] and not words["num_experts_per_tok"]:
            refuse("num_experts_per_tok", 0, "a token must go to some experts", error)
        for name in ("moe_intermediate_size", "hidden_size"):
            if words["num_experts"] and words[name] % TILE_ROWS:
                refuse(
                    name, words[name], f"a multiple of {TILE_ROWS} is needed where there are experts", error
                )
        return words


def rows(
    hf: str = "mlp.",
    router: str = "gate",
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    *,
    when: Callable[[Any, int], bool] | None = None,
) -> tuple[Tensor, ...]:
    """The router and the experts' matrices, in checkpoints under `hf`: a matrix for each expert, or one of
    three dimensions for all. when(config, i): whether block i has them.
    """
    gate, up, down = names

    def of(name: str, fused: str, *halves: OfHeads) -> Names:
        """Of each expert alone, or of all in one, where gate and up may be one matrix, too."""
        alone = From(f"{HF}{hf}experts.{{n}}.{name}.weight", each="num_experts")
        return alone, From(f"{HF}{hf}experts.{fused}", halves, stacked="num_experts")

    def stack(name: str, fused: str, *halves: OfHeads) -> Names:
        whole = From(f"{GGUF}ffn_{name}_exps.weight", stacked="num_experts")
        return whole, From(f"{GGUF}ffn_{fused}_exps.weight", halves, stacked="num_experts")

    first, second = (OfHeads(number, 2, "num_experts") for number in range(2))
    wide, narrow = ("experts_width", "hidden_size"), ("experts_hidden", "moe_intermediate_size")
    return (
        Tensor("blocks.{i}.router", f"{HF}{hf}{router}.weight", f"{GGUF}ffn_gate_inp.weight",
               ("num_experts", "hidden_size"), "table", when=when),
        Tensor("blocks.{i}.experts_gate", of(gate, "gate_up_proj", first), stack("gate", "gate_up", first),
               wide, "matrix", when=when),
        Tensor("blocks.{i}.experts_up", of(up, "gate_up_proj", second), stack("up", "gate_up", second),
               wide, "matrix", when=when),
        Tensor("blocks.{i}.experts_down", of(down, "down_proj"),
               From(f"{GGUF}ffn_down_exps.weight", stacked="num_experts"), narrow, "matrix", when=when),
    )  # fmt: skip


def shared_rows(*, when: Callable[[Any, int], bool] | None = None) -> tuple[Tensor, ...]:
    """Qwen's expert that all tokens share, and its gate, whose one row GGUF files have as a vector."""
    wide = ("shared_expert_intermediate_size", "hidden_size")
    return (
        Tensor("blocks.{i}.gate", f"{HF}mlp.shared_expert.gate_proj.weight", f"{GGUF}ffn_gate_shexp.weight",
               wide, "matrix", when=when),
        Tensor("blocks.{i}.up", f"{HF}mlp.shared_expert.up_proj.weight", f"{GGUF}ffn_up_shexp.weight",
               wide, "matrix", when=when),
        Tensor("blocks.{i}.down", f"{HF}mlp.shared_expert.down_proj.weight", f"{GGUF}ffn_down_shexp.weight",
               wide[::-1], "matrix", when=when),
        Tensor("blocks.{i}.shared_gate", f"{HF}mlp.shared_expert_gate.weight",
               From(f"{GGUF}ffn_gate_inp_shexp.weight", lifted=True), ("one", "hidden_size"), "table",
               when=when),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The matrices of a block's experts, those of all one after another."""

    router: Matrix  # [experts, hidden]
    experts_gate: Matrix  # [experts * width, hidden]
    experts_up: Matrix  # [experts * width, hidden]
    experts_down: Matrix  # [experts * hidden, width]
    router_bias: Vector | None = None
    experts_gate_bias: Vector | None = None
    experts_up_bias: Vector | None = None
    experts_down_bias: Vector | None = None

    @property
    def readers(self) -> tuple[Matrix, ...]:
        """What reads the rows that tokens come with."""
        return self.router, self.experts_gate, self.experts_up


@dataclass(frozen=True, kw_only=True)
class Shared(Experts, decoder.Gated):
    """And those of an expert that all tokens share, with its gate."""

    shared_gate: Matrix  # [1, hidden]

    @property
    def readers(self) -> tuple[Matrix, ...]:
        return *super().readers, self.gate, self.up, self.shared_gate


def silu(p: Recorder, gate: Rows, up: Rows, readers: tuple[Matrix], each: int) -> Input:
    """silu(gate) * up."""
    return ops.gated(p, gate, up, readers, "silu", each=each)


def mixture(
    p: Recorder,
    c: Config,
    b: Experts,
    x: Rows | None,
    h: Input,
    *,
    scores: Rows | None = None,
    scoring: str = "softmax",
    factor: float = 1.0,
    bias: Vector | None = None,
    scales: Vector | None = None,
    gate: Gate = silu,
) -> Rows:
    """x, if given, + the sum of what the chosen experts make of h, each times its share; chosen by `scores`,
    or by the router's of h.
    """
    if scores is None:
        scores = ops.matmul(p, b.router, h, bias=b.router_bias)
    routes = ops.route(
        p,
        scores,
        picked=c.num_experts_per_tok,
        scoring=scoring,
        renormalize=c.norm_topk_prob,
        factor=factor,
        bias=bias,
        scales=scales,
    )
    rows = ops.gather(p, h, routes, (b.experts_gate, b.experts_up))
    g = ops.matmul_experts(p, b.experts_gate, rows, routes, bias=b.experts_gate_bias)
    u = ops.matmul_experts(p, b.experts_up, rows, routes, bias=b.experts_up_bias)
    y = gate(p, g, u, (b.experts_down,), routes.picked)
    return ops.add_slots(
        p, x, ops.matmul_experts(p, b.experts_down, y, routes, bias=b.experts_down_bias), routes
    )


def shared_mixture(p: Recorder, c: Config, b: Shared, x: Rows, h: Input) -> Rows:
    """x + mixture(h) + sigmoid(gate h) shared(h)."""
    x = mixture(p, c, b, x, h)
    return ops.add_gated(p, x, decoder.feed_forward(p, b, h), ops.matmul(p, b.shared_gate, h))
