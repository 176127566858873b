"""Old bytes of the arena change nothing: random models, with all that a pass computes in filled beforehand.

usage: python -m tests.arena [--models N] [--seed N]

Each model is a small .edgeq file of random family, shape, schemes and context, and is run with both
activations and every cache over a prompt cut at random. Its logits must have the bits that an arena of zeros
gives, where before each pass the arena, the results and the unused cache are filled with NaN, with -1 or with
random bytes; and where before each *instruction* everything is filled but what the buffers that it reads
mean, and after it nothing has changed but the buffers that it writes: so every kernel is held to what
`edgeq.runtime.arena` says, and to its roles in the catalog. The exit code is 1 where a bit differs.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import edgeq
from edgeq import memory, models
from edgeq.cache import KINDS, Page
from edgeq.engine import ACTS, Model, Sequence
from edgeq.formats import SCHEMES as ROWS
from edgeq.formats import TensorPlan, Writer, encode
from edgeq.formats.schemes import rounds_to
from edgeq.kernels.catalog import WIDTH, Batch
from edgeq.kernels.roles import CACHE, INT8, SCRATCH, STATE, Operand, factors, product
from edgeq.kernels.row import CODES, FLOATS
from edgeq.kernels.table import KERNELS
from edgeq.models import delta, experts, mamba
from edgeq.models.rope import Rope
from edgeq.models.words import FULL, SLIDING, Choice, Each, Real, Truth, Whole, Word
from edgeq.runtime.arena import Buffer, Rows
from edgeq.runtime.instructions import Instruction

Array = np.ndarray[Any, Any]
SCHEMES = tuple(name for name, row in ROWS.items() if row.number or (row.shipped and rounds_to(row)))
RANDOM = np.random.default_rng(0).integers(0, 256, 4099, np.uint8)  # a prime: no two rows hold the same
PATTERNS: dict[str, Array] = {
    "NaN": np.full(1, np.nan, np.float32),
    "-1": np.full(1, -1, np.int32),
    "-1.0": np.full(1, -1, np.float32),
    "random": RANDOM,
}
ZEROS = np.zeros(1, np.uint8)
POSITIONS = 1400  # a model's at the most: pages of the cache become far from the fourth on
FAR_FROM = 770  # tokens, of which a page is far


# ---- random models ----
def value_of(rng: np.random.Generator, kind: Word, layers: int, usual: bool = False) -> Any:
    """A value that such a word of a config may have; where it is one of few the `usual` one is the first, and
    layers have each in turn.
    """
    if usual and isinstance(kind, Each) and isinstance(kind.of, Choice):
        return tuple(kind.of.options[i % len(kind.of.options)] for i in range(layers))
    if usual and isinstance(kind, Choice | Truth):
        return kind.options[0] if isinstance(kind, Choice) else True
    if kind.null and rng.random() < 0.4:
        return None
    match kind:
        case Each():
            return tuple(value_of(rng, kind.of, layers, usual) for _ in range(layers))
        case Choice():
            return str(rng.choice(kind.options))
        case Truth():
            return bool(rng.random() < 0.5)
        case Whole():
            return int(rng.integers(kind.low, min(kind.high, kind.low + 300) + 1))
        case Real():
            return float(np.exp2(rng.uniform(-3, 3)))
    raise TypeError(f"words of {kind} are not made up")


def config_of(rng: np.random.Generator, family: str, usual: bool) -> models.BaseConfig:
    """Few numbers that are multiples of a line."""
    kv_heads, form = int(rng.integers(1, 4)), models.family(family).Config
    layers, head_dim = int(rng.integers(1, 4)), 2 * int(rng.integers(1, 44))
    layers += family == "gemma4"  # of which some keep nothing
    if usual and "layer_types" in form.words():
        layers = max(layers, 2)  # one of each kind
    base = {f.name for f in dataclasses.fields(models.BaseConfig)}
    kinds = {name: kind for name, kind in form.words().items() if name not in base}
    own = {name: value_of(rng, kind, layers, usual) for name, kind in kinds.items()}
    if "rotary_dim" in own:
        own["rotary_dim"] = 2 * int(rng.integers(1, head_dim // 2 + 1))
    windows = family == "llama" or "layer_types" in own
    vocab, hidden = int(rng.integers(3, 90)), int(rng.integers(1, 140))
    if issubclass(form, experts.Config):  # whose rows are whole tiles, and whose tokens go to some of them
        own["num_experts"] = int(rng.integers(1, 40))
        own["num_experts_per_tok"] = int(rng.integers(1, min(own["num_experts"], 8) + 1))
        own["moe_intermediate_size"], hidden = 16 * int(rng.integers(1, 6)), 16 * -(-hidden // 16)
    if family == "gemma4":
        own |= gemma4_words(rng, layers, kv_heads, vocab, usual)
    if issubclass(form, delta.Config):  # whose heads of values are whole lines, and some for each of keys
        keys = int(rng.integers(1, 4))
        own |= {"linear_num_key_heads": keys, "linear_num_value_heads": keys * int(rng.integers(1, 4))}
        own |= {"linear_key_head_dim": int(rng.integers(1, 40)), "linear_conv_kernel_dim": 3}
        own["linear_value_head_dim"] = 16 * int(rng.integers(1, 7))
    if issubclass(form, mamba.Config):  # whose heads are of some groups
        groups = int(rng.integers(1, 4))
        own |= {"mamba_n_groups": groups, "mamba_n_heads": groups * int(rng.integers(1, 4))}
        own |= {"mamba_d_head": int(rng.integers(1, 100)), "mamba_d_state": int(rng.integers(8, 40))}
        own["mamba_d_conv"] = 4
    config: models.BaseConfig = form(
        **own,
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=int(rng.integers(1, 200)),
        num_hidden_layers=layers,
        num_attention_heads=kv_heads * int(rng.integers(1, 5)),
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=1e-5,
        rope_factors={},
        tie_word_embeddings=bool(rng.random() < 0.4),
        sliding_window=int(rng.integers(1, 60)) if windows and rng.random() < 0.4 else None,
    )
    return config


def gemma4_words(
    rng: np.random.Generator, layers: int, kv_heads: int, vocab: int, usual: bool
) -> dict[str, Any]:
    """Of layers of both kinds the last ones keep nothing; the `usual` model has all that there is."""
    kinds = rng.choice([FULL, SLIDING], layers).tolist()
    shared = int(rng.integers(usual, layers))
    mixture = usual or rng.random() < 0.4
    none = (
        {} if mixture else dict.fromkeys(("num_experts", "num_experts_per_tok", "moe_intermediate_size"), 0)
    )
    kinds[layers - shared :] = [kinds[0]] * shared
    return {
        "layer_types": tuple(kinds), "num_kv_shared_layers": shared, "vocab_size_per_layer_input": vocab,
        "global_head_dim": 2 * int(rng.integers(1, 60)), "num_global_key_value_heads": kv_heads,
        "hidden_size_per_layer_input": int(rng.integers(1, 70)) if usual or rng.random() < 0.7 else 0,
        **none,
    }  # fmt: skip


def write_model(
    rng: np.random.Generator, path: Path, family: str, usual: bool = False
) -> tuple[str, models.BaseConfig]:
    """Write a random model: what it is in words, and its config. Most have one scheme for all matrices."""
    config = config_of(rng, family, usual)
    pool = list(SCHEMES) if rng.random() < 0.3 else [str(rng.choice(SCHEMES))]
    if usual:  # so that each family's kernels have int8 rows, and those of floats are met, too
        kinds = FLOATS if family in ("llama", "mixtral") else CODES
        pool = [str(rng.choice([name for name in SCHEMES if name in kinds]))]
    plans, data = [], []
    for want in models.expected(family, config):
        vector = want.role == "vector"
        scheme = "f32" if vector else str(rng.choice(pool))
        values = rng.normal(size=want.shape).astype(np.float32)
        if want.name.endswith("inverse_frequencies"):
            values = Rope(part=want.shape[0] / config.head_dim * 2).inverse_frequencies(config.head_dim)
        elif not vector:
            values *= np.float32(1.5 / np.sqrt(want.shape[1]))
        plans.append(TensorPlan(want.name, scheme, "plain" if vector else "lines16", want.shape))
        data.append(encode(values, scheme))
    header: dict[str, Any] = {
        "family": family,
        "config": config.to_header(),
        "tokenizer": None,
        "chat_template": None,
    }
    header |= {"generation": {}, "license": None, "source": {}, "required": []}
    with Writer(path, header, plans) as writer:
        for plan, values in zip(plans, data, strict=True):
            writer.write(plan.name, values)
        writer.commit()
    return f"{family} {'+'.join(sorted({str(plan.scheme) for plan in plans}))} {config}", config


@dataclass(frozen=True)
class Run:
    """How a model is run: threads, context, and the tokens, piece by piece."""

    threads: int
    context: int
    pieces: list[tuple[list[int], bool]]  # ids of a pass; whether the logits of all of them are wanted

    @classmethod
    def random(cls, rng: np.random.Generator, vocab: int, far: bool = False) -> Run:
        """`far`: with a page that is far in any case, and now and then else."""
        context = int(rng.integers(2, 100) if rng.random() < 0.85 else rng.integers(250, POSITIONS))
        context = max(context, FAR_FROM + 1) if far else context
        left, pieces = int(rng.integers(1, context + 1)), []
        if context > FAR_FROM and (far or rng.random() < 0.5):
            pieces.append((rng.integers(0, vocab, FAR_FROM).tolist(), False))
            left = min(left, context - FAR_FROM)
        while left:
            size = min(left, int(rng.choice([1, 1, 2, 5, int(rng.integers(1, 257))])), 256)
            pieces.append((rng.integers(0, vocab, size).tolist(), bool(rng.random() < 0.4)))
            left -= size
        return cls(int(rng.integers(1, 4)), context, pieces[:12])


# ---- runs in a filled arena ----
def fill_cache(sequence: Sequence, pattern: Array) -> None:
    take = sequence.model.pool.take

    def filled(nbytes: int) -> Page:
        page = take(nbytes)
        memory.fill(page.array, pattern)
        return page

    sequence.model.pool.take = filled  # type: ignore[method-assign]


def outcome(model: Model, run: Run, pattern: Array) -> list[Array]:
    """The bits that the passes give, of logits and likeliest token, with everything filled before each."""
    sequence, results = model.sequence(), []
    fill_cache(sequence, pattern)
    for ids, every in run.pieces:
        for program in (model.runner._program, *model.runner._narrow):
            program.poison(pattern)
        logits = sequence.feed(ids, all_logits=every)
        results += [logits.reshape(-1).view(np.uint32).copy(), np.array([sequence.likeliest])]
    return results


class Steps:
    """Runs a model's passes instruction by instruction, and lets each see nothing but what the buffers that
    it reads mean: before it, all the rest is filled. What it may not write has to stay as it is. In place of
    the method `run` of the model's pool.
    """

    def __init__(self, model: Model, pattern: Array):
        self.program, self.pattern = model.runner._program, pattern
        self.programs = [self.program, *model.runner._narrow]
        self.pool_run = model.runner._pool.run
        self.held: dict[Buffer, list[tuple[int, bytes]]] = {}
        self.kernels: set[str] = set()
        self.spoilt: set[str] = set()  # kernels that wrote what is not theirs

    def run(self, code: Array) -> None:
        self.program = next(p for p in self.programs if np.shares_memory(p.code, code))
        first = (code.ctypes.data - self.program.code.ctypes.data) // WIDTH
        for n in range(first, first + len(code)):
            instruction = self.program._instructions[n]
            self.program.poison(self.pattern)
            for buffer in instruction.reads:
                for address, held in self.held.get(buffer, ()) if isinstance(buffer, Buffer) else ():
                    ctypes.memmove(address, held, len(held))
            before = [piece.copy() for piece in self.program._arena]
            self.pool_run(self.program.code[n : n + 1])
            if not self.kept(instruction, before):
                self.spoilt.add(instruction.kernel)
            for buffer, spans in self.written(instruction):
                before_it = self.held.get(buffer, []) if buffer in instruction.reads else []  # it may be more
                self.held[buffer] = before_it + [(at, ctypes.string_at(at, size)) for at, size in spans]
            self.kernels.add(instruction.kernel)

    def kept(self, i: Instruction, before: list[Array]) -> bool:
        """Whether the arena is what it was before but for the buffers that the instruction writes."""
        for piece, old in zip(self.program._arena, before, strict=True):
            changed = piece != old
            for b in i.writes:
                if isinstance(b, Buffer) and 0 <= (at := b.address - piece.ctypes.data) < piece.nbytes:
                    changed[at : at + b.nbytes] = False
            if changed.any():
                return False
        return True

    def written(self, i: Instruction) -> Iterator[tuple[Buffer, list[tuple[int, int]]]]:
        """Each buffer that the instruction writes, and (address, bytes) of what it means there."""
        for role in KERNELS[i.kernel].roles:
            if isinstance(role, Operand) and role.WRITTEN and role.form not in (SCRATCH, CACHE, STATE):
                yield from self.meant(i, role)

    def meant(self, i: Instruction, role: Operand) -> Iterator[tuple[Buffer, list[tuple[int, int]]]]:
        batch, handle = self.program.batch_of(i).words, i.given[role.name]
        words: Any = i.operands
        count = int(batch[words.get("count_at", Batch.COUNT) // 8])
        known = role.count == (1,) or "tokens" in factors(role.count)
        many = product(role.count, {**words, "tokens": count}) if known else count
        if isinstance(handle, Rows):
            b = handle.buffer
            yield b, [(b.address + n * handle.stride, handle.columns * 4) for n in range(many)]
            return
        buffers = [words[name] for name in role.words]
        if known:
            groups = -(-handle.columns // 32) if role.form is INT8 else 0
            flat = (product(role.width, words) * role.item,)
            sizes = (groups * 32, groups * 4, groups * 4) if role.form is INT8 else flat
            yield from ((b, [(b.address, many * size)]) for b, size in zip(buffers, sizes, strict=True))
            return
        if role.name == "finished":  # counters, which are zeros again
            return
        groups, share = -(-words["head_dim"] // 32), words["heads"] // words["kv_heads"]
        for b, item in zip(buffers, (32, 4, 4) if role.form is INT8 else (128,), strict=True):
            size = groups * item  # of a query; those of a key-value head stand together
            heads = range(words["kv_heads"])
            yield b, [(b.address + n * words["rows"] * size, count * share * size) for n in heads]


@dataclass
class Totals:
    models: int = 0
    runs: int = 0
    passes: int = 0
    kernels: set[str] = field(default_factory=set)
    differ: list[str] = field(default_factory=list)


def same(a: list[Array], b: list[Array]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def check_model(seed: int, folder: Path, totals: Totals) -> None:
    """One random model in every setting; what differs is noted."""
    rng = np.random.default_rng(seed)
    path = folder / f"{seed}.edgeq"
    families = [name for name in models.family_names() if not models.family(name).Config.WHOLE]
    words, config = write_model(rng, path, families[seed % len(families)], usual=seed < len(families))
    totals.models += 1
    for act, kv in itertools.product(ACTS, KINDS):
        run = Run.random(rng, config.vocab_size, far=seed == 0)
        with edgeq.load(path, threads=run.threads, context=run.context, act=act, kv=kv) as model:
            want = outcome(model, run, ZEROS)
            for name, pattern in PATTERNS.items():
                if not same(want, outcome(model, run, pattern)):
                    totals.differ.append(f"model {seed} ({words}), {act} {kv} {run}: {name} in the arena")
            name = ("NaN", "random")[seed % 2]
            steps = Steps(model, PATTERNS[name])
            model.runner._pool.run = steps.run  # type: ignore[method-assign]
            if not same(want, outcome(model, run, PATTERNS[name])):
                totals.differ.append(f"model {seed} ({words}), {act} {kv} {run}: {name} before each kernel")
            for kernel in sorted(steps.spoilt):
                totals.differ.append(
                    f"model {seed} ({words}), {act} {kv} {run}: {kernel} writes what it reads"
                )
        totals.kernels |= steps.kernels
        totals.runs += len(PATTERNS) + 1
        totals.passes += (len(PATTERNS) + 1) * len(run.pieces)
    path.unlink()


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.arena", description=__doc__, formatter_class=raw)
    parser.add_argument("--models", type=int, default=400, help="how many [400]")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow [0]")
    given = parser.parse_args()
    totals, start = Totals(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="edgeq-arena-") as folder:
        for seed in range(given.seed, given.seed + given.models):
            check_model(seed, Path(folder), totals)
    missing = {name for name, row in KERNELS.items() if not row.plain} - totals.kernels
    print(*totals.differ, sep="\n")
    print(
        f"{totals.models} models, {totals.runs} runs in a filled arena, {totals.passes} passes, "
        f"{len(totals.kernels)} kernels ({', '.join(sorted(missing)) or 'none'} left out), "
        f"{time.perf_counter() - start:.0f} s: {len(totals.differ)} runs differ"
    )
    return int(bool(totals.differ))


if __name__ == "__main__":
    sys.exit(main())
