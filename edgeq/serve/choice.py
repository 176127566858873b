"""One text of an answer as it grows, and what dialects tell of it in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.generate import BatchGeneration
from edgeq.generate.logprobs import TokenLogprob, TopLogprob
from edgeq.serve.request import Event
from edgeq.serve.structure import CALL, CONTENT, REASONING, Delta, Parser

REASONS = {"eos": "stop", "stop": "stop", "length": "length"}


class Choice:
    """A text: what was said so far, by kind, and the tokens that are not told yet."""

    def __init__(self, index: int, generation: BatchGeneration, parser: Parser) -> None:
        self.index, self.generation = index, generation
        self.said = {CONTENT: "", REASONING: ""}
        self.calls: list[dict[str, Any]] = []  # of tools, as OpenAI writes them
        self.tokens = self.thought_tokens = 0
        self._kind = CONTENT  # of what was said last
        self.echoed = False  # whether its prompt was told before it
        self.over = False
        self._parser = parser

    def take(self, event: Event) -> tuple[list[Delta], list[TokenLogprob]]:
        """The parts that an event adds, and the likelihoods of its tokens."""
        deltas: list[Delta] = []
        for piece in event.pieces:
            found = self._parser.push(str(piece), [] if piece.id is None else [piece.id])
            deltas += found
            if found:
                self._kind = found[-1].kind
            self.tokens += piece.id is not None
            self.thought_tokens += piece.id is not None and self._kind == REASONING
        deltas = merged(deltas)
        if event.over:
            self.over = True
            deltas = merged([*deltas, *self._parser.flush()])
        for delta in deltas:
            if delta.call is None:
                self.said[delta.kind] += delta.text
            elif delta.call.name is not None:
                function = {"name": delta.call.name, "arguments": ""}
                self.calls.append({"id": delta.call.id, "type": "function", "function": function})
            else:
                self.calls[-1]["function"]["arguments"] += delta.call.arguments
        return deltas, [piece.logprob for piece in event.pieces if piece.logprob is not None]

    @property
    def finish_reason(self) -> str:
        """OpenAI's word for how it ended."""
        reason = REASONS.get(self.generation.finish_reason or "", "stop")
        return "tool_calls" if self.calls and reason == "stop" else reason


def merged(deltas: list[Delta]) -> list[Delta]:
    """Neighbours of one kind as one."""
    found: list[Delta] = []
    for delta in deltas:
        if found and found[-1].kind == delta.kind != CALL:
            found[-1] = Delta(delta.kind, found[-1].text + delta.text)
        else:
            found.append(delta)
    return found


def usage_of(choices: Sequence[Choice], prompts: int = 1) -> dict[str, Any]:
    """Tokens of all texts. Those that go on from one prompt share it: it counts once.

    prompts: how many there are, each with as many texts."""
    each = len(choices) // prompts
    firsts = [choices[n * each].generation.usage for n in range(prompts)]
    prompt, cached = sum(u.prompt_tokens for u in firsts), sum(u.cached_tokens for u in firsts)
    completion = sum(choice.generation.usage.completion_tokens for choice in choices)
    thoughts = sum(choice.thought_tokens for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def timings_of(generation: BatchGeneration) -> dict[str, Any]:
    """llama-server's words for how long it took."""
    times, usage = generation.timings, generation.usage
    prompt_ms, predicted_ms = 1000 * times.prompt_seconds, 1000 * times.generate_seconds
    computed, drawn = times.prompt_tokens, times.generated_tokens
    told = {
        "cache_n": usage.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_token_ms": round(prompt_ms / computed, 3) if computed else 0.0,
        "prompt_per_second": round(times.prompt_tokens_per_second, 3),
        "predicted_n": drawn,
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_token_ms": round(predicted_ms / drawn, 3) if drawn else 0.0,
        "predicted_per_second": round(times.generated_tokens_per_second, 3),
    }
    if times.draft_tokens:
        told |= {"draft_n": times.draft_tokens, "draft_n_accepted": times.accepted_tokens}
    return told


def token_json(served: Any, token: TokenLogprob) -> dict[str, Any]:
    """A token of a chat's answer: its text and bytes, how likely it was, and which were likelier."""

    def one(each: TopLogprob) -> dict[str, Any]:
        data = served.tokenizer.token(each.id)
        return {"token": each.text, "logprob": each.logprob, "bytes": list(data)}

    return {**one(token), "top_logprobs": [one(each) for each in token.top]}
