"""A template is a stranger's program: it reaches nothing, and it ends soon with little memory."""

# ruff: noqa: E501  (a template stands on one line)

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.chat import render
from edgeq.errors import EdgeqError, UnsupportedError
from tests.patience import STUCK_S, check_cheap

ROOT = Path(__file__).resolve().parent.parent.parent
MESSAGES = [{"role": "user", "content": "hello"}]

# Ways out of Jinja's sandbox that are or were known, each ending in a call that would leave a file behind.
RUN = ".__globals__['__builtins__']['__import__']('os').system('touch canary')"
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__mro__'][1]['__subclasses__']() }}",
    "{{ messages.__class__.__base__.__subclasses__()[40]('canary', 'w') }}",
    "{{ self.__init__" + RUN + " }}",
    "{{ self._TemplateReference__context.environment.globals }}",
    "{{ cycler.__init__" + RUN + " }}",
    "{{ joiner.__init__" + RUN + " }}",
    "{{ namespace.__init__" + RUN + " }}",
    "{{ lipsum" + RUN + " }}",
    "{{ lipsum.__globals__.os.popen('touch canary').read() }}",
    "{{ range.__init__" + RUN + " }}",
    "{{ dict.__base__.__subclasses__() }}",
    "{{ raise_exception" + RUN + " }}",
    "{{ strftime_now" + RUN + " }}",
    "{{ strftime_now.__module__ }}{{ strftime_now.__globals__ }}",
    "{{ messages | attr('__class__') }}",
    "{{ ('' | attr('__class__')).__mro__ }}",
    "{{ ['__class__'] | map('attr', messages) | list }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ [''] | map(attribute='__class__.__mro__') | list }}",
    "{{ [''] | groupby('__class__') }}",
    "{{ [''] | sort(attribute='__class__') }}",
    "{{ [''] | sum(attribute='__class__') }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{0.__init__.__globals__}'.format(raise_exception) }}",
    "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "{{ ('{0.__class__}' | attr('format'))('') }}",
    "{{ '%(__class__)s' % messages[0] }}",
    "{{ ['{0.__class__}'.format][0]('') }}",
    "{% set f = '{0.__class__}'.format %}{{ [''] | map('f') | list }}",
    "{{ ''.format.__self__.__class__ }}",
    "{{ {}.get.__self__.__class__ }}",
    "{{ environment }}{{ environment.globals }}",
    "{{ literal }}{{ tick }}{{ keep }}{{ __context }}",
    "{{ loop.__class__ }}{% for x in [1] %}{{ loop._iterator.gi_frame.f_globals }}{% endfor %}",
    "{% for x in [1] %}{{ loop.__init__" + RUN + " }}{% endfor %}",
    "{% macro f() %}{% endmacro %}{{ f.__init__" + RUN + " }}{{ f._func.__globals__ }}{{ f._environment }}",
    "{% macro f() %}{{ caller._func.__globals__ }}{% endmacro %}{% call f() %}{% endcall %}",
    "{{ (messages | map('upper')).gi_frame.f_builtins }}",
    "{{ undefined_name.__class__ }}{{ undefined_name._undefined_exception.__init__.__globals__ }}",
    "{{ namespace(a=1).__class__ }}{{ namespace(a=1)._Namespace__attrs }}",
    "{{ (1).__class__ }}{{ (1.5).__class__ }}{{ true.__class__ }}{{ none.__class__ }}",
    "{{ ('a' | e).__class__ }}{{ ('a' | safe).__html__.__self__ }}",
    "{{ ('a' | safe).unescape.__globals__ }}{{ ('a' | e).escape('x') }}",
    "{{ 'a'.encode().__class__ }}{{ 'a'.encode().decode.__self__ }}",
    "{{ messages[0].__setitem__('role', 'system') }}{{ messages[0].pop('role') }}{{ messages.clear() }}",
    "{{ dict.fromkeys }}{{ dict.mro() }}{{ range.mro() }}",
    "{% set messages.x = 1 %}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns.__class__ }}",
    "{{ x.__init__.__globals__ if x is defined else messages.__init__.__globals__ }}",
    "{{ messages | tojson(default=raise_exception) }}",
    "{{ messages | tojson(cls='x') }}",
    "{% import 'os' as os %}{{ os.system('touch canary') }}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
]

# What payloads may print: an attribute that is refused is undefined, and some parts of them are harmless texts.
HARMLESS = ("", "a", "x", "[]", "['']", "[Undefined]", "[(Undefined, [''])]")


@pytest.mark.parametrize("payload", ESCAPES)
def test_nothing_is_reached(payload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        text = render(payload, MESSAGES)
    except EdgeqError as error:
        text = ""
        assert "\n" not in str(error)
    assert not os.listdir(tmp_path)
    assert text.strip() in HARMLESS


LOOP = "{% set ns = namespace(x=%s) %}{% for i in range(60) %}{% set ns.x = %s %}{% endfor %}"


def doubled(start: str, step: str, end: str = "{{ ns.x }}") -> str:
    return LOOP.replace("%s", start, 1).replace("%s", step, 1) + end


BOMBS = {
    "times": "{{ 'a' * 200000000 }}",
    "times-list": "{{ [0] * 200000000 }}",
    "power": "{{ 10 ** 10 ** 9 }}",
    "squares": doubled("3", "ns.x * ns.x"),
    "doubled-text": doubled("'aaaaaaaa'", "ns.x + ns.x"),
    "doubled-concat": doubled("'aaaaaaaa'", "ns.x ~ ns.x"),
    "doubled-join": doubled("'aaaaaaaa'", "[ns.x, ns.x] | join"),
    "doubled-list": doubled("[1]", "[ns.x, ns.x]"),
    "doubled-dict": doubled("{}", "{'a': ns.x, 'b': ns.x}", "{{ ns.x | tojson }}"),
    "doubled-dict-call": doubled("1", "dict(a=ns.x, b=ns.x)"),
    "doubled-compared": "{% set m = namespace(y=[1]) %}"
    + doubled("[1]", "[ns.x, ns.x] %}{% set m.y = [m.y, m.y]", "{{ ns.x == m.y }}"),
    "doubled-block": doubled("'aaaaaaaa'", "ns.x %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y"),
    "nested-lists": "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    "much-output": "{% set x = 'a' * 4000000 %}{% for i in range(100) %}{{ x }}{% endfor %}",
    "loops": "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}",
    "ranges": "{% for a in range(99999) %}{% set x = range(99999) | list %}{% endfor %}",
    "sums": "{% for a in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "sum-of-lists": "{{ ([[1, 2, 3]] * 30000) | sum(start=[]) | length }}",
    "big-range": "{{ range(100000000) | list }}",
    "center": "{{ 'a' | center(100000000) }}",
    "ljust": "{{ 'a'.ljust(100000000) }}",
    "zfill": "{{ 'a'.zfill(100000000) }}",
    "replace": "{{ ('a' * 1000000).replace('a', 'b' * 1000) }}",
    "replace-filter": "{{ ('a' * 1000000) | replace('', 'b' * 1000) }}",
    "join": "{{ ('a' * 100000).join('b' * 1000) }}",
    "join-filter": "{{ (['b' * 10000] * 10000) | join }}",
    "join-text": "{{ ('b' * 100000) | join('a' * 100000) }}",
    "percent": "{{ '%100000000d' % 1 }}",
    "percent-star": "{{ '%*d' % (100000000, 1) }}",
    "percent-many": "{{ ('%(a)s' * 1000) % {'a': 'b' * 1000000} }}",
    "format": "{{ '{:100000000}'.format(1) }}",
    "format-nested": "{{ '{:{}}'.format(1, 100000000) }}",
    "format-filter": "{{ '%100000000d' | format(1) }}",
    "indent": "{{ ('\\n' * 1000000) | indent(10000) }}",
    "indent-text": "{{ ('\\n' * 100000) | indent('a' * 10000) }}",
    "indent-lines": "{{ ('\\n' * 1000000) | indent(1) | length }}",
    "lines": "{{ ('\\n' * 1000000).splitlines() | length }}",
    "replace-much": "{{ ('ab' * 1000000 ~ messages[0].content) | replace('a', 'c') | length }}",
    "json-indent": "{{ ([[[[[1]]]]] * 1000) | tojson(indent=100000) }}",
    "batch": "{{ [1] | batch(100000000, 1) | list }}",
    "slice": "{{ [1] | slice(100000000) | list }}",
    "round": "{{ 1.5 | round(1000000000) }}",
    "split": "{{ ('a ' * 2000000).split() | length }}",
    "splits": "{% for i in range(1000) %}{% set x = ('a ' * 100000).split(' ') %}{% endfor %}",
    "characters": "{{ ('ab' * 2000000) | list | length }}",
    "slices": "{% set x = 'a' * 2000000 %}{% set l = [" + "x[1:]," * 1500 + "] %}",
    "escapes": "{{ ('<' * 4000000) | e | e }}",
    "titles": "{{ ('a ' * 2000000) | title }}",
    "sorts": "{% for i in range(9999) %}{% set x = range(99999) | sort(reverse=true) %}{% endfor %}",
    "searches": "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if ('a' * 999 ~ 'b') in x %}{% endif %}{% endfor %}",
    "comparisons": "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}"
    + "{% if 'ab' in x %}{% endif %}" * 900 + "{% endfor %}",
    "bytes": "{{ (5).to_bytes(100000000, 'big') }}",
    "date": "{{ strftime_now('%99999999Y') }}",
    "macro-recursion": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "macro-tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "loop-recursion": "{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "parentheses": "{{ " + "(" * 7000 + "1" + ")" * 7000 + " }}",
    "brackets": "{{ " + "[" * 7000 + "]" * 7000 + " }}",
    "terms": "{{ " + "a+" * 7000 + "a }}",
    "nots": "{{ " + "not " * 7000 + "a }}",
    "ifs": "{% if a %}" * 1500 + "{% endif %}" * 1500,
    "fors": "{% for a in b %}" * 1000 + "{% endfor %}" * 1000,
    "elements": "{{ [" + "1," * 120000 + "] }}",
    "prints": "{{a}}" * 50000,
    "large": "a" * 300000,
}  # fmt: skip

CHILD = """
import json, resource, sys, time
from edgeq.chat import render
from edgeq.errors import UnsupportedError
messages = [{"role": "user", "content": "hello"}]
render("{{ messages }}{{ 'a' | trim ~ 1 }}", messages)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
results, before = {}, peak()
for name, template in json.load(sys.stdin).items():
    begin = time.process_time()
    try:
        outcome = f"printed {len(render(template, messages))} characters"
    except UnsupportedError as error:
        outcome = "refused" if chr(10) not in str(error) else "refused in more than a line"
    results[name] = outcome, time.process_time() - begin, peak() - before
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[str, float, int]]:
    """name -> (outcome, seconds of CPU, MiB of peak memory over that of a child that rendered all so far)."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(BOMBS),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=STUCK_S,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return dict(json.loads(child.stdout))


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_soon_and_cheaply(bombs: dict[str, tuple[str, float, int]], name: str) -> None:
    outcome, seconds, mebibytes = bombs[name]
    assert outcome == "refused"
    check_cheap(seconds, 1.0)
    assert mebibytes <= 64


NOT_OFFERED = {
    "{{ messages[0].content.isidentifier }}": "'isidentifier' of a text",
    "{{ messages[0].content.expandtabs() }}": "'expandtabs' of a text",
    "{{ messages.append }}": "'append' of a list",
    "{{ messages[0].pop('role') }}": "'pop' of a dict",
    "{{ messages | map(attribute='pop') | list }}": "'pop' of a dict",
    "{{ 'x'.encode }}": "'encode' of a text",
    "{{ (1).real }}": "'real' of a int",
    "{{ (messages | groupby('role'))[0].index_ }}{{ (messages | groupby('role'))[0]._fields }}": "'_fields'",
    "{% autoescape true %}{{ messages[0].content }}{% endautoescape %}": "uses autoescape",
    "{% trans %}x{% endtrans %}": "'trans'",
    "{% do messages %}": "'do'",
    "{{ messages | pprint }}": "'pprint'",
    "{{ messages is unheard }}": "'unheard'",
    "{{ joiner(', ') }}": "'joiner'",
    "{{ lipsum() }}": "'lipsum'",
}


@pytest.mark.parametrize("template", NOT_OFFERED)
def test_what_is_not_offered_is_refused_by_name(template: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        render(template, MESSAGES)
    assert NOT_OFFERED[template] in str(caught.value)


def test_what_is_missing_is_undefined_as_in_jinja() -> None:
    template = "{{ messages[0].x is defined }} {{ messages[0].content.text is defined }} {{ y is defined }}"
    assert render(template, MESSAGES) == "False False False"
