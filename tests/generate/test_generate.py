"""The generation loop on a model without weights."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import FormatError, UsageError
from edgeq.generate import Timings, eos_ids, keywords, options_for, remaining, stream
from edgeq.sampling import SamplingOptions
from tests.fake_model import BOS, BYTES, EOS, VOCAB, FakeModel, FakeSequence, script

GREEDY = SamplingOptions(temperature=0)


def say(text: str | bytes, **options: Any) -> tuple[FakeModel, Any, list[str]]:
    """A model that says `text` after the prompt "Hi", the generation and its pieces."""
    model = FakeModel(script=script(text), context=options.pop("context", 256))
    generation = stream(model, "Hi", options=GREEDY, **options)
    return model, generation, list(generation)


def test_text_ids_reason_and_timings() -> None:
    model, generation, pieces = say("story")
    assert "".join(pieces) == generation.text == "story"
    assert generation.ids == script("story") and generation.prompt_ids == [BOS, *script("Hi")]
    assert generation.finish_reason == "eos"
    assert model.fed == generation.prompt_ids + generation.ids
    times = generation.timings
    assert (times.prompt_tokens, times.generated_tokens, times.decode_passes) == (3, 5, 5)
    assert times.prompt_seconds > 0 and times.generate_seconds > 0
    assert times.prompt_seconds < times.first_token_seconds
    assert json.loads(json.dumps(times.to_json()))["generated_tokens_per_second"] > 0
    assert model.sequences[0].closed


@pytest.mark.parametrize(
    ("limit", "text", "reason"),
    [
        (0, "", "length"),
        (1, "s", "length"),
        (5, "story", "length"),
        (6, "story", "eos"),
        (-1, "story", "eos"),
        (None, "story", "eos"),
    ],
)
def test_max_tokens(limit: int | None, text: str, reason: str) -> None:
    model, generation, _ = say("story", max_tokens=limit)
    assert (generation.text, generation.finish_reason) == (text, reason)
    assert len(model.fed) == 3 + (
        5 if reason == "eos" else max(0, len(text) - 1)
    )  # the last token is not fed


def test_the_context_ends_the_generation() -> None:
    # 3 prompt tokens and 7 more fill the context; the token after them needs no place.
    model, generation, _ = say("x" * 100, context=10)
    assert generation.finish_reason == "length"
    assert generation.text == "x" * 8 and len(model.fed) == 10
    _, generation, _ = say("x" * 100, context=3)
    assert generation.text == "x"


def test_a_prompt_longer_than_the_context_is_refused_before_work() -> None:
    model = FakeModel(context=4)
    with pytest.raises(UsageError, match="5 tokens, but the context holds 4"):
        stream(model, "long")
    assert not model.sequences


def test_ignore_eos_never_draws_an_end_token() -> None:
    _, generation, _ = say("ab", ignore_eos=True, max_tokens=20)
    assert generation.finish_reason == "length" and len(generation.ids) == 20 and EOS not in generation.ids


@settings(max_examples=150)
@given(
    text=st.text(alphabet="ab\n<é中🙂", max_size=25),
    stops=st.lists(st.text(alphabet="ab\n<é中🙂", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_across_tokens_and_half_characters(text: str, stops: list[str]) -> None:
    """The byte tokenizer cuts every character that is not ASCII: no half may show, no stop string may begin
    to.
    """
    _, generation, pieces = say(text, stop=stops, context=1000)
    ends = sorted((text.index(stop) + len(stop), text.index(stop), stop) for stop in stops if stop in text)
    wanted = text[: ends[0][1]] if ends else text
    assert "".join(pieces) == generation.text == wanted
    assert generation.finish_reason == ("stop" if ends else "eos")
    assert generation.stop_string == (ends[0][2] if ends else None)
    assert "\ufffd" not in generation.text
    assert all(wanted.startswith("".join(pieces[: n + 1])) for n in range(len(pieces)))


def test_a_stop_string_that_only_began_is_shown_at_the_end() -> None:
    _, generation, pieces = say("one <en", stop="<end>")
    assert generation.text == "one <en" and pieces[-1] == "<en" and "<" not in "".join(pieces[:-1])
    _, generation, _ = say("one <en", stop="<end>", max_tokens=6)
    assert generation.text == "one <e" and generation.finish_reason == "length"


def test_the_reason_is_there_with_the_last_piece() -> None:
    model = FakeModel(script=script("one.two"))
    generation = stream(model, "Hi", options=GREEDY, stop=(".",))
    for piece in generation:
        if piece == "" and generation.finish_reason:
            break
    assert generation.finish_reason == "stop" and generation.stop_string == "." and generation.text == "one"


def test_an_incomplete_character_at_the_end() -> None:
    _, generation, _ = say("é中".encode()[:4])
    assert generation.text == "é\ufffd"
    _, generation, pieces = say("é", max_tokens=2)
    assert pieces == ["", "é"]


def test_an_interrupt_keeps_what_was_made_and_frees_the_cache() -> None:
    model = FakeModel(script=script("a long story"))
    generation = stream(model, "Hi", options=GREEDY)
    shown = [next(generation) for _ in range(3)]
    feed = FakeSequence.feed

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSequence, "feed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(generation)
    assert FakeSequence.feed is feed
    assert generation.text == "".join(shown) == "a l" and generation.ids == script("a l")
    assert generation.finish_reason is None and model.sequences[0].closed
    assert list(generation) == []


def test_closing_early_frees_the_cache_but_not_the_callers() -> None:
    model = FakeModel(script=script("a long story"))
    with stream(model, "Hi", options=GREEDY) as generation:
        next(generation)
    assert model.sequences[0].closed and generation.finish_reason is None
    own = model.sequence()
    with stream(model, "Hi", options=GREEDY, sequence=own) as generation:
        next(generation)
    assert not own.closed and own.ids == generation.prompt_ids
    unused = stream(model, "Hi", options=GREEDY)
    unused.close()
    assert len(model.sequences) == 2 and list(unused) == []


def test_a_sequence_goes_on_without_another_bos_and_its_tokens_count_for_penalties() -> None:
    model = FakeModel()
    own = model.sequence()
    own.feed([BOS, *script("Once")])
    generation = stream(model, " upon", options=GREEDY, sequence=own, max_tokens=4)
    list(generation)
    assert generation.prompt_ids == script(" upon")
    whole = stream(model, "Once upon", options=GREEDY, max_tokens=4)
    list(whole)
    assert whole.ids == generation.ids
    logits = model.next_logits([BOS, *script("Once upon")])
    favourite = int(np.argmax(logits))
    options = SamplingOptions(temperature=0, presence_penalty=100, repeat_last_n=-1)
    held = model.sequence()
    held.feed([favourite, *script("Once")])
    first = stream(model, " upon", options=options, sequence=held, max_tokens=1)
    list(first)
    assert first.ids and first.ids[0] != favourite


def test_the_same_seed_tells_the_same_story() -> None:
    model = FakeModel()

    def ids(seed: int | None) -> tuple[list[int], int]:
        generation = stream(model, "Hi", options=SamplingOptions(seed=seed), max_tokens=30, ignore_eos=True)
        list(generation)
        return generation.ids, generation.seed

    assert ids(1) == ids(1) and ids(1)[0] != ids(2)[0]
    story, seed = ids(None)
    assert ids(seed)[0] == story


def test_a_model_without_tokenizer_speaks_ids() -> None:
    model = FakeModel(script=script("ab"))
    model.tokenizer = None
    model.file.header["generation"] = {"eos_token_id": EOS}
    prompt: list[Any] = [5, np.int64(6)]
    generation = stream(model, prompt, options=GREEDY)
    assert list(generation) == ["", ""]
    assert (
        generation.ids == script("ab")
        and generation.finish_reason == "eos"
        and generation.prompt_ids == [5, 6]
    )
    with pytest.raises(UsageError, match="no tokenizer"):
        stream(model, "Hi")
    with pytest.raises(UsageError, match="no tokenizer"):
        stream(model, [5], stop=("x",))


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        ([], {}, "empty"),
        ([VOCAB], {}, f"token id {VOCAB} is outside"),
        ([-1], {}, "token id -1"),
        ([True], {}, "hold True"),
        ([1.5], {}, "hold 1.5"),
        ("Hi", {"max_tokens": -2}, "max_tokens is -2"),
        ("Hi", {"max_tokens": 2.0}, "max_tokens is 2.0"),
        ("Hi", {"stop": ("a", "")}, "stop string is ''"),
        ("Hi", {"stop": (3,)}, "stop string is 3"),
    ],
)
def test_wrong_values_are_one_sentence_at_once(prompt: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        stream(FakeModel(), prompt, **options)


def test_options_explicit_then_file_then_default() -> None:
    model = FakeModel()
    model.file.header["generation"] = {
        "temperature": 0.6,
        "top_k": 20,
        "repetition_penalty": 1.1,
        "top_p": None,
        "other": [],
    }
    options = options_for(model, top_k=5, seed=3, min_p=None)
    assert options == SamplingOptions(temperature=0.6, top_k=5, repeat_penalty=1.1, seed=3)
    assert stream(model, "Hi", top_k=5, seed=3, min_p=None)._sampler.options == options
    assert keywords({"top_k": 0, "min_p": None}) == {"top_k": 0}
    with pytest.raises(UsageError, match="top_k is given besides options"):
        stream(model, "Hi", options=GREEDY, top_k=5)
    with pytest.raises(UsageError, match="'tempratur' is no sampling option"):
        stream(model, "Hi", tempratur=1)
    for bad in (
        {"temperature": "hot"},
        {"top_p": 7},
        {"top_k": 1.5},
        {"eos_token_id": -1},
        {"eos_token_id": ["x"]},
        [1],
    ):
        model.file.header["generation"] = bad
        with pytest.raises(FormatError, match="the model file's"):
            stream(model, "Hi")
    model.file.header["generation"] = {"temperature": "hot"}
    assert options_for(model, temperature=0).greedy


@pytest.mark.parametrize(
    ("words", "explicit", "temperature"),
    [
        ({"do_sample": False}, {}, 0),
        ({"do_sample": False, "temperature": 0.6, "top_k": 20}, {}, 0),
        ({"do_sample": False, "temperature": 0.6}, {"temperature": 0.5}, 0.5),
        ({"do_sample": False}, {"top_k": 3}, 0),
        ({"do_sample": True, "temperature": 0.6}, {}, 0.6),
        ({"do_sample": None, "temperature": 0.6}, {}, 0.6),
        ({"do_sample": 0}, {}, SamplingOptions().temperature),
    ],
)
def test_a_file_that_does_not_sample(
    words: dict[str, Any], explicit: dict[str, Any], temperature: float
) -> None:
    """do_sample false means greedy, unless a temperature is asked for."""
    model = FakeModel()
    model.file.header["generation"] = words
    options = options_for(model, **explicit)
    assert options.temperature == temperature and options.greedy is (temperature == 0)
    assert stream(model, "Hi", **explicit)._sampler.options.temperature == temperature


def test_end_tokens_of_the_file_count() -> None:
    model = FakeModel(script=script("ab.cd"))
    model.file.header["generation"] = {"eos_token_id": [EOS, BYTES + ord("."), VOCAB]}
    assert eos_ids(model) == {EOS, BYTES + ord(".")}
    generation = stream(model, "Hi", options=GREEDY)
    assert "".join(generation) == "ab" and generation.finish_reason == "eos"


@pytest.mark.parametrize(
    ("held", "ids", "kept"),
    [
        ([], [1, 2], 0),
        ([1, 2, 3], [1, 2, 3, 4], 3),
        ([1, 2, 3], [1, 2, 3], 2),
        ([1, 2, 3], [1, 9], 1),
        ([5], [1], 0),
        ([1, 2, 3, 4], [1, 2], 1),
        ([1], [], 0),
    ],
)
def test_remaining_keeps_the_common_beginning(held: list[int], ids: list[int], kept: int) -> None:
    sequence = FakeModel().sequence()
    if held:
        sequence.feed(held)
    assert remaining(sequence, ids) == ids[kept:]
    assert sequence.ids == held[:kept]


def test_rates_of_nothing_are_zero() -> None:
    times = Timings()
    assert times.prompt_tokens_per_second == times.generated_tokens_per_second == 0
