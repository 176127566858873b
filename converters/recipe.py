"""Recipes: which scheme each matrix of a model gets.

A recipe is a list of rules, from the special to the general: the first that matches a tensor counts. Its file
is TOML; `converters/recipes/` has those that come with edgeq. Vectors have no part in it: they stay f32.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

from edgeq.errors import UsageError, near, printable, quote
from edgeq.formats import SCHEMES, Scheme
from edgeq.models import BaseConfig, expected
from edgeq.rounding import rounding_of

CHOICES = tuple(name for name, row in SCHEMES.items() if row.number or rounding_of(row))
KEEP = "keep"  # a choice beside the schemes: the one that holds a tensor's numbers as they are
# llama.cpp's types: the scheme that is the same, or of edgeq's own the one of as many bits
LLAMA_CPP = {
    "Q4_0": "q4", "Q5_0": "q5", "Q8_0": "q8", "Q4_1": "q4m", "Q5_1": "q5m", "IQ4_NL": "t4", "IQ4": "e4",
    "Q2_K": "e2", "Q3_K": "e3", "Q4_K": "e4", "Q5_K": "e5", "Q6_K": "e6", "IQ2": "e2", "IQ3": "e3",
}  # fmt: skip
SHIPPED = Path(__file__).parent / "recipes"
BYTES_MAX = 64 << 10  # of a file
LINE_BYTES_MAX = 1000  # tomllib takes the square of a dotted key's length, and a key is on one line
PATTERNS_MAX = 1024  # of a recipe
PATTERN_CHARS_MAX = 80
BLOCK = re.compile(r"blocks\.(\d+)\.")
SHARE = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})", re.ASCII)


@dataclass(frozen=True)
class Layers:
    """Some of a model's layers: a share of them from the first on, a share up to the last, both rounded up to
    whole layers, and between these every so many-th (0: none).
    """

    first: Fraction = Fraction(0)
    last: Fraction = Fraction(0)
    every: int = 0

    def has(self, layer: int, count: int) -> bool:
        """Whether layer 0 ... count - 1 is one of them."""
        start, stop = math.ceil(self.first * count), count - math.ceil(self.last * count)
        if start <= layer < stop:
            return self.every > 0 and (layer - start) % self.every == self.every - 1
        return True


@dataclass(frozen=True)
class Rule:
    """Tensors, by patterns of their names in the .edgeq file (`fnmatch`), and the scheme they get."""

    tensors: tuple[str, ...]
    scheme: str  # of CHOICES, or KEEP
    layers: Layers | None = None  # None: all of them, and what is in none

    def matches(self, name: str, layers: int) -> bool:
        """Whether the rule is for the tensor of that name in a model of so many layers."""
        if not any(fnmatchcase(name, pattern) for pattern in self.tensors):
            return False
        block = BLOCK.match(name)
        return self.layers is None or block is not None and self.layers.has(int(block[1]), layers)


@dataclass(frozen=True)
class Recipe:
    """Rules, of which the first that matches a tensor counts."""

    name: str  # for people and for the header: of a file never its folder
    rules: tuple[Rule, ...]
    about: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        """All that the schemes of a model's matrices follow from."""
        return {
            "name": self.name,
            "rules": [asdict(rule) | {"layers": str(rule.layers)} for rule in self.rules],
        }

    def schemes(self, family: str, config: BaseConfig) -> dict[str, Scheme | None]:
        """The scheme of each matrix of a model by the tensor's name; None: the one that holds what it has.

        UsageError where a matrix has no rule, and where a pattern matches none. A pattern may name the output
        head of a model that has none of its own, so that one recipe serves both.
        """
        names = matrices(family, replace(config, tie_word_embeddings=False))
        self._check_patterns(names if "output" in names else [*names, "output"])
        found = {}
        for name in matrices(family, config):
            rule = next((rule for rule in self.rules if rule.matches(name, config.num_hidden_layers)), None)
            if rule is None:
                raise UsageError(
                    f"recipe {self.name!r}: no rule is for tensor {name!r}; a last rule with "
                    'tensors = ["*"] is for all that is left'
                )
            found[name] = SCHEMES.get(rule.scheme)
        return found

    def _check_patterns(self, names: list[str]) -> None:
        for number, rule in enumerate(self.rules, 1):
            for pattern in rule.tensors:
                if not any(fnmatchcase(name, pattern) for name in names):
                    raise UsageError(
                        f"recipe {self.name!r}, rule {number}: {quote(pattern)} matches no matrix of this "
                        f"model; names such as {', '.join(map(repr, names[:3]))} are needed"
                    )


def matrices(family: str, config: BaseConfig) -> list[str]:
    """The names of a model's matrices that have a choice, in file order."""
    return [tensor.name for tensor in expected(family, config) if tensor.role not in ("vector", "table")]


def choose(
    recipe: Recipe | str | os.PathLike[str] | None = None,
    scheme: str | None = None,
    embed_scheme: str | None = None,
    output_scheme: str | None = None,
) -> Recipe:
    """The recipe for what was asked: one of edgeq's by its name, a file, or else one made of schemes.

    Without a recipe `scheme` (q4) is for the matrices of the blocks. Embedding and output head get 8 bits
    under a quantized scheme (e8 where that has a float for each row, else q8) and the same scheme under a
    float one, unless named. UsageError names what is wrong.
    """
    ends = {"embed": embed_scheme, "output": output_scheme}
    given = {name: word for name, word in ends.items() if word is not None}
    if recipe is not None:
        if scheme is not None or given:
            raise UsageError("a recipe chooses the scheme of every tensor: give either a recipe or schemes")
        return recipe if isinstance(recipe, Recipe) else load(recipe)
    scheme = checked_scheme("q4" if scheme is None else scheme)
    high, row = scheme, SCHEMES.get(scheme)
    if row and row.planes:
        high = "e8" if row.row else "q8"
    rules = [Rule((name,), checked_scheme(given.get(name, high))) for name in ends]
    name = " ".join([scheme, *(f"{name}={word}" for name, word in given.items())])
    return Recipe(name, (*rules, Rule(("*",), scheme)))


def shipped() -> dict[str, Recipe]:
    """The recipes that come with edgeq, by their names."""
    return {path.stem: parsed(path.read_bytes(), path.stem) for path in sorted(SHIPPED.glob("*.toml"))}


def load(given: str | os.PathLike[str]) -> Recipe:
    """A recipe of edgeq's by its name, or one of a file."""
    names = sorted(path.stem for path in SHIPPED.glob("*.toml"))
    if given in names:
        return parsed((SHIPPED / f"{given}.toml").read_bytes(), str(given))
    path = Path(given)
    if not path.is_file():
        raise UsageError(
            f"recipe {str(given)!r:.120} is neither a file nor one of {', '.join(names)}{near(given, names)}"
        )
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"recipe {str(given)!r:.120} cannot be read ({error.strerror or error})") from None
    return parsed(data, printable(path.name))


def parsed(data: bytes, name: str) -> Recipe:
    """The recipe in a file's bytes; UsageError with the line, or the rule and key, of what is wrong first."""
    where = f"recipe {name!r:.120}"
    if len(data) > BYTES_MAX:
        raise UsageError(f"{where} is larger than the {BYTES_MAX} bytes that a recipe may have")
    for number, line in enumerate(data.split(b"\n"), 1):
        if len(line) > LINE_BYTES_MAX:
            raise UsageError(
                f"{where}, line {number} is longer than the {LINE_BYTES_MAX} bytes that a line may have"
            )
    try:
        words = tomllib.loads(data.decode())
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply; a list of rules is needed") from None
    except ValueError as error:  # of TOML, UTF-8, or a number of thousands of digits
        raise UsageError(f"{where} is not TOML: {printable(str(error)):.160}") from None
    _check_keys(words, ("about", "rule"), where)
    about, rules = words.get("about", ""), words.get("rule")
    if not isinstance(about, str):
        raise UsageError(f"{where}: about is {quote(about)}, but a text is needed")
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, dict) for rule in rules):
        raise UsageError(f"{where}: rule is {quote(rules)}, but one or more [[rule]] are needed")
    made = tuple(_rule(rule, f"{where}, rule {number}") for number, rule in enumerate(rules, 1))
    if sum(len(rule.tensors) for rule in made) > PATTERNS_MAX:
        raise UsageError(f"{where} has more than the {PATTERNS_MAX} patterns that a recipe may have")
    return Recipe(name, made, about)


def _rule(words: Mapping[str, Any], where: str) -> Rule:
    _check_keys(words, ("tensors", "layers", "scheme"), where)
    tensors = words.get("tensors")
    if not isinstance(tensors, list) or not tensors:
        raise UsageError(f"{where}: tensors is {quote(tensors)}, but a list of names or patterns is needed")
    for pattern in tensors:
        if not isinstance(pattern, str) or not 0 < len(pattern) <= PATTERN_CHARS_MAX:
            raise UsageError(
                f"{where}: tensors has {quote(pattern)}, but a text of 1 to {PATTERN_CHARS_MAX} characters "
                "is needed"
            )
    scheme = checked_scheme(words.get("scheme"), f"{where}: ")
    layers = words.get("layers")
    return Rule(tuple(tensors), scheme, None if layers is None else _layers(layers, f"{where}: layers"))


def _layers(words: Any, where: str) -> Layers:
    if not isinstance(words, dict) or not words:
        raise UsageError(f"{where} is {quote(words)}, but some of first, last and every are needed")
    _check_keys(words, ("first", "last", "every"), where)
    every = words.get("every", 0)
    if "every" in words and (type(every) is not int or not 1 <= every <= 1024):
        raise UsageError(f"{where}.every is {quote(every)}, but a whole number from 1 to 1024 is needed")
    shares = {key: _share(words[key], f"{where}.{key}") for key in ("first", "last") if key in words}
    return Layers(**shares, every=every)


def _share(value: Any, where: str) -> Fraction:
    match = SHARE.fullmatch(value) if isinstance(value, str) else None
    share = Fraction(int(match[1]), int(match[2])) if match else None
    if share is None or share > 1:
        raise UsageError(f'{where} is {quote(value)}, but a share of the layers such as "1/8" is needed')
    return share


def _check_keys(words: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in words:
        if key not in known:
            raise UsageError(f"{where}: key {quote(key)} is unknown; known are {', '.join(known)}")


def meant(name: Any) -> str:
    """The end of a sentence that tells which scheme there is for a name that none has."""
    stem = re.sub("_(S|M|L|XL|XS)$", "", str(name)[:20].upper())
    if stem in LLAMA_CPP:
        return f"; for llama.cpp's {stem} there is {LLAMA_CPP[stem]!r}"
    return near(name, (*CHOICES, KEEP))


def checked_scheme(name: Any, where: str = "") -> str:
    """The name of a scheme that any numbers can be given, or KEEP; UsageError for what is none."""
    if name not in CHOICES and name != KEEP:
        raise UsageError(
            f"{where}scheme {quote(name)} is unknown; one of {', '.join(CHOICES)} or {KEEP} is needed"
            + meant(name)
        )
    return str(name)
