"""From a prompt to a stream of text: `stream` is the loop of forward pass, sampler and decoder.

A model is anything with the shape of `LanguageModel`: this module speaks token ids to it and knows nothing of
files, kernels or commands.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq import arguments
from edgeq.arguments import is_int
from edgeq.errors import CancelledError, FormatError, UsageError, shown
from edgeq.ownership import Line, Turn, Unique
from edgeq.sampling import Sampler, SamplingOptions, check_option


class TokenSequence(Protocol):
    """Token ids and what the model keeps of them (its own KV cache)."""

    @property
    def ids(self) -> list[int]: ...
    def feed(
        self, ids: Sequence[int], *, all_logits: bool = False, progress: Callable[..., Any] | None = None
    ) -> NDArray[np.float32]: ...
    def step(
        self,
        ids: Sequence[int],
        *,
        progress: Callable[..., Any] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[NDArray[np.float32], int]: ...
    def truncate(self, n: int) -> None: ...
    def close(self) -> None: ...


class LanguageModel(Protocol):
    """What generation and evaluation ask of a model."""

    @property
    def context(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def file(self) -> Any: ...
    def sequence(self) -> TokenSequence: ...


@dataclass
class Timings:
    """Seconds and tokens of one generation; the time a caller holds a piece is not counted.

    `prompt_seconds` is the pass over the prompt. `generate_seconds` is everything after it: sampling,
    decoding and one forward pass for each of `decode_passes` tokens (the first token comes out of the
    prompt's pass).
    """

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    generated_tokens: int = 0
    generate_seconds: float = 0.0
    decode_passes: int = 0
    first_token_seconds: float = 0.0
    load_seconds: float | None = None

    @property
    def prompt_tokens_per_second(self) -> float:
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds > 0 else 0.0

    @property
    def generated_tokens_per_second(self) -> float:
        """Forward passes of one token in a second, 0 before the second token."""
        return self.decode_passes / self.generate_seconds if self.generate_seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """All fields, and the two rates."""
        return {
            **asdict(self),
            "prompt_tokens_per_second": self.prompt_tokens_per_second,
            "generated_tokens_per_second": self.generated_tokens_per_second,
        }


class StopStrings:
    """Lets text through until one of the stop strings is complete.

    What was pushed and could still become a stop string is held back, so no part of one is ever let through.
    The string that is complete first counts (of two complete at once, the longer), so the result does not
    depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that may be shown now. After a stop string was found, always empty."""
        if self.found is not None:
            return ""
        held = self._held + text
        ends = [(start + len(stop), start, stop) for stop in self._stops if (start := held.find(stop)) >= 0]
        if ends:
            _, start, self.found = min(ends)
            self._held = ""
            return held[:start]
        keep = max((overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """The text held back, when no more will come."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class Generation(Unique, Iterator[str]):
    """An iterator over pieces of text; also a context manager. One call at a time: another that comes
    meanwhile, from wherever, is refused with UsageError.

    `prompt_ids` went in; `ids` are the tokens that came out, without the end token; `text` is what was
    yielded so far, the decoded ids up to a stop string. `finish_reason` is "eos" (end token), "stop" (stop
    string), "length" (max_tokens or the context's end), "cancelled" (by `cancel`), or None while it runs and
    when it was broken off. `seed` draws the same tokens again. Pieces may be empty (a token that ends inside
    a character or a possible stop string). An exception, KeyboardInterrupt included, ends the iteration and
    leaves all of these as they were; `close` ends it early.
    """

    def __init__(
        self, model: LanguageModel, prompt_ids: list[int], sampler: Sampler, timings: Timings
    ) -> None:
        self._begin()
        self._calls = Line()
        self.model = model
        self.prompt_ids = prompt_ids
        self.ids: list[int] = []
        self.finish_reason: str | None = None
        self.stop_string: str | None = None
        self.timings = timings
        self.seed = sampler.seed
        self._sampler = sampler
        self._pieces: list[str] = []
        self._cancelled = False
        self._run: Generator[str, None, None] = _nothing()

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def over(self) -> bool:
        """Whether no piece will come any more."""
        return inspect.getgeneratorstate(self._run) == inspect.GEN_CLOSED

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> str:
        turn = Turn("the generation is at work")
        try:
            self._calls.claim(turn, "go on")
            if self._vanished():
                raise UsageError(
                    "the generation was at work in a thread that this process, made by fork, does not have, "
                    "so it cannot go on here."
                )
            return next(self._run)
        finally:
            turn.over = True

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self) -> None:
        """Let the iteration end soon, within a pass under way too. May come from any thread, a callback or a
        signal's handler; when it has ended, there is nothing to cancel."""
        self._cancelled = True

    def close(self) -> None:
        """End the generation and free its cache, unless the sequence was the caller's."""
        turn = Turn("the generation is being closed")
        try:
            self._calls.claim(turn, "be closed")
            if self._vanished():
                self._run = _nothing()
            self._run.close()
        finally:
            turn.over = True

    def _step(
        self,
        sequence: TokenSequence,
        ids: Sequence[int],
        progress: Callable[..., Any] | None = None,
    ) -> tuple[NDArray[np.float32], int]:
        """The sequence's; CancelledError once `cancel` was called."""
        if self._cancelled:
            raise CancelledError("the generation was cancelled")
        return sequence.step(ids, progress=progress, cancelled=lambda: self._cancelled)

    def _vanished(self) -> bool:
        """Whether, though nobody else has the turn, it is at work: its thread vanished in a `fork`."""
        return inspect.getgeneratorstate(self._run) == inspect.GEN_RUNNING


def _nothing() -> Generator[str, None, None]:
    yield from ()


def stream(
    model: LanguageModel,
    prompt: str | Sequence[int],
    *,
    sequence: TokenSequence | None = None,
    options: SamplingOptions | None = None,
    max_tokens: int | None = None,
    stop: str | Sequence[str] = (),
    ignore_eos: bool = False,
    special: bool = False,
    progress: Callable[..., Any] | None = None,
    **sampling: Any,
) -> Generation:
    """Generate text after `prompt`; the work begins with the first piece asked for.

    - prompt: text, encoded with the tokenizer (special=True lets the names of special tokens in it be those
      tokens), or token ids as they are.
    - sequence: go on after what it holds and keep it; else one is made and closed.
    - options: the SamplingOptions; or any of their fields as keywords, and `options_for` finds the rest.
    - max_tokens: None or -1 goes on to the end token or the end of the context.
    - stop: end before any of these strings. ignore_eos: never draw an end token.
    - progress: handed to the sequence's `feed` of the prompt.

    Raises UsageError for a value outside what it accepts and for a prompt that does not fit the context.
    """
    arguments.callback("progress", progress)
    if not isinstance(options, SamplingOptions | None):
        raise UsageError(f"options are {shown(options)}, but must be SamplingOptions")
    stops = check_stops(stop, model)
    if max_tokens is not None and (not is_int(max_tokens) or max_tokens < -1):
        raise UsageError(
            f"max_tokens is {shown(max_tokens)}, but must be a whole number of at least 0, or -1 for no limit"
        )
    limit = math.inf if max_tokens is None or max_tokens < 0 else int(max_tokens)
    if sequence is not None and not hasattr(sequence, "step"):
        raise UsageError(f"sequence is {shown(sequence)}, but must be one that the model made")
    before = list(sequence.ids) if sequence is not None else []
    prompt_ids = encode(model, prompt, first=not before, special=special, most=model.context)
    if len(before) + len(prompt_ids) > model.context:
        raise UsageError(
            f"the prompt has {len(prompt_ids)} tokens{f' after {len(before)}' if before else ''}, "
            f"but the context holds {model.context}"
        )
    if options is not None and sampling:
        raise UsageError(f"{min(sampling)} is given besides options, but only one of the two can count")
    sampler = Sampler(options if options is not None else options_for(model, **sampling))
    timings = Timings(prompt_tokens=len(prompt_ids), load_seconds=getattr(model, "load_seconds", None))
    generation = Generation(model, prompt_ids, sampler, timings)
    generation._run = _run(generation, sequence, before, limit, stops, eos_ids(model), ignore_eos, progress)
    return generation


def _run(
    generation: Generation,
    given: TokenSequence | None,
    history: list[int],
    limit: float,
    stops: StopStrings,
    ends: frozenset[int],
    ignore_eos: bool,
    progress: Callable[..., Any] | None,
) -> Generator[str, None, None]:
    """The loop. The clock stands still at every yield; the sequence is closed at the end unless given."""
    model, times, sampler = generation.model, generation.timings, generation._sampler
    decoder = model.tokenizer.stream() if model.tokenizer is not None else None
    banned, ends = (ends, frozenset()) if ignore_eos else (frozenset(), ends)
    plain = sampler.options.greedy and not sampler.options.penalizes and not banned
    sequence = given if given is not None else model.sequence()
    try:
        start = time.perf_counter()
        logits, likeliest = generation._step(sequence, generation.prompt_ids, progress)
        history += generation.prompt_ids
        times.prompt_seconds = time.perf_counter() - start
        while len(generation.ids) < limit:
            start = time.perf_counter()
            if generation.ids:
                if len(history) > model.context:
                    break
                logits, likeliest = generation._step(sequence, history[-1:])
                times.decode_passes += 1
            token = likeliest if plain else -1
            if token < 0:  # a sampler's choice, or its word on logits that are not finite
                token = sampler(logits, history, banned=banned)
            if token in ends:
                generation.finish_reason = "eos"
                times.generate_seconds += time.perf_counter() - start
                break
            generation.ids.append(token)
            history.append(token)
            piece = stops.push(decoder.push(token)) if decoder is not None else ""
            generation._pieces.append(piece)
            took = time.perf_counter() - start
            times.generate_seconds += took
            times.generated_tokens += 1
            if times.generated_tokens == 1:
                times.first_token_seconds = times.prompt_seconds + took
            if stops.found is not None:
                generation.finish_reason, generation.stop_string = "stop", stops.found
                yield piece
                return
            yield piece
        rest = (stops.push(decoder.flush()) if decoder is not None else "") + stops.flush()
        if stops.found is not None:
            generation.finish_reason, generation.stop_string = "stop", stops.found
        generation.finish_reason = generation.finish_reason or "length"
        if rest:
            generation._pieces.append(rest)
            yield rest
    except CancelledError:
        generation.finish_reason = "cancelled"
    finally:
        if given is None:
            sequence.close()


def keywords(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `stream` among `options`: what is None is as if it were not there."""
    return {name: value for name, value in options.items() if value is not None}


# the file's words for the options it may set, the first that is present counts
FILE_NAMES: dict[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
}


def options_for(model: LanguageModel, **explicit: Any) -> SamplingOptions:
    """SamplingOptions from the explicit values that are not None, then the model file's, then the defaults.

    A file that says `do_sample: false` asks for the likeliest: its temperature is 0, whatever else it says.
    Raises UsageError for an explicit value out of range or an unknown name, FormatError for such a value in
    the file.
    """
    unknown = sorted(set(explicit) - set(SamplingOptions.__dataclass_fields__))
    if unknown:
        known = ", ".join(SamplingOptions.__dataclass_fields__)
        raise UsageError(f"{unknown[0]!r} is no sampling option: the options are {known}")
    values = {name: value for name, value in explicit.items() if value is not None}
    defaults = file_defaults(model)
    if defaults.get("do_sample") is False:
        values.setdefault("temperature", 0.0)
    for name, words in FILE_NAMES.items():
        word = next((word for word in words if defaults.get(word) is not None), None)
        if name in values or word is None:
            continue
        try:
            check_option(name, defaults[word])
        except UsageError as error:
            raise FormatError(f"the model file's generation defaults are wrong: {error}") from None
        values[name] = defaults[word]
    return SamplingOptions(**values)


def file_defaults(model: LanguageModel) -> dict[str, Any]:
    """The "generation" object of the model file's header; empty where there is none."""
    defaults = model.file.header.get("generation") or {}
    if not isinstance(defaults, dict):
        raise FormatError(f'the model file\'s "generation" is {defaults!r}, but must be an object')
    return defaults


def eos_ids(model: LanguageModel) -> frozenset[int]:
    """Every id that ends a text: the tokenizer's and those of the model file's generation defaults.

    An id outside the vocabulary is left out: it ends nothing, since it is never drawn.
    """
    known = frozenset(model.tokenizer.eos_ids) if model.tokenizer is not None else frozenset()
    listed = file_defaults(model).get("eos_token_id")
    ids = listed if isinstance(listed, list) else [] if listed is None else [listed]
    for id in ids:
        if not is_int(id) or id < 0:
            raise FormatError(
                f"the model file's generation.eos_token_id is {ascii(id):.40}, but must be a token id"
            )
    return frozenset(id for id in known.union(ids) if id < model.vocab_size)


def encode(
    model: LanguageModel,
    prompt: str | Sequence[int],
    *,
    first: bool = True,
    special: bool = False,
    most: int | None = None,
) -> list[int]:
    """The prompt's token ids, checked; a text at the beginning of a sequence begins as the tokenizer says
    (BOS).

    Raises UsageError when there is no tokenizer for a text, no token at all, an id outside the vocabulary, or
    more than `most` ids are given.
    """
    if isinstance(prompt, str):
        if model.tokenizer is None:
            raise UsageError("the model file holds no tokenizer, so the prompt must be token ids")
        prompt, most = model.tokenizer.encode(prompt, add_bos=None if first else False, special=special), None
        if not prompt:
            raise UsageError("the prompt is empty, but generation needs at least one token to begin with")
    listed: list[int] = arguments.token_ids(prompt, model.vocab_size, most).tolist()
    return listed


def remaining(sequence: TokenSequence, ids: Sequence[int]) -> list[int]:
    """Keep what `sequence` holds of `ids` from their beginning, forget the rest, and return the ids left to
    feed.

    At least one id is left, since the next token's logits come out of feeding it.
    """
    held = list(sequence.ids)
    keep = max(0, min(alike(held, ids), len(ids) - 1))
    if keep < len(held):
        sequence.truncate(keep)
    return list(ids[keep:])


def alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids of the two are the same from the beginning."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def check_stops(stop: str | Sequence[str], model: LanguageModel) -> StopStrings:
    """The stop strings, checked: each a text that is not empty, and a tokenizer to find them with."""
    if not isinstance(stop, str) and not arguments.is_sequence(stop):
        raise UsageError(f"stop is {shown(stop)}, but must be a text or a list of texts")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for each in stops:
        if not isinstance(each, str) or not each:
            raise UsageError(f"a stop string is {shown(each)}, but must be a text of at least one character")
    if stops and model.tokenizer is None:
        raise UsageError("the model file holds no tokenizer, so there is no text to find stop strings in")
    return StopStrings(stops)
