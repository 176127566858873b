"""Mutants of chat templates, conversations, packs, recipes, tuned values, calibration text, moments."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from edgeq import models, tuned
from edgeq.calibrate import statistics, texts
from edgeq.chat import encode_chat, render
from edgeq.chat.conversation import Conversation
from edgeq.cli import transcript
from edgeq.converters import CHOICES, KEEP, recipe
from edgeq.errors import EdgeqError
from edgeq.packs.pack import MAGIC, PRELUDE, Pack, decoded
from edgeq.simd.target import Target
from edgeq.tokenizer import Tokenizer, load
from tests.cli import fakes
from tests.fuzz import mutate, vocabularies
from tests.fuzz.edgeq_files import CONFIG
from tests.fuzz.sparse import parts, sparse, write

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": f"Hello <|im_end|> {{{{ x }}}} {vocabularies.FOREIGN} a"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
    {"role": "user", "content": "12"},
]
TEMPLATES = [
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{{ bos_token }}{%- set ns = namespace(n=0) -%}{% for m in messages if m.role != 'system' %}"
    "{% set ns.n = ns.n + loop.index0 %}{% if loop.first and not ns.n is divisibleby(2) %}[INST] {% endif %}"
    "{{ m.content.split('x')[-1] ~ ns.n }}{{ '%s-%d' % (m.role, loop.index) }}{% endfor %}{{ eos_token }}",
    "{% macro part(m, deep=1) %}{{ m | tojson(indent=2) }}{{ '{:>10}'.format(deep) }}{% endmacro %}"
    "{% for m in messages[1:] | reverse %}{{ part(m) }}{{ m.content | length }}{% else %}none{% endfor %}"
    "{% set found = messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list %}"
    "{{ found | join(', ') | upper }}{{ raise_exception('x') if found is undefined }}",
    "{% filter upper %}{{ strftime_now('%d') }}{% endfilter %}{% call(x) y(1) %}{{ x }}{% endcall %}"
    "{% raw %}{{ }}{% endraw %}{{ range(10) | batch(3) | list }}{{ {'a': [1, 2]} | dictsort | first | last }}"
    "{{ dict(a=1).items() | list }}{% include 'x' %}",
]
PIECES = (
    *mutate.TEXTS, "{% for i in range(1000000000) %}{% endfor %}", "{{ 'a' * 1000000000 }}",
    "{{ 9 ** 9 ** 9 }}", "{% for a in messages %}{% for b in messages %}", "{% endfor %}", "{% endif %}",
    "{% if true %}", "{{ ", " }}", "{%- ", " -%}", "{# ", " #}", " | length", " | join('x')", " | sort",
    " | unique | list", " | tojson", " | int", " | replace('', 'xyz')", ".format('{0}' * 99)",
    ".__class__.__mro__", "['__globals__']", " | attr('__init__')", "[::-1]", "[0:1000000]", "(1, 2, 3)",
    "[[[[[]]]]]", "{'a': 1}", " * 100000", " + ", " - 1", " // 0", " % ", " ** ", " ~ ", " is defined",
    " is string", " in ", " if x else y", "loop.index", "loop(messages)", "namespace(a=1)",
    "cycler(1, 2).next()", "joiner(', ')()", "lipsum(100)", "messages", "self", "caller()", "varargs",
    "{% set x = x ~ x %}", "{% set x = [x, x] %}", "{{ x.append(1) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}", "'%1000000000d' % 1",
    "'{:1000000000}'.format(1)", "{% block b %}{% endblock %}", "{% extends 'x' %}", "{% import 'x' as y %}",
    "{% autoescape true %}", " | groupby('role')", " | map('upper')", " | select | list", " | sum",
    " | batch(0)", " | slice(9)", " | round(400)", " | wordwrap(0)", " | indent(1000000)",
    " | center(1000000000)", " | format(1)", " | truncate(0)", " | urlize", " | random", " | pprint",
    " | xmlattr", " | filesizeformat", " | min", " | default('x', true)", " | string",
)  # fmt: skip


@cache
def chat_tokenizer() -> Tokenizer:
    return load(vocabularies.SPEC, vocabularies.pieces_model())


def template_seeds() -> list[bytes]:
    return [template.encode() for template in TEMPLATES]


def template_mutant(random: Random, one: bytes, other: bytes) -> bytes:
    text = one.decode("utf-8", "surrogatepass")
    for _ in range(1 << random.randrange(3)):
        text = mutate.of_text(random, text, PIECES)
    if mutate.chance(random, 0.2):
        lent = other.decode("utf-8", "surrogatepass")
        cut = random.randrange(len(lent) + 1)
        text = text[: random.randrange(len(text) + 1)] + lent[cut:]
    return text.encode("utf-8", "surrogatepass")[: mutate.BYTES_MAX]


def read_template(data: bytes, folder: Path) -> None:
    """Rendered, and rendered with marks to ids; text of a user must not have become a control token."""
    template = data.decode("utf-8", "surrogatepass")
    render(template, MESSAGES, bos_token="<s>", eos_token="</s>")
    tools = [{"type": "function", "function": {"name": "f", "description": vocabularies.FOREIGN}}]
    ids = encode_chat(chat_tokenizer(), template, MESSAGES, tools=tools)
    assert chat_tokenizer().id(vocabularies.FOREIGN) not in ids, "a control token in a message became one"


# ---- packs ----


def pack_seeds() -> list[bytes]:
    target = Target("x86-avx2", "x86_64", "linux")
    pack = Pack(target, "0" * 64, "numba 0", {"run plain": 0, "matmul q4": 64}, bytes(range(200)))
    return [pack.encoded(), Pack(target, "", "", {}, b"").encoded()]


def pack_mutant(random: Random, one: bytes, other: bytes) -> bytes:
    """The header changed by its structure, the checksum right again; now and then just bytes."""
    if len(one) < PRELUDE.size or mutate.chance(random, 0.1):
        return mutate.of_bytes(random, one, other)
    length = PRELUDE.unpack_from(one)[2]
    header, image = one[PRELUDE.size : PRELUDE.size + length], one[-200:]
    value = mutate.load_json(header)
    raw = mutate.dumped(random, mutate.of_json(random, value)) if value is not None else header
    said = len(raw) if mutate.chance(random, 0.8) else mutate.integer(random, len(raw)) & 0xFFFFFFFF
    rest = struct.pack("<I", said) + raw
    if mutate.chance(random, 0.8):
        rest += bytes(-(len(rest) + PRELUDE.size - 4) % 65536) + image
    return MAGIC + hashlib.sha256(rest).digest() + rest


def read_pack(data: bytes, folder: Path) -> None:
    pack = decoded(memoryview(data))
    assert pack.image_at + len(pack.image) <= len(data)
    assert all(0 <= at < len(pack.image) for at in pack.kernels.values())
    assert isinstance(f"{pack.target} {pack.compiler} {pack.sources}", str)


# ---- recipes ----

WORDS_OF_RECIPES = (
    *mutate.TEXTS, "[[rule]]\n", "[rule]\n", "rule = []\n", "tensors = ", "scheme = ", "layers = ",
    "first = ", "last = ", "every = ", "about = ", '"1/8"', '"9/8"', '"1/0"', '"*"', '["*"]',
    '["blocks.*.[a-z]"]',
    '"[!]"', '"[z-a]"', '"[[]"', '"' + "*a" * 40 + '"', '"keep"', '"q5"', "{", "}", "[", "]", "=", ",", "#",
    "a.b", "1979-05-27T07:32:00Z", "99:99:99", "0x", "0b1", "1_000", "nan", "inf", "1e400000000", "true",
    "\"\"\"", "'''", "\\u0000", "\\UFFFFFFFF", "\r", "a." * 400, "[" * 400, "{a=" * 200, "9" * 5000,
)  # fmt: skip


def recipe_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted(recipe.SHIPPED.iterdir())]


def recipe_mutant(random: Random, one: bytes, other: bytes) -> bytes:
    if mutate.chance(random, 0.1):
        return mutate.of_bytes(random, one, other)
    text = one.decode("utf-8", "replace")
    for _ in range(1 << random.randrange(4)):
        text = mutate.of_text(random, text, WORDS_OF_RECIPES)
    return text.encode("utf-8", "surrogatepass")[: mutate.BYTES_MAX]


def read_recipe(data: bytes, folder: Path) -> None:
    """Parsed, and every matrix of a model given a scheme."""
    path = folder / "recipe.toml"
    path.write_bytes(data)
    found = recipe.load(path)
    assert all(rule.scheme in (*CHOICES, KEEP) for rule in found.rules)
    config = models.family("llama").Config.from_header({**CONFIG, "num_hidden_layers": 30})
    schemes = found.schemes("llama", config)
    assert list(schemes) == recipe.matrices("llama", config)


# ---- tuned values ----

ISA, CORES, SOURCES = "x86-avx2", 2, "0" * 64


def tuned_seeds() -> list[bytes]:
    key = tuned.key(ISA, CORES, SOURCES)
    found = {key: {"tiles": {tuned.TILED[0]: 4, tuned.TILED[-1]: 8}, "threads": 1}, "other": {"tiles": {}}}
    return [json.dumps(found).encode(), b"{}"]


def conversation_seeds() -> list[bytes]:
    """Saved conversations, with the system's message and without."""
    return [json.dumps({"messages": messages}).encode() for messages in (MESSAGES, MESSAGES[1:2], [])] + [
        json.dumps(MESSAGES[1:2]).encode()
    ]


def read_conversation(data: bytes, folder: Path) -> None:
    """What is taken is told again as it was, and becomes a prompt or is refused."""
    path = folder / "talk.json"
    path.write_bytes(data)
    model = fakes.Model(folder / "model.edgeq", context=4000)
    model.chat_template = fakes.TEMPLATE
    with Conversation(model) as chat:
        chat.restore(transcript.load(path))
        again = Conversation(model)
        again.restore(chat.to_json())
        assert again.to_json() == chat.to_json()
        chat.ask("More.").close()


def read_tuned(data: bytes, folder: Path) -> None:
    """What makes no sense is left out, so nothing at all is raised."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        place = tuned.file()
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)
        found: Any = tuned.read(ISA, CORES, SOURCES)
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
    assert all(name in tuned.TILED and tiles in tuned.TILES for name, tiles in found.tiles.items())
    assert 0 <= found.threads <= (os.cpu_count() or 1)


# ---- calibration text ----


def texts_seeds() -> list[bytes]:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": vocabularies.FOREIGN}]
    talk = {"messages": said, "source": "x", "domain": "y"}
    return [json.dumps(value).encode() for value in (["plain", {"text": "a\n\nb\fc"}, talk], talk)]


def read_texts(data: bytes, folder: Path) -> None:
    """Read as what it looks like and as plain text; what is taken is written, and read again as it was."""
    kind = "json" if data.lstrip().startswith(b"[") else "jsonl"
    for path in (folder / "text.txt", folder / f"text.{kind}"):
        path.write_bytes(data)
        try:
            found = texts.read([path])
        except EdgeqError:
            if path.suffix == ".txt":
                continue
            raise
        texts.coverage(texts.mix(texts.deduplicate(found)))
        texts.write(folder / "made.jsonl", found)
        assert texts.read([folder / "made.jsonl"]) == found


# ---- files of moments ----
ITEM_BYTES = {"F16": 2, "F32": 4, "F64": 8, "I32": 4, "I64": 8}


def stats_seeds() -> list[bytes]:
    """Of two taps, and one of two experts: sums of products, and of squares alone."""
    taps = [[["blocks.0.q", "blocks.0.k"], 3], [["blocks.0.o"], 2], [["blocks.0.experts_up"], 3, 2]]
    return [_stats(taps, diagonal) for diagonal in (0, 1)]


def _stats(taps: list[list[Any]], diagonal: int) -> bytes:
    about = {"format": statistics.FORMAT, "model": "0" * 64, "name": "m", "text_sha256": "1" * 64,
             "tokens": "20", "window": "5", "diagonal": str(diagonal), "taps": json.dumps(taps)}  # fmt: skip
    header, data = dict[str, Any]({"__metadata__": about}), b""
    for names, n, *more in taps:
        experts = more[0] if more else 1
        sizes = {"products": n if diagonal else n * (n + 1) // 2, "absolute": n, "largest": n}
        for part in statistics.PARTS:
            arrays = {kind: np.full(experts * size, 1.5, "<f4") for kind, size in sizes.items()}
            for kind, x in {**arrays, "count": np.full(experts, 7, "<i8")}.items():
                at = len(data)
                data += x.tobytes()
                dtype = "I64" if kind == "count" else "F32"
                entry = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [at, len(data)]}
                header[f"{part}/{names[0]}.{kind}"] = entry
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def stats_mutant(random: Random, one: bytes, other: bytes) -> bytes:
    """The header changed, and what it says of its taps, with offsets that tile the data again; or numbers."""
    plain, zeros = parts(one)
    length = int.from_bytes(plain[:8], "little")
    header, data = mutate.load_json(plain[8 : 8 + length]), plain[8 + length :]
    if not isinstance(header, dict) or mutate.chance(random, 0.05):
        return sparse(mutate.of_bytes(random, plain, other), zeros)
    if mutate.chance(random, 0.3):
        data = mutate.of_bytes(random, data, parts(other)[0][-len(data) :])
    else:
        header = mutate.of_json(random, header, header)
    about = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(about, dict) and isinstance(about.get("taps"), str) and mutate.chance(random, 0.3):
        taps = mutate.of_json(random, mutate.load_json(about["taps"].encode("utf-8", "surrogatepass")))
        header["__metadata__"] = {**about, "taps": mutate.dumped(random, taps).decode("utf-8", "replace")}
    if isinstance(header, dict) and mutate.chance(random, 0.6):
        header, size = _tiled(header)
        data, zeros = data[:size], max(0, size - len(data))
    raw = mutate.dumped(random, header)
    return sparse(struct.pack("<Q", len(raw)) + raw + data, zeros)


def _tiled(header: dict[str, Any]) -> tuple[dict[str, Any], int]:
    found, at = dict[str, Any](), 0
    for name, entry in header.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if name != "__metadata__" and isinstance(shape, list) and all(type(n) is int for n in shape):
            size = math.prod(shape) * ITEM_BYTES.get(str(entry.get("dtype")), 4)
            entry = {**entry, "data_offsets": [at, at + size]}
            at += max(0, size)
        found[name] = entry
    return found, min(at, 1 << 62)


def read_stats(data: bytes, folder: Path) -> None:
    """What is taken has moments that are numbers, and added to itself it is such a file again."""
    write(folder / "one.stats", data)
    found = statistics.Statistics(folder / "one.stats")
    for tap in found.taps:
        for part in statistics.PARTS:
            for expert in range(tap.parts):
                mean = found.moments(part, tap, expert).mean
                assert mean.shape == (tap.columns, tap.columns) and np.isfinite(mean).all()
    statistics.merge([found.path, found.path], folder / "two.stats")
    assert statistics.Statistics(folder / "two.stats").tokens == 2 * found.tokens
