"""Metrics for Prometheus, read by its own parser, and Grafana's dashboard of them."""

import json
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from math import exp
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.collector.messages import EPOCH_NS, Sender, make_span
from tests.collector.storing.test_retention import Clock
from tests.collector.storing.test_thinning import fill, thin, tree
from tests.viewer.conftest import Run
from tests.viewer.stored import MINUTE, NOON, raised, span, store, trace_id
from tests.viewer.web.serving import TOKEN, Site
from ztrace_collector.layout import HOUR_NS
from ztrace_collector.storing.expiring import delete_traces_before, sweep
from ztrace_collector.storing.pruning import prune_figures
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.counters import Counters
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.web.metrics import families
from ztrace_viewer.web.metrics.families import Families

#: Value of each series by name and labels.
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

DAY_NS = 24 * HOUR_NS
HOSTILE = 'a"b\\c\nd{e="f"} \N{RIGHT-TO-LEFT OVERRIDE}<script>'


def parse(text: str) -> Series:
    """Return every series of a text, each of which occurs once."""
    series: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in series
            series[key] = sample.value
    return series


def scrape(path: Path, counters: Counters | None = None) -> Series:
    """Return the series of a database."""
    with open_file(path) as db:
        return parse(generate_latest(Families(db, counters or Counters())).decode())


def select(series: Series, name: str, **labels: str) -> list[float]:
    """Return the values of a metric's series with some labels."""
    return [value for (each, given), value in series.items() if each == name and given >= set(labels.items())]


def find_metrics(document: object) -> set[str]:
    """Return the names of metrics in the queries of a dashboard."""
    if isinstance(document, Mapping):
        queries = f"{document.get('expr')} {document.get('query')}"
        return set(re.findall(r"ztrace_\w+", queries)).union(*map(find_metrics, document.values()))
    return set().union(*map(find_metrics, document)) if isinstance(document, list) else set()


def read_dashboard() -> Any:
    """Return the dashboard of the package."""
    return json.loads(files("ztrace_viewer.web").joinpath("metrics", "grafana.json").read_text())


@pytest.mark.process
def test_a_scraper_gets_the_figures_of_stats(site: Site, shop: Path, run: Run) -> None:
    """A bearer token is enough, and calls, errors and times are those of ``ztrace stats``."""
    refused = site.ask("/metrics", headers={})
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer" in refused.text
    answer = site.ask("/metrics", headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/plain;q=x"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    series = parse(answer.text)
    methods = json.loads(run("stats", "--db", str(shop), "--json").stdout)["methods"]
    assert len(methods) == 9
    for method in methods:
        labels = {"service": method["service"], "method": method["name"], "kind": method["kind"]}
        assert select(series, "ztrace_calls_total", **labels) == [method["calls"]]
        assert select(series, "ztrace_call_errors_total", **labels) == [method["errors"]]
        assert select(series, "ztrace_call_duration_seconds_count", **labels) == [method["calls"]]
        assert select(series, "ztrace_call_duration_seconds_sum", **labels) == [method["total_ns"] / 1e9]
    [group] = json.loads(run("errors", "--db", str(shop), "--json").stdout)["groups"]
    assert select(series, "ztrace_exception_group_occurrences", group=group["group"]) == [group["count"]]
    assert select(series, "ztrace_exception_groups", service="stock", state="open") == [1]
    status = json.loads(run("status", "--db", str(shop), "--json").stdout)
    for name in ("spans_created", "spans_stored"):
        assert select(series, f"ztrace_{name}_total") == [status[name]]
    assert select(series, "ztrace_database_bytes") == [status["database_bytes"]]
    assert sum(select(series, "ztrace_publishers")) == status["publisher_count"]
    assert set(select(series, "ztrace_left_out")) == {0}


@pytest.mark.process
def test_every_query_of_the_dashboard_names_a_metric(site: Site) -> None:
    """The served dashboard is the package's, and its queries find the metrics they name."""
    dashboard = read_dashboard()
    assert site.get("/metrics/grafana.json") == dashboard
    text = site.ask("/metrics").text
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    exported = set()
    for name, kind in kinds.items():
        parts = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(kind, [""])
        exported |= {name + part for part in parts}
    named = find_metrics(dashboard)
    assert len(named) > 12
    assert named <= exported
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])


@pytest.mark.trouble
def test_every_query_is_promql() -> None:
    """The queries of the dashboard and of the alerts in the documentation are read by a parser of PromQL."""
    parse = import_module("promql_parser").parse
    page = Path(__file__).parents[3] / "docs/how-to/watch-with-prometheus.md"
    queries = re.findall(r"expr: (.*)", page.read_text())
    assert len(queries) == 3
    queries += [target["expr"] for panel in read_dashboard()["panels"] for target in panel["targets"]]
    for query in queries:
        parse(query.replace("$__rate_interval", "5m"))


def test_buckets_divide_the_calls(path: Path) -> None:
    """A bucket has the calls up to its bound, and the last one has all calls."""
    durations_ms = [0.01, 0.5, 3, 3.2, 80, 900, 40_000, 500_000]
    store(path, {"shop": [span(trace_id(n), n, duration_ms=each) for n, each in enumerate(durations_ms, 1)]})
    series = scrape(path)
    buckets = sorted(
        (float(dict(labels)["le"]), value)
        for (name, labels), value in series.items()
        if name == "ztrace_call_duration_seconds_bucket"
    )
    assert buckets == [(bound, sum(each / 1e3 < bound for each in durations_ms)) for bound, _ in buckets]
    assert all(abs(b / a / exp(0.5) - 1) < 1e-3 for (a, _), (b, _) in pairwise(buckets[:-1]))


def test_counters_never_fall(path: Path) -> None:
    """Retention, which deletes traces, figures and publishers, leaves every counter as it was."""
    now_ns = EPOCH_NS
    counters = Counters()
    with Store(path, clock_ns=lambda: now_ns) as opened:
        for day in range(5):
            sender = Sender(day)
            now_ns = EPOCH_NS + day * DAY_NS
            spans = [make_span(100 * day + n, start_ns=now_ns) for n in range(7)]
            opened.store([sender.data(*spans), sender.bye()])
        before = scrape(path, counters)
        assert select(before, "ztrace_calls_total") == [35]
        while delete_traces_before(opened, opened.age_ns + 2 * HOUR_NS, 1000):
            pass
        for _ in sweep(opened, EPOCH_NS + 3 * DAY_NS):
            pass
        after = scrape(path, counters)
        assert sum(select(after, "ztrace_publishers")) < sum(select(before, "ztrace_publishers")) == 5
        _assert_same_counters(before, after)
        _assert_same_counters(before, scrape(path))
        late = make_span(900, start_ns=EPOCH_NS)
        opened.store([sender.data(late)])
        assert select(scrape(path, counters), "ztrace_calls_total") == [36]


def test_counters_do_not_fall_when_traces_are_thinned(path: Path) -> None:
    """Traces that are thinned away stay in the counters, and so do their spans."""
    clock = Clock()
    with Store(path, clock_ns=clock.wall) as opened:
        made = [each for number in range(1, 300) for each in tree(number)]
        fill(opened, clock, made, Sender())
        before = scrape(path)
        assert select(before, "ztrace_spans_stored_total") == [len(made)]
        thin(opened, clock)
        assert opened.read("SELECT count(*) FROM spans")[0][0] < len(made)
    _assert_same_counters(before, scrape(path))


def test_counters_do_not_fall_when_figures_are_pruned(path: Path) -> None:
    """Figures that are deleted since a service has too many stay in the counters."""
    with Store(path, clock_ns=lambda: EPOCH_NS) as opened:
        sender = Sender()
        spans = [make_span(n, start_ns=EPOCH_NS + n * DAY_NS) for n in range(20)]
        opened.store([sender.data(*spans)])
        before = scrape(path)
        for _ in prune_figures(opened, max_bytes=4_000):
            pass
        assert opened.read("SELECT count(*) FROM method_figures WHERE resolution_s = 86400")[0][0] < 20
    _assert_same_counters(before, scrape(path))


def _assert_same_counters(before: Series, after: Series) -> None:
    counting = ("_total", "_count", "_sum", "_bucket")
    for key, value in before.items():
        if key[0].endswith(counting):
            assert after[key] == value


def test_series_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The busiest methods and the latest groups have series, and the number of the others is told."""
    for name, most in {"METHODS": 5, "HISTOGRAMS": 2, "GROUPS": 3, "SERVICES": 4}.items():
        monkeypatch.setattr(families, name, most)
    numbers = iter(range(1, 1000))
    for each in range(7):
        spans = [
            span(
                trace_id(number),
                number,
                name=f"m{each}",
                at_ns=NOON + each * MINUTE,
                exception=raised(f"Error{each}", "no"),
            )
            for _, number in zip(range(each + 1), numbers, strict=False)
        ]
        store(path, {f"s{each}": spans}, at_ns=NOON)
    series = scrape(path)
    assert sorted(select(series, "ztrace_calls_total")) == [3, 4, 5, 6, 7]
    assert sorted(select(series, "ztrace_call_duration_seconds_count")) == [6, 7]
    assert sorted(select(series, "ztrace_exception_group_occurrences")) == [5, 6, 7]
    for what, number in {"methods": 2, "histograms": 5, "groups": 4, "services": 3}.items():
        assert select(series, "ztrace_left_out", what=what) == [number]


def test_names_are_escaped(path: Path) -> None:
    """Names full of quotes, line breaks and markup come out of the parser as they were."""
    store(path, {HOSTILE: [span(trace_id(1), 1, name=HOSTILE, exception=raised(HOSTILE, "no"))]})
    series = scrape(path)
    [labels] = [dict(labels) for name, labels in series if name == "ztrace_calls_total"]
    with open_file(path) as db:
        [(service, method)] = db.db.execute("SELECT service, name FROM methods").fetchall()
    assert (labels["service"], labels["method"]) == (service, method)


def test_a_file_without_spans_has_metrics(path: Path) -> None:
    """An empty file has no series of methods, and its counters are zero."""
    with Store(path):
        pass
    series = scrape(path)
    assert select(series, "ztrace_calls_total") == []
    assert select(series, "ztrace_spans_stored_total") == [0]
