"""Kernels as LLVM's assembly: the functions of a kernel, its innermost loops, and what stands in them."""

from __future__ import annotations

import re

LABEL = re.compile(r"(\S+):")
JUMP = re.compile(r"\s+(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:\S+,\s*)*(\S+)$")
STACK = re.compile(r"%[re]sp|\[sp")  # touches of it, on either machine
# A tile's function: what its tag says of tokens and codes, as numba writes it in names.
TILE = re.compile(r"_2c(\d+)_2c(packed|unpacking|unpacked)_29")


def functions(text: str) -> dict[str, str]:
    """The assembly of each function by its name."""
    starts = [(m.start(), m[1]) for m in re.finditer(r"^([^.\s#/][^\s:]*):", text, re.MULTILINE)]
    ends = [at for at, _ in starts[1:]] + [len(text)]
    return {name: text[at:end] for (at, name), end in zip(starts, ends, strict=True)}


def tile(name: str) -> tuple[int, str] | None:
    """The tokens of the tile that a function is for, and how it comes by codes; None for another function."""
    found = TILE.search(name)
    return (int(found[1]), found[2]) if found else None


def inner_loops(text: str) -> list[list[str]]:
    """The innermost loops: from a label to the jump back to it, with no such jump between."""
    lines = text.splitlines()
    labels = {found[1]: n for n, line in enumerate(lines) if (found := LABEL.match(line))}
    loops = []
    for n, line in enumerate(lines):
        jump = JUMP.match(line)
        if jump and labels.get(jump[1], n) < n:
            loops.append((labels[jump[1]], n))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [lines[start : end + 1] for start, end in inner]


def counted(loop: list[str], instruction: str | re.Pattern[str]) -> int:
    """Lines of the loop in which the expression is found."""
    return sum(bool(re.search(instruction, line)) for line in loop)


def instructions(loop: list[str]) -> list[str]:
    """The loop's lines without labels, directives and remarks."""
    code = (re.sub(r"\s*(?:##|//|#(?:APP|NO_APP)).*", "", line).rstrip() for line in loop)
    return [line for line in code if line.strip() and not LABEL.match(line) and line.strip()[0] not in ".#"]
