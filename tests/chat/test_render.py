"""Rendering is Jinja's, as chat templates expect it; what is no chat is refused in one sentence."""

# ruff: noqa: E501  (a template stands on one line)

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeq.chat import render
from edgeq.errors import UnsupportedError, UsageError
from tests.chat.plain import reference
from tests.chat.shapes import ALL, TALK

TOOLS = [{"name": "weather", "description": "says <b>rain</b> — or 'sun'", "parameters": {"type": "object"}}]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("system", [True, False])
def test_shapes_render_as_in_plain_jinja(name: str, prompt: bool, system: bool) -> None:
    messages = [{"role": "system", "content": "Be brief. "}] * system + TALK
    variables = {"bos_token": "<s>", "eos_token": "</s>", "tools": TOOLS, "enable_thinking": False}
    want = reference(ALL[name], messages=messages, add_generation_prompt=prompt, **variables)
    got = render(ALL[name], messages, add_generation_prompt=prompt, **variables)  # type: ignore[arg-type]
    assert got == want and "llo” 🦙" in got


EXPRESSIONS = [
    "{{ messages | length }} {{ messages[-1].content[2:6] }} {{ messages[::-1][0].role }}",
    "{{ 'a,b,c'.split(',') }} {{ ['x', 1, none, true, 1.5, {'k': [1]}] }} {{ {'a': 1} }} {{ (1, 2) }}",
    "{{ 7 // 2 }} {{ 7 / 2 }} {{ 7 % 4 }} {{ -3 }} {{ 2 ** 10 }} {{ 'ab' * 3 }} {{ [1] * 2 + [3] }} {{ 1 ~ 'x' ~ none }}",
    "{{ '%s-%03d' % ('a', 5) }} {{ '{} {b}'.format(1, b='x') }} {{ 'x%sy' | format(1) }}",
    "{{ x is defined }} {{ x is none }} {{ x or 'd' }} {{ x | default('<d>') }} {{ messages[0].missing is defined }}",
    "{{ messages | map(attribute='role') | join('|') }} {{ messages | map(attribute='role') | unique | list }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 'yes' if messages | rejectattr('role') }}",
    "{{ [3, 1, 2] | sort | join(',') }} {{ [1, 2] | sum }} {{ 'abc' | reverse }} {{ [1, 2, 3] | batch(2) | list }}",
    "{{ 'a b' | title }} {{ 'A' | lower }} {{ 'a\nb' | indent(2, true) }} {{ 'x' | center(5) }}| {{ '<' | e }}",
    "{{ {'b': 1, 'a': [1, '<é>']} | tojson }} {{ {'b': 1} | tojson(indent=4) }} {{ {'b': 1, 'a': 2} | dictsort }}",
    "{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }};{% endfor %}{% for c in 'abc' if c != 'b' %}{{ loop.index }}{{ c }}{% endfor %}",
    "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}{% else %}none{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "{% macro f(a, b='x') %}[{{ a }}{{ b }}{{ caller() if caller }}]{% endmacro %}{{ f(1) }}{% call f(2, b='y') %}z{% endcall %}",
    "{% set t %} a {{ 1 }} {% endset %}{{ t | trim | length }}{% filter upper %}abc{% endfilter %}{% raw %}{{ x }}{% endraw %}",
    "{% for x in [[1, [2]], [3]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
    "  {% if true %}\n a\n  {% endif %}\n b {#- c -#} d {%- if false %}{% endif %} e\n",
    "{{ 'A' in 'AB' }} {{ 'role' in messages[0] }} {{ 3 in [1, 2] }} {{ 1 < 2 <= 2 }} {{ 'a' == 'a' != 'b' }}",
    "{{ ' x '.strip() }}{{ 'xay'.replace('a', '') }}{{ 'ab'.startswith('a') }}{{ ', '.join(['a', 'b']) }}{{ 'a'.upper() }}",
    "{{ [1, 2, 3] | first }} {{ [1] | last }} {{ '5' | int + 1 }} {{ 2.567 | round(1) }} {{ [1, 5] | max }} {{ -2 | abs }}",
    "{% for g in messages | groupby('role') %}{{ g.grouper }}:{{ g.list | length }}:{{ g[0] }};{% endfor %}{{ messages | groupby('role') }}",
    "{% for role, items in messages | groupby('role') %}{{ role }}:{{ items | map(attribute='content') | join }};{% endfor %}",
    "{{ '%s|%d%%' % ('a', 5) }}{{ '%(a)s' % {'a': 1} }}{{ '{{}}{0!r:>5}{1}'.format('a', 'b') }}{{ 'a'.join(['x', 'y']) }}",
    "{{ 'ab' * 2 + 'c' ~ 1 }}{{ 'x' | join('-') }}{{ ['a', 1, none] | join(', ') }}{{ messages | join(' ', attribute='role') }}",
    "{{ ('a' | safe) + '<' ~ '<' }}{{ '<' + ('a' | safe) }}{{ ['<' | safe, '<'] | join }}{{ '<' | e }}{{ ('<' | e) ~ '>' }}",
    "{{ 'a\n\nb\n' | indent }}|{{ 'a\n\nb' | indent('--', blank=true) }}|{{ '' | indent(first=true) }}|{{ ('a\n<' | e | indent) + '<' }}{{ 'a\n<' | indent('>' | safe) }}",
    "{{ messages is sequence }} {{ messages[0] is mapping }} {{ 'a' is string }} {{ 3 is odd }} {{ dict(a=1).a }}",
    "{{ 'long text here' | truncate(8) }} {{ [{'a': 1}, {'a': 1}] | groupby('a') | length }} {{ 'é' | tojson }}",
]


@pytest.mark.parametrize("template", EXPRESSIONS)
def test_the_language_is_jinjas(template: str) -> None:
    want = reference(template, messages=TALK, add_generation_prompt=True)
    text = render(template, TALK)
    assert text == want != "" and type(text) is str


def test_json_is_that_of_transformers() -> None:
    """The caller's order of keys, ', ' and ': ', no HTML escapes, other scripts as they are."""
    tools = [{"name": "f", "description": "if t > 10 & 'dry' <b>", "z": {"a": ["é", "中", 1.5, None, True]}}]
    line = '{"name": "f", "description": "if t > 10 & \'dry\' <b>", "z": {"a": ["é", "中", 1.5, null, true]}}'
    assert render("{{ tools | tojson }}", TALK, tools=tools) == f"[{line}]"
    assert render("{% for t in tools %}{{ t | tojson }}\n{% endfor %}", TALK, tools=tools) == f"{line}\n"
    assert render("{{ tools[0].z | tojson(indent=2) }}", TALK, tools=tools).startswith(
        '{\n  "a": [\n    "é",'
    )


def test_strftime_now() -> None:
    from datetime import datetime

    before = datetime.now().strftime("%d %b %Y")
    assert render("{{ strftime_now('%d %b %Y') }}", TALK) in (before, datetime.now().strftime("%d %b %Y"))


def test_a_template_that_refuses_the_messages() -> None:
    with pytest.raises(UsageError, match="refuses these messages: user and assistant must take turns$"):
        render(ALL["inst"], [TALK[0], TALK[0]])
    with pytest.raises(UsageError) as caught:
        render("{{ raise_exception('a\\n\\x1b[31mb' * 1000) }}", TALK)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 400


def test_the_callers_messages_are_not_touched() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    before = json.dumps(messages)
    with pytest.raises(UnsupportedError):
        render("{{ messages.append(1) }}", messages)
    with pytest.raises(UnsupportedError):
        render("{{ messages[0].update({'role': 'system'}) }}", messages)
    assert json.dumps(messages) == before


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "messages",
    [
        *["text", {"role": "user"}, 5, None, [1], [{}], [{"role": 1}], [{"content": "x"}]],
        *[
            [{"role": "user", "content": content}]
            for content in (object(), b"x", {1, 2}, "\udc80", 1 << 70, CYCLE)
        ],
        [{"role": "user", "content": "x" * 5_000_000}],
        [{"role": "user"}] * 10_001,
    ],
)
def test_what_is_no_list_of_messages(messages: Any) -> None:
    with pytest.raises(UsageError) as caught:
        render("{{ messages }}", messages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    ["{{", "{% if %}", "{% for x in y %}", "{{ x | nofilter }}", "{% unknown %}", "{% include 'x' %}", "{% import 'x' as y %}",
     "{% from 'x' import y %}", "{% extends 'x' %}", "{{ '\\ud800' }}", "\ud800", "{{ 1 / 0 }}", "{{ x.y.z }}", "{{ x() }}", "{{ 'a' + 1 }}",
     "{{ [].append(1) }}", "{{ range }}", "{% generation %}", "{% break %}"],
)  # fmt: skip
def test_templates_that_fail(template: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        render(template, TALK)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
