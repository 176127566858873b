"""Orthonormal matrices of Hadamard's kind, for products that are the same bits on every processor.

A matrix of ones and minus ones with orthogonal rows exists for 1, 2 and, as far as is known, all multiples
of 4. Here are Sylvester's, of powers of two, and Paley's (1933), of q + 1 for primes q = 3 mod 4 and of
2 (q + 1) for primes q = 1 mod 4, 12, 20, 28 and 36 among them; and these times powers of two.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..methods.stochastic import mixed

Array = np.ndarray[Any, Any]


class Rotation:
    """R, orthogonal [size, size]: random signs, then Hadamard matrices, one for each `block` columns, the
    largest that there is for a divisor of the size.
    """

    def __init__(self, size: int, seed: int):
        self.size = size
        self.block = max(n for n in range(1, size + 1) if size % n == 0 and exists(n))
        start = mixed(np.array([seed % (1 << 64)], np.uint64))
        self.signs = 1.0 - 2.0 * (mixed(start + np.arange(size, dtype=np.uint64)) >> np.uint64(63))

    def __call__(self, x: Array) -> Array:
        """x R, float32, of x [..., size]."""
        y = (x * self.signs).reshape(*x.shape[:-1], -1, self.block)
        return (times(y) / np.sqrt(self.block)).reshape(x.shape).astype(np.float32)

    def rows(self, x: Array) -> Array:
        """R' x, float32, of x [size, columns]."""
        return np.ascontiguousarray(self(np.ascontiguousarray(x.T)).T)


def times(x: Array) -> Array:
    """x H, float64, of x [..., n] and the Hadamard matrix H [n, n]."""
    n = x.shape[-1]
    core = core_of(n)
    y = x.astype(np.float64).reshape(*x.shape[:-1], n // core, core)
    if core > 1:
        h = paley(core)
        total = np.zeros_like(y)
        for j in range(core):
            total += y[..., j : j + 1] * h[j]
        y = total
    y = y.reshape(*x.shape[:-1], n)
    width = core
    while width < n:
        pairs = y.reshape(*x.shape[:-1], -1, 2, width)
        sums, differences = pairs[..., 0, :] + pairs[..., 1, :], pairs[..., 0, :] - pairs[..., 1, :]
        y = np.stack([sums, differences], axis=-2).reshape(*x.shape[:-1], n)
        width *= 2
    return y


def exists(n: int) -> bool:
    """Whether there is one here."""
    return core_of(n) > 0


@cache
def core_of(n: int) -> int:
    """Of n columns what is left when they are halved until a matrix is known: 1 or an order of `paley`; 0
    where that never is.
    """
    if n & (n - 1) == 0:
        return 1
    while n % 4 == 0:
        smaller = n // 2
        if smaller % 4 or not core_of(smaller):
            return n if prime_of(n) else 0
        n = smaller
    return 0


def prime_of(n: int) -> int:
    """The prime that Paley's matrix of n columns is made from; 0: there is none."""
    for q, remainder in ((n - 1, 3), (n // 2 - 1, 1)):
        if q % 4 == remainder and q > 2 and all(q % d for d in range(2, int(q**0.5) + 1)):
            return q
    return 0


@cache
def paley(n: int) -> Array:
    """float64 [n, n] of 1 and -1 with orthogonal rows, n one that has a `prime_of`."""
    q = prime_of(n)
    squares = {k * k % q for k in range(1, q)}
    jacobsthal = np.array(
        [[0 if i == j else 1 if (i - j) % q in squares else -1 for j in range(q)] for i in range(q)],
        np.float64,
    )
    s = np.zeros((q + 1, q + 1))
    s[0, 1:] = 1
    s[1:, 0] = -1 if q % 4 == 3 else 1
    s[1:, 1:] = jacobsthal
    if q % 4 == 3:
        return s + np.eye(q + 1)
    one, two = np.array([[1.0, 1], [1, -1]]), np.array([[1.0, -1], [-1, -1]])
    return np.kron(s, one) + np.kron(np.eye(q + 1), two)
