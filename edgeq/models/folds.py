"""Which tensors of a block feed which: what a factor, or a rotation, of columns can be taken back in.

Names are those of a block without their prefix. The bias of a matrix X, where a block has one, is X_bias.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fold:
    """Matrices that read the same rows x, and what x is proportional to, column by column: a norm's vector,
    or the rows of a matrix and its bias.
    """

    readers: tuple[str, ...]
    feeder: str
    heads: bool = False  # x are the values of heads: a key head's rows come to each of its query heads


@dataclass(frozen=True)
class Folds:
    """A family's: `sets` in the order of the pass, and the matrices whose products are added to the residual
    rows, which nothing reads but the norms of `sets` and the last one before the head.
    """

    sets: tuple[Fold, ...]
    adders: tuple[str, ...]


# Of decoders of the Llama line. Norms of single heads (Qwen3) and biases of q and k stand behind the
# products, where factors of columns do not come.
DECODER = Folds(
    (
        Fold(("q", "k", "v"), "norm1"),
        Fold(("o",), "v", heads=True),
        Fold(("gate", "up"), "norm2"),
        Fold(("down",), "up"),
    ),
    ("o", "down"),
)


def bias_of(name: str) -> str:
    """The name of a matrix's bias."""
    return f"{name}_bias"
