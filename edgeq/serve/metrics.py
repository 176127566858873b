"""What Prometheus is told. Counters are plain numbers until somebody asks: only then is the library imported.

Labels are closed sets, whatever clients send.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# that clients are known to send; any other is "other"
FIELDS = frozenset(
    ["n_probs", "id_slot", "ignore_eos", "min_tokens", "keep_alive", "options", "guided_choice", "strict"]
    + ["truncate_prompt_tokens", "skip_special_tokens", "length_penalty", "use_beam_search", "priority"]
)

HISTOGRAMS = {
    "edgeq_time_to_first_token_seconds": (SECONDS, "From a request's arrival to its first token."),
    "edgeq_inter_token_seconds": (SECONDS, "Between the tokens of a text, on average over it."),
    "edgeq_queue_seconds": (SECONDS, "From a request's arrival to the first step it has a part in."),
    "edgeq_step_seconds": (SECONDS, "Of one step of the model."),
    "edgeq_step_texts": (ROWS, "Texts that have a part in one step."),
}
COUNTERS = {
    "edgeq_prompt_tokens": "Tokens of prompts, those that were known among them.",
    "edgeq_cached_tokens": "Tokens of prompts that were known.",
    "edgeq_generated_tokens": "Tokens drawn.",
    "edgeq_draft_tokens": "Tokens guessed, with --draft.",
    "edgeq_accepted_tokens": "Tokens guessed that came true, a pass saved each.",
    "edgeq_prompt_seconds": "Seconds of passes over prompts.",
    "edgeq_generate_seconds": "Seconds of passes that draw tokens.",
}
LABELLED = {
    "edgeq_requests": (("endpoint", "status"), "Requests answered."),
    "edgeq_queue_rejected": (("reason",), "Requests turned away."),
    "edgeq_cancelled": (("phase",), "Requests whose client left."),
    "edgeq_ignored_fields": (("field",), "Fields of requests that nobody looks at."),
}


class Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        found, total = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class Numbers:
    """Those of one model. `gauges` (name → help, a function) are asked when somebody asks."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.histograms = {name: Histogram(bounds) for name, (bounds, _) in HISTOGRAMS.items()}
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.info: dict[str, str] = {}

    def step(self, seconds: float, texts: int) -> None:
        self.histograms["edgeq_step_seconds"].observe(seconds)
        self.histograms["edgeq_step_texts"].observe(texts)

    def ended(self, generations: Iterable[Any]) -> None:
        """Texts whose request is over."""
        for generation in generations:
            usage, times = generation.usage, generation.timings
            self.counters["edgeq_prompt_tokens"] += usage.prompt_tokens
            self.counters["edgeq_cached_tokens"] += usage.cached_tokens
            self.counters["edgeq_generated_tokens"] += usage.completion_tokens
            self.counters["edgeq_draft_tokens"] += times.draft_tokens
            self.counters["edgeq_accepted_tokens"] += times.accepted_tokens
            self.counters["edgeq_prompt_seconds"] += times.prompt_seconds
            self.counters["edgeq_generate_seconds"] += times.generate_seconds
            if times.decode_passes:
                mean = times.generate_seconds / times.decode_passes
                self.histograms["edgeq_inter_token_seconds"].observe(mean)


class Metrics:
    """Numbers of one server, and of each of its models; of several these have the label `model`."""

    def __init__(self) -> None:
        self.labelled: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in LABELLED}
        self.models: dict[str, Numbers] = {}

    def of(self, model: str) -> Numbers:
        return self.models.setdefault(model, Numbers())

    def count(self, name: str, *labels: str) -> None:
        self.labelled[name][labels] += 1

    def ignored(self, names: Iterable[str]) -> None:
        for name in names:
            self.count("edgeq_ignored_fields", name if name in FIELDS else "other")

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> Iterator[Any]:
        """As prometheus_client asks a collector."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        for name, (labels, help) in LABELLED.items():
            family = CounterMetricFamily(name, help, labels=labels)
            for values, count in list(self.labelled[name].items()):
                family.add_metric(values, count)
            yield family
        models = dict(self.models)
        by = ("model",) if len(models) > 1 else ()

        def named(model: str) -> list[str]:
            return [model] if by else []

        for name, help in COUNTERS.items():
            counter = CounterMetricFamily(name, help, labels=by)
            for model, numbers in models.items():
                counter.add_metric(named(model), numbers.counters[name])
            yield counter
        for name, (_, help) in HISTOGRAMS.items():
            buckets = HistogramMetricFamily(name, help, labels=by)
            for model, numbers in models.items():
                histogram = numbers.histograms[name]
                buckets.add_metric(named(model), histogram.buckets(), histogram.sum)
            yield buckets
        gauges: dict[str, Any] = {}
        for model, numbers in models.items():
            for name, (help, ask) in numbers.gauges.items():
                gauge = gauges.setdefault(name, GaugeMetricFamily(name, help, labels=by))
                gauge.add_metric(named(model), ask())
        yield from gauges.values()
        build = InfoMetricFamily("edgeq_build", "What is served.", labels=())
        for numbers in models.values():
            build.add_metric((), numbers.info)
        yield build
