"""Control tokens come from templates and never from messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.chat import encode_chat, render
from edgeq.converters import tokenizers as converter
from edgeq.errors import UsageError
from edgeq.tokenizer import Tokenizer, load
from tests.chat.shapes import ALL, MARKERS, SPECIAL, TALK
from tests.tokenizer.conftest import VOCABULARIES, small_json


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A small byte-level vocabulary with the special tokens of all shapes."""
    data = small_json()
    first = len(data["model"]["vocab"])
    data["added_tokens"] = [
        {"id": first + i, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": word in SPECIAL}
        for i, word in enumerate([*SPECIAL, *MARKERS])
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("tokenizer")
    (path / "tokenizer.json").write_text(json.dumps(data))
    (path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    made = converter.from_directory(path)
    assert made is not None
    return load(*made)


def rendered(tokenizer: Tokenizer, template: str, messages: list[dict[str, Any]], **more: Any) -> str:
    return render(template, messages, bos_token="<s>", eos_token="</s>", **more)


def counts(tokenizer: Tokenizer, ids: list[int]) -> dict[str, int]:
    return {tokenizer.spelling(id): ids.count(id) for id in tokenizer.reserved_ids if id in ids}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("prompt", [True, False])
def test_innocent_messages_give_the_ids_of_the_whole_text(
    tokenizer: Tokenizer, name: str, prompt: bool
) -> None:
    messages = [message | {"content": message["content"].replace("think>", "thought>")} for message in TALK]
    text = rendered(tokenizer, ALL[name], messages, add_generation_prompt=prompt)
    ids = encode_chat(tokenizer, ALL[name], messages, add_generation_prompt=prompt)
    assert ids == tokenizer.encode(text, special=True)
    assert tokenizer.decode(ids, special=True) == text
    assert counts(tokenizer, ids)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_no_special_token_comes_from_a_message(tokenizer: Tokenizer, name: str, role: str) -> None:
    """Every special string, in every role, alone, inside words, at the ends, in pieces: the control tokens
    are those of the same conversation with an innocent word instead, and the text is the rendered one."""
    index = {"system": 0, "user": 1, "assistant": 2}[role]
    order = ["system", "user", "assistant", "user"]
    talk = [{"role": speaker, "content": letter} for speaker, letter in zip(order, "suaz", strict=True)]
    want = counts(tokenizer, encode_chat(tokenizer, ALL[name], talk))
    for word in [*SPECIAL, *MARKERS]:
        for content in (
            word,
            f" {word}\n",
            f"x{word}y{word}",
            word[:-1],
            word[1:],
            word * 3,
            f"{word[:2]}{word}{word[2:]}",
        ):
            messages = [
                message | ({"content": content} if i == index else {}) for i, message in enumerate(talk)
            ]
            ids = encode_chat(tokenizer, ALL[name], messages)
            assert counts(tokenizer, ids) == want, content
            assert tokenizer.decode(ids, special=True) == rendered(tokenizer, ALL[name], messages)


def test_parts_and_tools_are_no_source_of_special_tokens(tokenizer: Tokenizer) -> None:
    parts = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a<|im_end|>"}, {"type": "text", "text": "<|im_"}],
        }
    ]
    assert counts(tokenizer, encode_chat(tokenizer, ALL["blocks"], parts)) == {
        "<|im_start|>": 2,
        "<|im_end|>": 1,
    }
    tools = [{"name": "f<|im_end|>", "description": "</s><tool_call>", "<s>": {"x": ["<|im_start|>"]}}]
    ids = encode_chat(tokenizer, ALL["tools"], [{"role": "user", "content": "x"}], tools=tools)
    assert counts(tokenizer, ids) == {"<|im_start|>": 2, "<|im_end|>": 2}
    calls = [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"name": "</tool_call>", "arguments": {"a": "<|im_end|>"}}],
        }
    ]
    ids = encode_chat(tokenizer, ALL["thinking"], calls, add_generation_prompt=False)
    assert counts(tokenizer, ids) == {"<|im_start|>": 1, "<|im_end|>": 1, "<tool_call>": 1, "</tool_call>": 1}


def test_names_of_roles(tokenizer: Tokenizer) -> None:
    """<|user|> may be put together from a known role; from any other role it is text."""
    ids = encode_chat(tokenizer, ALL["pipes"], [{"role": "user", "content": "x"}])
    assert counts(tokenizer, ids) == {"<|user|>": 1, "</s>": 1, "<|assistant|>": 1}
    template = "<{{ messages[0].role }}>"
    assert counts(tokenizer, encode_chat(tokenizer, template, [{"role": "|im_end|", "content": ""}])) == {}
    whole = "{{ messages[0].role }}"
    assert counts(tokenizer, encode_chat(tokenizer, whole, [{"role": "<|im_end|>", "content": ""}])) == {}


@pytest.mark.parametrize(
    "template",
    [
        "<|im_{{ messages[0].content }}|>",
        "{{ '<|im_' + messages[0].content + '|>' }}",
        "{{ '<|im_%s|>' % messages[0].content }}",
        "{{ '<|im_{}|>'.format(messages[0].content) }}",
        "{{ '<|im_X|>' | replace('X', messages[0].content) }}",
        "{{ ['<|im_', messages[0].content, '|>'] | join }}",
        "{{ ('<|IM_' ~ messages[0].content ~ '|>') | lower }}",
        "{{ messages[1].content | replace('X', '') }}",
        "{{ messages[2].content | lower }}",
        "{{ messages[3].content | reverse }}",
        "{{ messages[1].content[:4] ~ messages[1].content[5:] }}",
        "{% for c in messages[4].content %}{{ c }}{% endfor %}",
        "{{ messages[4].content.split('|') | join('|') }}",
        "{{ messages[4].content | tojson | replace('\"', '') }}",
        "{% set x %}{{ messages[4].content }}{% endset %}{{ x | trim }}",
        "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(messages[4].content) }}",
        "{{ messages | map(attribute='content') | list | last }}",
        "{{ (messages[4].content, 1)[0] }}{{ {'a': messages[4].content}.a }}",
    ],
)
def test_no_template_makes_a_control_token_of_a_message(tokenizer: Tokenizer, template: str) -> None:
    contents = ["end", "<|imX_end|>", "<|IM_END|>", ">|dne_mi|<", "<|im_end|>"]
    messages = [{"role": "user", "content": content} for content in contents]
    assert "<|im_end|>" in rendered(tokenizer, template, messages)
    assert counts(tokenizer, encode_chat(tokenizer, template, messages)) == {}


def test_control_tokens_that_a_template_computes(tokenizer: Tokenizer) -> None:
    """Constants keep their meaning through variables, tables, macros, joins and formats."""
    user = [{"role": "user", "content": "x<|im_end|>"}]
    for template in (
        "{% set a = '<|im_start|>' %}{{ a }}{{ messages[0].content }}",
        "{{ {'user': '<|im_start|>'}[messages[0].role] }}{{ messages[0].content }}",
        "{% macro f(a) %}{{ a }}{% endmacro %}{{ f('<|im_start|>') }}{{ messages[0].content }}",
        "{{ ['', messages[0].content] | join('<|im_start|>') }}",
        "{{ '<|im_start|>'.join(['', messages[0].content]) }}",
        "{{ '<|im_start|>%s' % messages[0].content }}",
        "{{ '<|im_start|>{}'.format(messages[0].content) }}",
        "{{ '%s' % '<|im_start|>' }}{{ messages[0].content }}",
        "{{ missing | default('<|im_start|>') }}{{ messages[0].content }}",
        "{{ ('<|im_start|>' ~ messages[0].content) | trim }}",
        "{{ '<|im_start|>' if true else '' }}{{ messages[0].content }}",
        "{{ '<|im_' ~ 'start' + '|>' }}{{ messages[0].content }}",
        "{% set ns = namespace(a='<|im_start|>') %}{{ ns.a ~ messages[0].content }}",
        "{% filter trim %} <|im_start|>{{ messages[0].content }} {% endfilter %}",
    ):
        assert counts(tokenizer, encode_chat(tokenizer, template, user)) == {"<|im_start|>": 1}, template


def test_a_template_that_computes_with_its_own_text(tokenizer: Tokenizer) -> None:
    """Its length is that of the text, and its control tokens are its own whatever a message says."""
    template = "{% set a = '<|im_start|>' ~ messages[0].content ~ '<|im_end|>' %}{{ a }}{{ a | length }}"
    for content in ("x", "<|im_end|>", "<|IM_END|>", "a<|im_end|>b"):
        ids = encode_chat(tokenizer, template, [{"role": "user", "content": content}])
        assert counts(tokenizer, ids) == {"<|im_start|>": 1, "<|im_end|>": 1}
        assert tokenizer.decode(ids, special=True).endswith(str(len("<|im_start|><|im_end|>" + content)))


def test_thoughts_of_earlier_answers_are_cut_as_the_template_says(tokenizer: Tokenizer) -> None:
    ids = encode_chat(tokenizer, ALL["thinking"], TALK, enable_thinking=False)
    text = tokenizer.decode(ids, special=True)
    assert "hm" not in text and text.endswith("<think>\n\n</think>\n\n")
    assert counts(tokenizer, ids) == {"<|im_start|>": 4, "<|im_end|>": 3, "<think>": 1, "</think>": 1}


def test_bos_comes_once(demo: Tokenizer) -> None:
    user = [{"role": "user", "content": "Once upon a time"}]
    assert encode_chat(demo, "{{ messages[0].content }}", user) == [1, 403, 407, 261, 378]
    ids = encode_chat(demo, "{{ bos_token }}{{ messages[0].content }}", user)
    assert ids[0] == 1 and ids.count(1) == 1 and demo.decode(ids) == "Once upon a time"
    assert encode_chat(demo, "{{ messages[0].content }}", user, add_bos=False) == [403, 407, 261, 378]
    typed = [{"role": "user", "content": "<s>"}]
    ids = encode_chat(demo, "{{ bos_token }}{{ messages[0].content }}", typed)
    assert ids[0] == 1 and ids.count(1) == 1 and demo.decode(ids) == "<s>"
    turns = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    written, named = (encode_chat(demo, begin + turns, user) for begin in ("<s>", "{{ bos_token }}"))
    assert written == named and (written[0], written[-1]) == (1, 2) and written.count(1) == 1


def test_without_a_template(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="has no chat template"):
        encode_chat(tokenizer, None, TALK)
    assert encode_chat(tokenizer, "", TALK) == []


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabularies(vocabulary: Callable[[str], Tokenizer], data_dir: Path, name: str) -> None:
    """The template inside the file, or one of ours: every special string of the vocabulary is text."""
    from edgeq.formats.gguf import open_gguf

    tokenizer = vocabulary(name)
    metadata = open_gguf(data_dir / "vocab" / f"ggml-vocab-{name}.gguf").metadata
    template = metadata.get("tokenizer.chat_template", ALL["headers"])
    words = [tokenizer.spelling(id) for id in sorted(tokenizer.reserved_ids)[:60]]
    user = [{"role": "user", "content": "hello"}]
    want = counts(tokenizer, encode_chat(tokenizer, template, user))
    for content in ["".join(words), " ".join(words), *words]:
        ids = encode_chat(tokenizer, template, [{"role": "user", "content": content}])
        assert counts(tokenizer, ids) == want
        assert content.strip() in tokenizer.decode(ids, special=True)


@pytest.mark.parametrize("name", ALL)
def test_the_last_message_may_be_unfinished(tokenizer: Tokenizer, name: str) -> None:
    """What follows goes on with its text: nothing of the template stands behind that."""
    before = [{"role": "user", "content": "Who are you? I am <|im_end|>"}]
    messages = [*before, {"role": "assistant", "content": "I am <|im_end|>"}]
    text = rendered(tokenizer, ALL[name], messages, add_generation_prompt=False)
    begun = text[: text.rindex("I am <|im_end|>") + len("I am <|im_end|>")]
    ids = encode_chat(tokenizer, ALL[name], messages, continue_final_message=True)
    assert tokenizer.decode(ids, special=True) == begun
    whole = encode_chat(tokenizer, ALL[name], messages, add_generation_prompt=False)
    assert counts(tokenizer, ids).get("<|im_end|>", 0) <= counts(tokenizer, whole).get("<|im_end|>", 0)


def test_what_cannot_be_continued(tokenizer: Tokenizer) -> None:
    plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So "}]
    ids = encode_chat(tokenizer, plain, said, continue_final_message=True)
    assert tokenizer.decode(ids, special=True) == "user: Hi\nassistant: So "
    trims = plain.replace("m.content", "m.content | trim")
    ids = encode_chat(tokenizer, trims, said, continue_final_message=True)
    assert tokenizer.decode(ids, special=True) == "user: Hi\nassistant: So"
    for template, messages, words in (
        (plain, [*said, {"role": "assistant", "content": " "}], "no text"),
        (plain, [], "no text"),
        (plain.replace("m.content", "m.content | upper"), said, "as it is"),
        (plain + "{{ messages[0].content }}", said, "behind all others"),
        ("Hello", said, "as it is"),
    ):
        with pytest.raises(UsageError, match=words):
            encode_chat(tokenizer, template, messages, continue_final_message=True)
