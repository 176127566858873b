"""OpenAI's dialect: what is answered, and that it is what the model says alone (P1, P3, P5)."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edgeq import chat
from edgeq.generate import Batch
from tests.serve.conftest import Start
from tests.serve.live import TEMPLATE, Live


def alone(model: Any, prompt: Any, **options: Any) -> Any:
    """What the model says when nobody else asks."""
    return model.generate(prompt, special=True, **options).read()


def test_a_completion_is_what_the_model_says(live: Live, model: Any) -> None:
    found = live.complete(max_tokens=12, seed=5).json
    wanted = alone(model, "Once upon a time", max_tokens=12, seed=5)
    (choice,) = found["choices"]
    assert choice["text"] == wanted.text and choice["finish_reason"] == "length"
    assert found["seed"] == 5 and found["object"] == "text_completion" and found["model"] == "stories"
    assert found["usage"]["completion_tokens"] == 12
    assert found["usage"]["prompt_tokens"] == wanted.usage.prompt_tokens
    assert found["timings"]["predicted_n"] == 12
    assert found["system_fingerprint"].startswith("edgeq-")


def test_a_chat_is_what_the_model_says(live: Live, model: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A story?"}]
    ids = chat.encode_chat(model.tokenizer, TEMPLATE, messages)
    found = live.post("/v1/chat/completions", {"messages": messages, "max_tokens": 9, "seed": 3}).json
    (choice,) = found["choices"]
    assert choice["message"]["content"] == alone(model, ids, max_tokens=9, seed=3).text
    assert choice["message"]["role"] == "assistant" and choice["message"]["refusal"] is None
    assert found["usage"]["prompt_tokens"] == len(ids)
    parts = [
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
        }
    ]
    again = live.post(
        "/chat/completions", {"messages": [*parts, messages[1]], "max_completion_tokens": 9, "seed": 3}
    ).json
    assert again["choices"] == found["choices"]


def test_ids_are_prompts_and_many_are_answered_in_order(live: Live, model: Any) -> None:
    ids = [model.tokenizer.encode(text) for text in ("Once upon", "Tom and", "The cat")]
    found = live.complete(ids, max_tokens=5, seed=1, n=2).json
    wanted = [alone(model, each, max_tokens=5, seed=seed).text for each in ids for seed in (1, 2)]
    assert [choice["text"] for choice in found["choices"]] == wanted
    assert [choice["index"] for choice in found["choices"]] == list(range(6))
    assert found["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert live.complete(ids[1], max_tokens=5, seed=1).json["choices"][0]["text"] == wanted[2]


def test_more_texts_than_run_at_once(start: Start, model: Any) -> None:
    server = start(parallel=2)
    found = server.complete("Tom", max_tokens=4, seed=7, n=5).json["choices"]
    assert [choice["text"] for choice in found] == [
        alone(model, "Tom", max_tokens=4, seed=7 + n).text for n in range(5)
    ]


def test_stops_end_a_text_before_them(live: Live, model: Any) -> None:
    text = alone(model, "Once upon a time", max_tokens=30, seed=5).text
    word = text.split()[4]
    found = live.complete(max_tokens=30, seed=5, stop=[word, ""]).json["choices"][0]
    assert found["text"] == text[: text.index(word)] and found["finish_reason"] == "stop"


def test_echo_tells_each_token_of_the_prompt(live: Live, model: Any) -> None:
    ids = model.tokenizer.encode("Once upon a time there was a cat")
    found = live.complete(ids, max_tokens=1, temperature=0, echo=True, logprobs=3).json["choices"][0]
    lists = found["logprobs"]
    assert {len(each) for each in lists.values()} == {len(ids) + 1}
    assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None
    batch = Batch(model)
    scored = batch.add(ids, max_tokens=1, temperature=0, logprobs=3, score=True)
    batch.run()
    assert scored.prompt_logprobs is not None
    assert lists["token_logprobs"][1:-1] == [each.logprob for each in scored.prompt_logprobs[1:] if each]
    logits = model.logits(ids)
    for n, id in enumerate(ids[1:], 1):
        best = max(lists["top_logprobs"][n].values())
        assert (lists["token_logprobs"][n] == best) == (logits[n - 1].argmax() == id)
        assert lists["tokens"][n] in lists["top_logprobs"][n]
    assert found["text"].startswith("Once upon a time there was a cat")
    only = live.complete(ids, max_tokens=0, echo=True, logprobs=0).json["choices"][0]
    assert only["logprobs"]["token_logprobs"] == lists["token_logprobs"][:-1]
    text = live.complete("Tom said", max_tokens=0, echo=True, logprobs=0).json["choices"][0]
    assert text["text"] == "Tom said" and text["logprobs"]["text_offset"][:2] == [0, 0]


def test_the_end_token_is_listed(live: Live, model: Any) -> None:
    eos = model.tokenizer.eos_id
    found = live.complete("Tom", max_tokens=5, logprobs=1, echo=True, logit_bias={str(eos): 100}).json
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "stop" and found["usage"]["completion_tokens"] == 0
    assert len(choice["logprobs"]["tokens"]) == found["usage"]["prompt_tokens"] + 1
    assert choice["logprobs"]["tokens"][-1] == model.tokenizer.spelling(eos)


def test_logprobs_of_a_chat(live: Live, model: Any) -> None:
    for stream in (False, True):
        found = live.chat(max_tokens=6, seed=1, logprobs=True, top_logprobs=2, stream=stream)
        if stream:
            choices = [event["choices"][0] for event in found.events[:-1]]
            tokens = [
                token for choice in choices for token in (choice["logprobs"] or {"content": []})["content"]
            ]
        else:
            tokens = found.json["choices"][0]["logprobs"]["content"]
        assert len(tokens) == 6 and all(len(token["top_logprobs"]) == 2 for token in tokens)
        assert all(bytes(token["bytes"]).decode("utf-8", "replace") == token["token"] for token in tokens)


def test_max_tokens_is_clipped_and_a_prompt_never_is(live: Live, model: Any) -> None:
    """P3: more than fits is told, with both numbers."""
    context = model.context
    ids = [5] * (context - 3)
    found = live.complete(ids, max_tokens=100_000, logit_bias={"2": -100}, seed=1)
    assert found.json["choices"][0]["finish_reason"] == "length"
    assert found.json["usage"]["completion_tokens"] == 4
    assert live.complete([5] * context, max_tokens=1).status == 200
    long = live.complete([5] * (context + 1), max_tokens=1)
    assert long.status == 400 and long.error["code"] == "context_length_exceeded"
    assert long.error["n_prompt"] == context + 1 and long.error["n_ctx"] == context
    words = live.chat("word " * 4000)
    assert words.status == 400 and words.error["code"] == "context_length_exceeded"


def test_no_control_token_comes_from_a_message(live: Live, model: Any) -> None:
    """P5: what a message says is text, whatever it spells; a completion's prompt belongs to who sends it."""
    tokenizer = model.tokenizer
    spelled = "".join(tokenizer.spelling(id) for id in sorted(tokenizer.reserved_ids))
    for field in ("user", "system", "assistant", "tool"):
        plain, hostile = (
            live.post("/tokenize", {"messages": [{"role": field, "content": text}]}).json["tokens"]
            for text in ("x", f"x{spelled}x")
        )
        assert [id for id in plain if id in tokenizer.reserved_ids] == [
            id for id in hostile if id in tokenizer.reserved_ids
        ]
    assert tokenizer.eos_id in live.post("/tokenize", {"content": f"x{spelled}"}).json["tokens"]


def test_thoughts_are_told_apart_and_counted(start: Start, model: Any) -> None:
    """A prompt that begins thoughts: all that follows is one, until it ends them."""
    server = start(template="{{ messages[0].content }}{% if enable_thinking %}<think>\n{% endif %}")
    found = server.chat(max_tokens=8, seed=1, enable_thinking=True).json
    message = found["choices"][0]["message"]
    ids = server.post(
        "/tokenize",
        {
            "messages": [{"role": "user", "content": "Once upon a time"}],
            "chat_template_kwargs": {"enable_thinking": True},
        },
    ).json["tokens"]
    assert (
        message["content"] == ""
        and message["reasoning_content"] == alone(model, ids, max_tokens=8, seed=1).text
    )
    assert found["usage"]["completion_tokens_details"] == {"reasoning_tokens": 8}
    plain = server.chat(max_tokens=8, seed=1, think=False).json
    assert "reasoning_content" not in plain["choices"][0]["message"]
    assert plain["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
    events = server.chat(max_tokens=8, seed=1, reasoning_effort="low", stream=True).events
    told = "".join(event["choices"][0]["delta"].get("reasoning_content", "") for event in events[:-1])
    assert told == message["reasoning_content"]
    said = server.post(
        "/v1/messages",
        {
            "messages": [{"role": "user", "content": "Once upon a time"}],
            "max_tokens": 8,
            "seed": 1,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
    ).json["content"]
    assert said == [{"type": "thinking", "thinking": told, "signature": ""}]


def test_a_seed_is_told_and_draws_the_same_again(live: Live) -> None:
    first = live.complete(max_tokens=8).json
    again = live.complete(max_tokens=8, seed=first["seed"]).json
    assert first["choices"] == again["choices"]
    assert live.complete(max_tokens=1, seed=-1).json["seed"] >= 0
    big = 2**63 - 1
    assert live.complete(max_tokens=1, seed=big).json["seed"] == big


SCHEDULES = 40


@pytest.mark.parametrize("n", range(4))
def test_the_same_tokens_whatever_else_runs(start: Start, model: Any, n: int) -> None:
    """P1: random requests at once, some of which are left, say what each says alone.
    EDGEQ_TEST_SCHEDULES says how many schedules."""
    import os

    count = int(os.environ.get("EDGEQ_TEST_SCHEDULES", SCHEDULES))
    server = start(parallel=(1, 3, 4, 8)[n], queue=200)
    for number in range(n, count, 4):
        rng = random.Random(number)
        asked = [request_of(rng, model) for _ in range(rng.randint(2, 8))]
        with ThreadPoolExecutor(len(asked)) as pool:
            answers = list(pool.map(lambda body: ask(server, body), asked))
        for body, ids in zip(asked, answers, strict=True):
            if ids is not None:
                assert ids == wanted_of(model, body), (number, body)
    server.wait_idle()


def request_of(rng: random.Random, model: Any) -> dict[str, Any]:
    words = ["Once", " upon", " a", " time", " Tom", " was", " happy", ".", " The", " dog"]
    prompt = model.tokenizer.encode("".join(rng.choices(words, k=rng.choice([1, 3, 12, 60, 150]))))
    body: dict[str, Any] = {
        "prompt": prompt,
        "max_tokens": rng.choice([1, 5, 20, 60]),
        "seed": rng.randrange(2**40),
        "temperature": rng.choice([0, 0.7, 1.2]),
        "n": rng.choice([1, 1, 1, 2]),
        "stream": rng.random() < 0.5,
        "cache_prompt": rng.random() < 0.8,
        "logprobs": rng.choice([0, 0, 2]),
    }
    if rng.random() < 0.2:
        body["leave"] = rng.choice([0, 100, 3000])
    return body


def ask(server: Live, body: dict[str, Any]) -> list[list[str]] | None:
    """The tokens of each text; None of a request that was left."""
    sent = {name: value for name, value in body.items() if name != "leave"}
    if "leave" in body:
        with server.begin("/v1/completions", sent) as connection:
            if body["leave"]:
                connection.recv(body["leave"])
        return None
    response = server.post("/v1/completions", sent)
    assert response.status == 200, response.body
    texts: list[list[str]] = [[] for _ in range(body["n"])]
    for event in response.events[:-1] if body["stream"] else [response.json]:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["logprobs"]["tokens"]
    return texts


def wanted_of(model: Any, body: dict[str, Any]) -> list[list[str]]:
    texts = []
    for n in range(body["n"]):
        result = alone(
            model,
            body["prompt"],
            max_tokens=body["max_tokens"],
            seed=body["seed"] + n,
            temperature=float(body["temperature"]),
        )
        ids = [*result.ids, *([model.tokenizer.eos_id] if result.finish_reason == "eos" else [])]
        texts.append([model.tokenizer.token(id).decode("utf-8", "replace") for id in ids])
    return texts


def test_an_assistants_last_message_is_continued_where_that_is_asked_for(live: Live, model: Any) -> None:
    begun = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Once upon "}]
    asked = {"messages": begun, "max_tokens": 12, "seed": 2, "continue_final_message": True}
    choice = live.post("/v1/chat/completions", asked).json["choices"][0]
    ids = live.post("/tokenize", {"messages": begun[:1]}).json["tokens"]
    ids += model.tokenizer.encode("Once upon ", add_bos=False)
    assert (
        choice["message"]["content"] == live.complete(ids, max_tokens=12, seed=2).json["choices"][0]["text"]
    )
    finished = live.post("/v1/chat/completions", {**asked, "continue_final_message": False})
    assert finished.json["usage"]["prompt_tokens"] > len(ids)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, "not an assistant's"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "no text that could be continued"),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]}, "not an assistant's"),
        ({"add_generation_prompt": True}, "are both true"),
        ({"response_format": {"type": "json_object"}}, "from its beginning"),
        ({"guided_regex": "a+"}, "from its beginning"),
        ({"tool_choice": "required", "tools": [{"function": {"name": "f"}}]}, "from its beginning"),
        ({"chat_template_kwargs": {"continue_final_message": True}}, "edgeq sets it"),
    ],
)
def test_what_is_not_continued(live: Live, fields: dict[str, Any], words: str) -> None:
    said = [{"role": "assistant", "content": "Once"}]
    response = live.post("/v1/chat/completions", {"messages": said, "continue_final_message": True, **fields})
    assert response.status == 400 and words in response.error["message"]
