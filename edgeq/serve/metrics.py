"""What Prometheus is told. Counters are plain numbers until somebody asks: only then is the library imported.

Labels are closed sets, whatever clients send.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.serve.worker import Step

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
MASKS = (0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.02, 0.1)
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
    "edgeq_step_rows": (ROWS, "Tokens in the pass of one step."),
    "edgeq_sample_seconds": (SECONDS, "Of drawing all texts' tokens in one step, masks among it."),
    "edgeq_grammar_compile_seconds": (SECONDS, "Of making a form or tools ready, compiled or known."),
    "edgeq_mask_seconds": (MASKS, "Of one mask of one text's next token."),
}
COUNTERS = {
    "edgeq_prompt_tokens": "Tokens of prompts, those that were known among them.",
    "edgeq_cached_tokens": "Tokens of prompts that were known.",
    "edgeq_generated_tokens": "Tokens drawn.",
    "edgeq_preempted": "Texts that gave their pages back, since the system had no memory, and began anew.",
    "edgeq_draft_tokens": "Tokens guessed, with --draft.",
    "edgeq_accepted_tokens": "Tokens guessed that came true, a pass saved each.",
    "edgeq_prompt_seconds": "Seconds of passes over prompts.",
    "edgeq_generate_seconds": "Seconds of passes that draw tokens.",
}
LABELLED = {
    "edgeq_structured_failed": ((), "Answers that broke off because they could not have their form."),
    "edgeq_requests": (("endpoint", "status"), "Requests answered."),
    "edgeq_queue_rejected": (("reason",), "Requests turned away."),
    "edgeq_cancelled": (("phase",), "Requests whose client left."),
    "edgeq_ignored_fields": (("field",), "Fields of requests that nobody looks at."),
}


class Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Any thread."""
        with self._lock:
            self.counts[bisect_left(self.bounds, value)] += 1
            self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        found, total = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class Numbers:
    """Those of one model. `gauges` are asked when somebody asks; a function that gives several numbers gives
    them by their `state`. So are `counted`, which never become less."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.histograms = {name: Histogram(bounds) for name, (bounds, _) in HISTOGRAMS.items()}
        self.gauges: dict[str, tuple[str, Callable[[], float | dict[str, float]]]] = {}
        self.counted: dict[str, Callable[[], float]] = {}
        self.info: dict[str, str] = {}

    def step(self, step: Step) -> None:
        self.histograms["edgeq_step_seconds"].observe(step.seconds)
        self.histograms["edgeq_step_texts"].observe(step.texts)
        if step.rows:
            self.histograms["edgeq_step_rows"].observe(step.rows)
            self.histograms["edgeq_sample_seconds"].observe(step.draw_seconds)

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
        self.connections: Callable[[], float] = lambda: 0

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
            if not labels:
                family.add_metric((), self.labelled[name][()])
                yield family
                continue
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
                asked = numbers.counted.get(name)
                counter.add_metric(named(model), numbers.counters[name] if asked is None else asked())
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
                value = ask()
                labels = (*by, "state") if isinstance(value, dict) else by
                gauge = gauges.setdefault(name, GaugeMetricFamily(name, help, labels=labels))
                for state, number in value.items() if isinstance(value, dict) else [("", value)]:
                    gauge.add_metric([*named(model), *([state] if state else [])], number)
        yield from gauges.values()
        yield GaugeMetricFamily("edgeq_connections", "Connections that are open.", value=self.connections())
        build = InfoMetricFamily("edgeq_build", "What is served.", labels=())
        for numbers in models.values():
            build.add_metric((), numbers.info)
        yield build
