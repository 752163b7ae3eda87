"""Spans sent out by one store and received by another: trees, exceptions and groups are the same."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collector.otlp.requests import put_in_order, send_all, take_in
from tests.viewer.stored import NOON, checkout, raised, span, span_id, store, trace_id, travelled
from ztrace import records
from ztrace.records import ExceptionRecord, FrameRecord, Span
from ztrace_collector.otlp.mapping.incoming import parse_request
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import read_process, read_unfinished
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree

_TEXTS = st.text(max_size=12)
_NAMES = st.sampled_from(["charge", "load", "price", "send charge"])
_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.floats(allow_nan=False),
        st.binary(max_size=6),
        _TEXTS,
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
#: Attributes that the middleware sets on spans of calls and of messages.
_CALL = {"rpc.system.name": "zerorpc"}
_MESSAGE = {"messaging.system": "zerorpc"}
_ATTRIBUTES = st.one_of(
    st.none(),
    st.just(_CALL),
    st.just(_MESSAGE),
    st.dictionaries(_TEXTS, _VALUES, min_size=1, max_size=3).map(lambda more: _CALL | more),
    st.dictionaries(_TEXTS, _VALUES, min_size=1, max_size=3).map(lambda more: _MESSAGE | more),
)

_FRAMES = st.builds(
    FrameRecord,
    file=st.sampled_from(["/srv/shop.py", "/usr/lib/python3.12/socket.py", ""]),
    line=st.integers(0, 1000),
    function=_TEXTS,
    module=st.sampled_from(["shop", "__main__", ""]),
    code=_TEXTS,
    in_app=st.booleans(),
    repeats=st.integers(0, 2),
    omitted=st.integers(0, 2),
    locals=st.one_of(st.none(), st.dictionaries(_TEXTS, _TEXTS, max_size=2)),
)
_HOWS = [records.RAISED, records.PASSED, records.WRAPPED, records.REPLACED, records.GROUPED]


def _records(inner: st.SearchStrategy[ExceptionRecord] | None = None) -> st.SearchStrategy[ExceptionRecord]:
    """Return a strategy of exceptions; remote origins are among the first spans of the first trace."""
    nested = st.just([]) if inner is None else st.lists(inner, max_size=2)
    origins = st.one_of(
        st.just((None, None)), st.integers(1, 3).map(lambda number: (trace_id(1), span_id(number)))
    )
    return st.builds(
        lambda origin, **fields: ExceptionRecord(
            origin_trace_id=origin[0], origin_span_id=origin[1], **fields
        ),
        origin=origins,
        type=st.sampled_from(["KeyError", "shop.Declined", "ExceptionGroup"]),
        message=_TEXTS,
        frames=st.lists(_FRAMES, max_size=3),
        causes=nested,
        how=st.sampled_from(_HOWS),
        notes=st.lists(_TEXTS, max_size=2),
        members=nested,
    )


@st.composite
def _traces(draw: st.DrawFn) -> dict[str, list[Span]]:
    """Draw spans of two services in two traces."""
    spans: dict[str, list[Span]] = {"shop": [], "billing": []}
    for number in range(1, draw(st.integers(2, 7))):
        exception = draw(st.one_of(st.none(), _records(_records(_records()))))
        failed = exception is not None or draw(st.booleans())
        made = Span(
            trace_id=trace_id(draw(st.integers(1, 2))),
            span_id=span_id(number),
            parent_id=draw(st.one_of(st.none(), st.integers(1, 7).map(span_id))),
            kind=draw(st.integers(1, 5)),
            name=draw(_NAMES),
            start_ns=NOON + draw(st.integers(0, 1000)),
            duration_ns=draw(st.integers(0, 1000)),
            self_ns=draw(st.one_of(st.none(), st.integers(0, 1000))),
            cpu_ns=draw(st.one_of(st.none(), st.integers(0, 1000))),
            status=records.ERROR if failed else records.OK,
            attributes=draw(_ATTRIBUTES),
            links=draw(st.one_of(st.none(), st.just([[trace_id(9), span_id(9)]]))),
            exception=exception,
            details=draw(st.one_of(st.none(), st.fixed_dictionaries({"trace_state": st.just("a=b")}))),
        )
        spans[draw(st.sampled_from(sorted(spans)))].append(made)
    return {service: batch for service, batch in spans.items() if batch}


def assert_same(here: Path, there: Path, traces: Sequence[bytes]) -> None:
    """Assert that two files have the same trees, spans, exceptions and groups.

    Only the reason of a missing parent may differ: a file knows nothing of processes that sent nothing to it.
    """
    with open_file(here) as one, open_file(there) as other:
        for trace in traces:
            assert without_reasons(read_tree(other, trace)) == without_reasons(read_tree(one, trace))
    for query in (
        "SELECT hex(span_id), links, details, self_ns, cpu_ns FROM spans ORDER BY 1",
        "SELECT hex(span_id), hex(origin_span_id), how, is_root, other_origins, at_ns FROM exceptions"
        " ORDER BY 1",
        "SELECT fingerprint, type, service, name, count, uncaught_count, first_ns, last_ns, services"
        " FROM exception_groups ORDER BY 1",
        "SELECT instance_id, service, host, pid, started_ns, resource FROM instances ORDER BY 1",
    ):
        assert rows(there, query) == rows(here, query)


def without_reasons(tree: TreeDocument) -> dict[str, Any]:
    """Return a tree whose missing parents have no reasons."""
    missing = [{**each, "reason": ""} for each in tree["missing"]]
    return {**tree, "missing": missing}


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows that a query selects."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def send_home(here: Path, there: Path) -> None:
    """Send the contents of one file to another."""
    outcomes = take_in(there, parse_request(send_all(here).SerializeToString()))
    assert [outcome.refused for outcome in outcomes] == [{}] * len(outcomes)


@settings(max_examples=settings().max_examples // 2)
@given(spans=_traces())
def test_what_goes_out_comes_home(spans: dict[str, list[Span]]) -> None:
    """Spans with exceptions of every shape, calls, messages and links survive a round trip."""
    with TemporaryDirectory() as folder:
        here, there = Path(folder) / "here.db", Path(folder) / "there.db"
        store(here, spans)
        send_home(here, there)
        present = {span.trace_id for batch in spans.values() for span in batch}
        assert_same(here, there, sorted(present))
        assert rows(there, "SELECT reason, detail FROM refusals") == []


@pytest.mark.parametrize("is_known_before", [True, False])
def test_members_of_a_group_follow_a_failure(tmp_path: Path, is_known_before: bool) -> None:
    """A member that names a span which failed without an exception began where that failure came from."""
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    trace = trace_id(1)
    member = travelled("KeyError", "sofa", records.RAISED, (trace, 2))
    group = raised("ExceptionGroup", "two failed")._replace(members=[member])
    failing = [
        span(trace, 3, 2, exception=raised("KeyError", "sofa")),
        span(trace, 2, 1, status=records.ERROR, duration_ms=2),
    ]
    grouped = [span(trace, 1, exception=group, duration_ms=9)]
    for spans in (failing, grouped) if is_known_before else (grouped, failing):
        store(here, {"shop": spans})
    (found,) = rows(here, "SELECT other_origins FROM exceptions WHERE other_origins IS NOT NULL")
    assert json.loads(found[0]) == [span_id(3).hex()]
    assert rows(here, "SELECT hex(origin_span_id) FROM uncaught_exceptions ORDER BY 1") == [
        (span_id(number).hex().upper(),) for number in (1, 3)
    ]
    send_home(here, there)
    assert_same(here, there, [trace])


def test_a_shop_comes_home_and_leaves_again(tmp_path: Path) -> None:
    """A tree over five services, with passed and wrapped exceptions, survives two round trips."""
    here, there, third = (tmp_path / f"{name}.db" for name in ("here", "there", "third"))
    store(here, checkout(trace_id(1)))
    send_home(here, there)
    send_home(there, third)
    assert_same(here, there, [trace_id(1)])
    assert_same(here, third, [trace_id(1)])


def test_what_comes_home_twice_is_stored_once(tmp_path: Path) -> None:
    """Spans sent to the file they came from are duplicates."""
    here = store(tmp_path / "here.db", checkout(trace_id(1)))
    before = rows(here, "SELECT count(*) FROM spans")
    outcomes = take_in(here, send_all(here))
    assert sum(outcome.duplicates for outcome in outcomes) == before[0][0]
    assert rows(here, "SELECT count(*) FROM spans") == before


def test_what_has_not_ended_comes_home_as_that(tmp_path: Path) -> None:
    """An unfinished span, sent on request, arrives as unfinished."""
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    begun = span(trace_id(1), 1, duration_ms=None, attributes={"rpc.system.name": "zerorpc"})
    store(here, {"shop": [begun]}, at_ns=NOON + 5_000_000)
    with closing(sqlite3.connect(here)) as db:
        request = Builder(partial(read_process, db)).request(read_unfinished(db, [trace_id(1)]))
    (outcome,) = take_in(there, request)
    assert outcome.refused == {}
    query = "SELECT hex(trace_id), hex(span_id), method, start_ns, attributes, details FROM unfinished_spans"
    assert len(rows(here, query)) == 1
    assert rows(there, query) == rows(here, query)


def test_what_is_added_to_a_resource_on_the_way_is_kept(tmp_path: Path) -> None:
    """Resource attributes added on the way are kept, and the spans still belong to their process."""
    here, there = store(tmp_path / "here.db", checkout(trace_id(1))), tmp_path / "there.db"
    request = send_all(here)
    for resource in request.resource_spans:
        resource.resource.attributes.add(key="k8s.pod.name").value.string_value = "shop-1"
    take_in(there, request)
    with open_file(here) as one, open_file(there) as other:
        sent, came = read_tree(one, trace_id(1))["roots"], read_tree(other, trace_id(1))["roots"]
    assert all(span["resource"]["k8s.pod.name"] == "shop-1" for span in came)
    assert without_resources(came) == without_resources(sent)
    assert put_in_order(send_all(there)) == put_in_order(request)


def without_resources(spans: list[SpanDocument]) -> list[dict[str, Any]]:
    """Return spans and those below them without their resources."""
    return [{**span, "resource": None, "children": without_resources(span["children"])} for span in spans]
