"""Metric families, made of figures, exception groups, losses and the state of the file.

One idea: the number of series is bounded, however many names programs make up. The methods with the most
calls and the latest exception groups are exported, and `ztrace_left_out` says how many others there are.
"""

import time
from collections.abc import Iterator
from math import exp
from operator import itemgetter

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ztrace_collector.layout import BUCKETS_PER_E, OPEN, REGRESSED, RESOLVED, SECOND_NS
from ztrace_viewer.documents.status import StatusDocument
from ztrace_viewer.queries.counters import Counters, MethodCounters
from ztrace_viewer.queries.group_states import NEW, count_groups, list_latest
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.answers import Method
from ztrace_viewer.queries.stores.store import Store

#: Methods with counters, methods with a histogram, and exception groups with a series of their own.
METHODS, HISTOGRAMS, GROUPS = 1_000, 200, 100
#: Services with series of publishers and of groups.
SERVICES = 200
#: Upper bounds of the exported buckets, in ztrace's buckets: from 99 µs to 72 s, each 1.65 times the last. As
#: bounds of ztrace's own buckets, they divide the calls exactly.
BOUNDS = range(230, 501, BUCKETS_PER_E // 2)

_METHOD = ("service", "method", "kind")


class Families:
    """Collector of `prometheus_client` over one snapshot of a database."""

    def __init__(self, store: Store, counters: Counters) -> None:
        """Prepare the families.

        Args:
            store: the store, open until `collect` has ended.
            counters: reader of this database's counters, which keeps sums from one request to the next.
        """
        self._store, self._counters = store, counters
        self._left_out: dict[str, int] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield every family; the last one says what is left out."""
        now_ns = time.time_ns()
        status = read_status(self._store, now_ns, limit=1)
        yield from self._describe_methods()
        yield from self._describe_groups(now_ns)
        yield from self._describe_publishers(status)
        yield from self._describe_spans(status)
        yield _gauge("database_bytes", "Size of the database file.", status["database_bytes"])
        yield _gauge("database_log_bytes", "Size of the write-ahead log beside it.", status["log_bytes"])
        left_out = GaugeMetricFamily(
            "ztrace_left_out", "Methods, groups and services without series of their own.", labels=["what"]
        )
        for what, number in self._left_out.items():
            left_out.add_metric([what], number)
        yield left_out

    def _describe_methods(self) -> Iterator[Metric]:
        names = self._store.methods()
        counters = [(names[method], each) for method, each in self._counters.read(self._store).items()]
        counters.sort(key=lambda pair: (-pair[1].calls, pair[0][1:]))
        self._left_out["methods"] = max(0, len(counters) - METHODS)
        self._left_out["histograms"] = max(0, len(counters) - HISTOGRAMS)
        calls = CounterMetricFamily("ztrace_calls", "Calls that have ended.", labels=_METHOD)
        errors = CounterMetricFamily("ztrace_call_errors", "Calls that have failed.", labels=_METHOD)
        own = CounterMetricFamily(
            "ztrace_call_self_seconds", "Time of calls outside of the calls they made.", labels=_METHOD
        )
        for method, each in counters[:METHODS]:
            labels = _label(method)
            calls.add_metric(labels, each.calls)
            errors.add_metric(labels, each.errors)
            own.add_metric(labels, each.self_ns / SECOND_NS)
        durations = HistogramMetricFamily(
            "ztrace_call_duration_seconds", "Duration of the calls of the busiest methods.", labels=_METHOD
        )
        for method, each in counters[:HISTOGRAMS]:
            durations.add_metric(_label(method), accumulate(each), each.total_ns / SECOND_NS)
        yield from (calls, errors, own, durations)

    def _describe_groups(self, now_ns: int) -> Iterator[Metric]:
        numbers = count_groups(self._store, now_ns)
        services = sorted({service for service, _ in numbers})
        self._count_services(len(services))
        states = GaugeMetricFamily(
            "ztrace_exception_groups",
            "Exception groups by state; new ones are open and began within an hour.",
            labels=["service", "state"],
        )
        for service in services[:SERVICES]:
            for state in (NEW, OPEN, REGRESSED, RESOLVED):
                states.add_metric([service, state], numbers.get((service, state), 0))
        yield states
        groups = list_latest(self._store, GROUPS, now_ns)
        self._left_out["groups"] = sum(numbers.values()) - len(groups)
        labels = ["group", "type", "service", "method", "state"]
        occurrences = GaugeMetricFamily(
            "ztrace_exception_group_occurrences",
            "Stored occurrences of the latest exception groups; they fall when traces are deleted.",
            labels=labels,
        )
        latest = GaugeMetricFamily(
            "ztrace_exception_group_last_timestamp_seconds", "Time of the last occurrence.", labels=labels
        )
        for group in groups:
            values = [group.fingerprint, group.type, group.service, group.name, group.state]
            occurrences.add_metric(values, group.counted)
            latest.add_metric(values, group.last_ns / SECOND_NS)
        yield from (occurrences, latest)

    def _describe_publishers(self, status: StatusDocument) -> Iterator[Metric]:
        services = status["services"]
        self._count_services(len(services))
        publishers = GaugeMetricFamily(
            "ztrace_publishers", "Processes that send or have sent spans.", labels=["service", "state"]
        )
        for each in services[:SERVICES]:
            for state in ("live", "silent", "ended", "crashed"):
                publishers.add_metric([each["service"], state], each[state])
        yield publishers
        seen_ns = max(map(itemgetter("last_seen_ns"), services), default=0)
        yield _gauge("last_message_timestamp_seconds", "Time of the last message.", seen_ns / SECOND_NS)

    def _describe_spans(self, status: StatusDocument) -> Iterator[Metric]:
        spans = self._store.span_counters()
        yield CounterMetricFamily("ztrace_spans_created", "Spans that publishers ended.", spans.created)
        yield CounterMetricFamily("ztrace_spans_stored", "Spans stored, also if deleted since.", spans.stored)
        lost = CounterMetricFamily("ztrace_spans_lost", "Spans that are lost, by reason.", labels=["reason"])
        for reason, number in spans.lost.items():
            lost.add_metric([reason], number)
        refused = CounterMetricFamily(
            "ztrace_refused", "Messages and spans that the collector refused or corrected.", labels=["reason"]
        )
        for refusal in status["refusals"]:
            refused.add_metric([refusal["reason"]], refusal["count"])
        yield from (lost, refused)
        yield _gauge("spans_waiting", "Spans created, and neither stored nor lost.", status["spans_waiting"])
        yield _gauge("spans_unsettled", "Spans not yet in the profile.", status["spans_unsettled"])
        unfinished = GaugeMetricFamily("ztrace_spans_unfinished", "Spans without an end.", labels=["state"])
        unfinished.add_metric(["running"], status["unfinished_running"])
        unfinished.add_metric(["ended"], status["unfinished_ended"])
        unfinished.add_metric(["lost"], status["unfinished_lost"])
        yield unfinished

    def _count_services(self, number: int) -> None:
        self._left_out["services"] = max(self._left_out.get("services", 0), number - SERVICES)


def accumulate(counters: MethodCounters) -> list[tuple[str, float]]:
    """Return the exported buckets of a method: upper bound in seconds, and calls below it."""
    buckets: list[tuple[str, float]] = []
    ordered = sorted(counters.histogram.items(), reverse=True)
    below = 0
    for bound in BOUNDS:
        while ordered and ordered[-1][0] < bound:
            below += ordered.pop()[1]
        buckets.append((f"{exp(bound / BUCKETS_PER_E) / SECOND_NS:.6g}", below))
    return [*buckets, ("+Inf", counters.calls)]


def _label(method: Method) -> list[str]:
    return [method.service, method.name, method.kind]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ztrace_{name}", text, value)
