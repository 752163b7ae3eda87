"""Exceptions of real zerorpc services, sent out by OTLP and received again.

They pass several hops, wrapped and replaced on the way, in a group, in messages, and past an untraced server.
"""

import json
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.collector.otlp.requests import send_all, spans_of, take_in
from tests.collector.otlp.test_outgoing import values
from tests.ztrace.middleware.zerorpc.fleet import Collected, Fleet
from tests.ztrace.middleware.zerorpc.test_messages import wait_for_messages
from ztrace_collector.otlp.mapping.incoming import parse_request
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import read_process, read_traces
from ztrace_collector.sealing.reading import add_views
from ztrace_viewer.cli import ztrace

pytestmark = pytest.mark.process

#: Scenarios, by the handling of their exception.
SCENARIOS: dict[str, tuple[Any, ...]] = {
    "passed": ("through", "pass_on", "pass_on", "raise_stock"),
    "wrapped": ("through", "pass_on", "remake", "from", "raise_stock"),
    "replaced": ("through", "pass_on", "remake", "while", "raise_stock"),
    "noted": ("nested", "pass_on", "annotate", "raise_annotated"),
    "grouped": ("nested", "gather", ["raise_stock"], ["raise_price"], ["pass_on", "raise_stock"]),
    "fine": ("nested", "pass_on", "echo", 1),
}
#: Expected path of each scenario's exception, from the root to the origin.
WAYS = {
    "passed": ["passed"] * 6 + ["origin"],
    "wrapped": ["passed"] * 4 + ["wrapped", "passed", "origin"],
    "replaced": ["passed"] * 4 + ["replaced", "passed", "origin"],
    "untraced": ["passed"] * 5 + ["origin"],
    "fine": [],
}


class Shop:
    """Data recorded by the services.

    Attributes:
        path: the collector's database.
        traces: trace ids by scenario.
    """

    def __init__(self, path: Path, traces: dict[str, str]) -> None:
        self.path = path
        self.traces = traces

    def send(self, scenario: str) -> list[Span]:
        """Return the spans of a scenario as sent, parents first."""
        with closing(connect(self.path)) as db:
            add_views(db)
            rows = read_traces(db, [bytes.fromhex(self.traces[scenario])])
            spans = list(spans_of(Builder(partial(read_process, db)).request(rows)))
        return sorted(spans, key=lambda span: span.start_time_unix_nano)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Return the data of services that have exited, collector included."""
    tokens = count()
    collected = Collected(tmp_path_factory.mktemp("collected"))
    plain = Fleet(tmp_path_factory.mktemp("plain"), None, tokens)
    traced = Fleet(tmp_path_factory.mktemp("traced"), collected, tokens)
    traces = {name: traced.run(*scenario).trace_id for name, scenario in SCENARIOS.items()}
    elsewhere = ("pass_on", "ask_elsewhere", plain.endpoints["middle"]["rpc"], "pass_on", "raise_stock")
    traces["untraced"] = traced.run("through", *elsewhere).trace_id
    pushed = traced.run("push", [["raise_stock"], ["pass_on", "raise_price"]])
    wait_for_messages(traced, pushed.token, 2)
    traces["pushed"] = pushed.trace_id
    for fleet in (traced, plain):
        fleet.stop()
    collected.stop()
    return Shop(collected.path, traces)


@pytest.mark.parametrize("scenario", sorted(WAYS))
def test_an_exception_is_an_event_at_its_origin_alone(shop: Shop, scenario: str) -> None:
    """An exception is an event at its origin, and other spans refer to the origin without its stack."""
    ways, groups, references = [], set(), set()
    origin = None
    for span in shop.send(scenario):
        attributes = values(span.attributes)
        if span.status.code != Status.STATUS_CODE_ERROR:
            assert (span.events[:], "error.type" in attributes) == ([], False)
            continue
        groups.add(attributes["ztrace.exception.group"])
        if span.events:
            origin = span
            ways.append("origin")
        else:
            ways.append(attributes["ztrace.exception.how"])
            references.add(
                (
                    attributes["ztrace.exception.origin.trace_id"],
                    attributes["ztrace.exception.origin.span_id"],
                )
            )
            # An untraced server's error has only its traceback as message.
            assert scenario == "untraced" or "FailingMethods.raise_stock" not in str(span)
            assert not any(key.startswith("exception.") for key in attributes)
        assert span.status.message.startswith(attributes["error.type"])
    assert ways == WAYS[scenario]
    if origin is None:
        return
    assert references == {(origin.trace_id.hex(), origin.span_id.hex())}
    assert len(groups) == 1
    (event,) = origin.events
    told = values(event.attributes)
    lines = told["exception.stacktrace"].split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert told["exception.stacktrace"].endswith(f"\n{told['exception.type']}: {told['exception.message']}")
    if scenario != "untraced":
        assert any(line.endswith("in FailingMethods.raise_stock") for line in lines)


def test_both_ends_of_a_call_have_one_name(shop: Shop) -> None:
    """Client and server span of a call have the method as name and as `rpc.method`."""
    spans = shop.send("fine")
    ids = {span.span_id: span for span in spans}
    served = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert len(served) == 2
    for span in served:
        client = ids[span.parent_span_id]
        methods = [values(each.attributes)["rpc.method"] for each in (span, client)]
        assert [span.name, client.name] == methods == [span.name] * 2
        assert client.kind == Span.SPAN_KIND_CLIENT
        assert values(client.attributes)["server.port"] > 0


def test_a_message_is_sent_and_processed(shop: Shop) -> None:
    """Producer and consumer spans are named by operation and destination, and are linked."""
    spans = {span.span_id: span for span in shop.send("pushed")}
    consumers = [span for span in spans.values() if span.kind == Span.SPAN_KIND_CONSUMER]
    assert len(consumers) == 2
    for consumer in consumers:
        (link,) = consumer.links
        producer = spans[link.span_id]
        destination = values(producer.attributes)["messaging.destination.name"]
        assert [producer.name, consumer.name] == [f"send {destination}", f"process {destination}"]


def test_all_of_it_comes_home(shop: Shop, tmp_path: Path) -> None:
    """`ztrace show` and `ztrace errors` print the same for another file that received all spans."""
    there = tmp_path / "there.db"
    outcomes = take_in(there, parse_request(send_all(shop.path).SerializeToString()))
    assert [outcome.refused for outcome in outcomes] == [{}] * len(outcomes)
    for trace in shop.traces.values():
        assert ask(there, "show", trace) == ask(shop.path, "show", trace)
    here, home = ask(shop.path, "errors"), ask(there, "errors")
    key = "group"
    assert sorted(home["groups"], key=lambda group: group[key]) == sorted(
        here["groups"], key=lambda group: group[key]
    )
    assert len(home["groups"]) >= 5


def ask(path: Path, *arguments: str) -> Any:
    """Return the document of a command."""
    result = CliRunner().invoke(ztrace, [*arguments, "--json", "--db", str(path)])
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)
