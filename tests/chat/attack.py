"""Random templates against random hostile messages: what `test_provenance` runs by the hundred.

`python -m tests.chat.attack COUNT [SEED]` runs more of them and prints what it finds.

Two things can be said of a template without looking at how edgeq works:

* If no literal of a template holds the first character of a control token, or none holds the last one, then
  no control token is the template's own, whatever it computes: there must be none.
* If a template does not look into its texts (it joins, cuts, turns and formats them), then it does the same
  to messages whose characters are exchanged for others, one for one. With characters that are in no control
  token, all control tokens in what plain Jinja renders are the template's: edgeq must find exactly those.
"""

from __future__ import annotations

import json
import random
import re
import sys
from typing import Any

from edgeq.chat import encode_chat, render
from edgeq.errors import EdgeqError
from edgeq.tokenizer import Tokenizer, load
from tests.chat.plain import reference

WORDS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<s>", "</s>", "[INST]", "[/INST]"]
WORDS += ["<>", "[]", "<x>", "<a>", "<<>>", "<x>>"]  # short ones come together by chance more often
SHARED = ["", "a", "a", " ", "\n", "x", "x", "user", "im_end", "think", "%s", "{}", "INST", "|", "/", "s"]
OPENING = [*SHARED, *"<<<[[", "<x", "<a", "x<", "<|", "<|im_", "[IN", "</", "<|im_end|", "<think", "&lt;"]
CLOSING = [*SHARED, *">>>]]", "x>", "a>", ">x", "|>", "end|>", "ST]", "/think>", "im_end|>", "think>", "&gt;"]
WHOLE = [*SHARED, *WORDS, *WORDS, "<|im_", "end|>", "|>", "<|", "[IN", "ST]", "<|IM_END|>", ">s<"]

# Expressions, one a line. A, B and C stand for expressions that are texts, S and T for literals, N and K for
# numbers (K below 3), CUT for a slice.
BLIND = """
(A ~ B)
(A ~ B ~ C)
(A + B)
(A)CUT
(A)CUT
(A)[::-1]
(A)|reverse
(A)|trim
(A).strip()
(A).lstrip()
(A).rstrip()
(A)|upper
(A)|lower
(A).swapcase()
(A).casefold()
(A).capitalize()
[A, B, C]|join(S)
[A, B]|reverse|join
[A, B, C]|map('trim')|join
(A).join([B, C])
messages|map(attribute='content')|join(A)
messages|join(A, attribute='name')
(A if (B)|length > N else C)
'<%s>%s|%d'.replace('<', '').replace('>', '') % (A, B, 7)
'%(b)s%(a)s' % {'a': A, 'b': B}
'%s%%' % (A)
'{}{}'.format(A, B)
'{x}{{'.format(x=A)
'{1}{0!s}'.format(A, B)
'%s-%s'|format(A, B)
(A) * K
K * (A)
[A, B][K % 2]
{'k': A}.k
dict(x=A).x
(missing|default(A))
[A, B]|last
f(A)
f(A, B)
(A)|indent(2)
(A)|indent(B, blank=true)
(A)|string
(A).splitlines()|join(B)
(A).split()|join(B)
(A).rsplit(none, 1)|last
(S ~ (A)).removeprefix(S)
"""
LOOKING = """
(A).replace(S, B)
(A)|replace(S, T)
(A)|replace(B, S, 1)
(A).replace('x', B)
(A).split(S or 'x')|join(B)
(A).rsplit(S or 'x', K)|first
(A).partition(S or 'x')|join
(A).partition(S or 'x')[K]
(A).rpartition(B or 'x')[K]
(A).removeprefix(S)
(A ~ B).removesuffix(B)
(A).strip(B)
(A)|trim(S)
(A)|list|join(S)
(A)|list|reverse|join
(A)|list|sort|join
(A)|unique|join
(A)|select('ne', S)|join(S)
(A)|map('upper')|join
(A)|batch(2, S)|map('join')|join
(A)|title
(A).title()
(A)|tojson
[A, S]|tojson
(A)|e
(A)|safe
(A)|center(N)
(A).ljust(N, 'x')
(A).zfill(N)
(A)|first
(A)|truncate(N, true, S, 0)
(A)|truncate(N, false, S, 0)
(A if S in B else C)
(A if (B)[:1] == (C)[:1] else S)
'%c' % 60
'%Ks' % (A)
'%.Ks' % (A)
'{:>K}'.format(A)
'{!r}'.format(A)
(A)|default(B, true)
[A, B]|max
[A, B]|min
[A, B]|sort|join
[A, B]|unique|join
([{'k': A}, {'k': B}]|groupby('k')|first).grouper
([{'k': A}, {'k': B}]|groupby('k', case_sensitive=true)|last)[0]
{A: S}[B]
[A, B]|string
(A) % ()
(A) % (B,)
(A).format(B, x=C)
{A: 1}|dictsort|first|first
{A: 1}.items()|list|first|first
({A: B}.get(C, S))
"""
PARTS = """
{{ A }}
{{ A }}
{{ A }}{{ B }}
DATA
DATA{{ A }}DATA
{% set ns.x = A %}{{ ns.x }}
{% set y %}INNER{% endset %}{{ y }}{{ yCUT }}
{% for m in messages %}INNER{% endfor %}
{% filter trim %}INNER{% endfilter %}
{% filter upper %}INNER{% endfilter %}
{% filter reverse %}INNER{% endfilter %}
{% if (A)|length > 5 %}INNER{% else %}INNER{% endif %}
{% call(z) g(A) %}{{ z }}INNER{% endcall %}
"""
LOOKING_PARTS = """
{% for c in A %}{{ c }}{% endfor %}
{% for c in A %}{{ c }}x{% endfor %}
{% for c in (A).split(S or 'x') %}INNER{{ c }}{% endfor %}
"""
HEAD = (
    "{% set ns = namespace(x='') %}{% set m = messages[0] %}"
    "{% macro f(a, b='') %}{{ b }}{{ a }}{% endmacro %}{% macro g(a) %}{{ caller(a) }}{% endmacro %}"
)
LEAVES = ["S", "S", "m.content", "m.content", "messages[0].content", "messages[-1]['content']"]
LEAVES += ["m.role", "m.name", "ns.x"]


def tokenizer() -> Tokenizer:
    """Printable ASCII, letter by letter, and the control tokens WORDS."""
    letters = [chr(c) for c in range(32, 127)] + ["\n"]
    vocab = {letter: i for i, letter in enumerate(letters)}
    ids = {word: len(letters) + i for i, word in enumerate(WORDS)}
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    model: dict[str, Any] = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": vocab, "merges": [],
    }  # fmt: skip
    blob = json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": {"type": "Fuse"}, "model": model,
        "added_tokens": [{"id": id, "content": word, **flags} for word, id in ids.items()],
    })  # fmt: skip
    size = len(letters) + len(WORDS)
    spec = {"kind": "tokenizer.json", "vocab_size": size, "control": list(ids.values())}
    return load(spec, blob.encode())


class Maker:
    """Random templates. literals: the texts that may stand in them; looking: whether they may do what
    depends on the characters of a text (search, replace, split, compare)."""

    def __init__(self, dice: random.Random, literals: list[str], looking: bool) -> None:
        self.dice, self.literals = dice, literals
        self.texts = [*filter(None, (BLIND + LOOKING * looking).split("\n"))]
        self.parts = [*filter(None, (PARTS + LOOKING_PARTS * looking).split("\n"))]

    def filled(self, form: str, depth: int) -> str:
        """A line of the tables above, its capital words filled in."""
        return re.sub(r"\b(?:[ABCSTN]|DATA|INNER)\b|CUT|K", lambda word: self.fill(word[0], depth), form)

    def fill(self, word: str, depth: int) -> str:
        if word in "ABC":
            forms = self.texts if depth > 0 else LEAVES
            return self.filled(self.dice.choice(forms), depth - self.dice.choice([1, 2]))
        if word in "ST":
            return repr(self.words())
        if word == "DATA":
            return re.sub("[{%]", "", self.words())
        if word == "INNER":
            form = self.dice.choice(self.parts) if depth > 1 else "{{ A }}"
            return self.filled(form, depth - 2)
        if word == "CUT":
            start, stop = (self.dice.choice(["", self.dice.randrange(-6, 9)]) for _ in "ab")
            return f"[{start}:{stop}{self.dice.choice(['', '', ':-1', ':2', ':-2'])}]"
        return str(self.dice.randrange(3 if word == "K" else 9))

    def words(self) -> str:
        return "".join(self.dice.choices(self.literals, k=self.dice.choice([1, 1, 2])))

    def template(self) -> str:
        forms = self.dice.choices(self.parts, k=self.dice.randrange(1, 4))
        return HEAD + "".join(self.filled(form, self.dice.randrange(1, 6)) for form in forms)


def hostile(dice: random.Random) -> str:
    """A text of whole, cut, turned, disguised control tokens."""
    out = []
    for _ in range(dice.randrange(0, 4)):
        word = dice.choice(WORDS)
        cut = dice.randrange(len(word) + 1)
        out.append(dice.choice([
            word, word, word[::-1], word.upper(), word[:cut], word[cut:], f"{word[:cut]}x{word[cut:]}",
            f"{word[:cut]}</think>{word[cut:]}", f"{word[:cut]} {word[cut:]}", " ".join(word), "x".join(word),
            word.replace("<", "&lt;"), word + ">", "<" + word, word.swapcase(), word[::2], "x", " ", "\n",
            "%s", "{}", "{0}", "user", repr(word), "".join(a + a for a in word),
        ]))  # fmt: skip
    return "".join(out)


def messages(dice: random.Random) -> list[dict[str, Any]]:
    roles = ["user", "assistant", "user", "system", "tool", dice.choice([hostile(dice), "bot"])]
    return [
        {"role": dice.choice(roles), "content": hostile(dice), "name": hostile(dice)}
        for _ in range(dice.randrange(1, 4))
    ]


def disguised(value: Any, key: str = "") -> Any:
    """Messages with every printable character exchanged for one that is in no control token."""
    if isinstance(value, str):
        known = key == "role" and value in ("user", "assistant", "system", "tool")
        return value if known else "".join(c if c.isspace() else chr(0xE000 + ord(c)) for c in value)
    if isinstance(value, list):
        return [disguised(item) for item in value]
    return {key: disguised(item, key) for key, item in value.items()}


def attempt(tokens: Tokenizer, seed: int) -> str | None:
    """One template and its messages; what is wrong about them, None for nothing, "" for one that fails."""
    dice = random.Random(seed)
    kind = dice.choice(["opening", "closing", "whole"])
    literals = {"opening": OPENING, "closing": CLOSING, "whole": WHOLE}[kind]
    template = Maker(dice, literals, looking=kind != "whole").template()
    talk = messages(dice)
    told = f"seed {seed}, {kind}\n{template}\n{talk}\n"
    names = {"bos_token": "", "eos_token": ""}
    try:
        ids = encode_chat(tokens, template, talk)
    except EdgeqError:
        return ""
    text = render(template, talk)
    try:
        plain = reference(template, messages=talk, add_generation_prompt=True, **names)
    except Exception:  # edgeq's filters give lists where Jinja's give iterators, which have no length
        return ""
    if text != plain and " object at 0x" not in plain:  # as Jinja prints an iterator
        return f"{told}rendered {text!r} instead of {plain!r}"
    found = [id for id in ids if id in tokens.reserved_ids]
    want: list[int] = []
    if kind == "whole":
        safe = reference(template, messages=disguised(talk), add_generation_prompt=True, **names)
        want = [part for part in tokens.split(safe) if isinstance(part, int)]
    if found != want:
        spelled = [[tokens.spelling(id) for id in ids] for ids in (found, want)]
        return f"{told}{spelled[0]} instead of {spelled[1]}"
    return None


def main() -> int:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    tokens, failed, wrong = tokenizer(), 0, 0
    for number in range(seed, seed + count):
        result = attempt(tokens, number)
        failed += result == ""
        wrong += bool(result)
        if result:
            print(result, end="\n\n")
    print(f"{count} templates, {failed} of them refused or failing, {wrong} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
