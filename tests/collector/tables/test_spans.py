"""The table of spans, whose columns are named once: by the record that travels."""

from dataclasses import fields
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, make_open, make_span, row, rows, span_id, trace_id
from ztrace.records import ERROR, MEASURES, Span
from ztrace_collector.checking.columns import Columns
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.spans import STORED

#: Columns that join a span with its method and its process.
JOINED = {"id", "method", "instance"}


def columns_of(path: Path, table: str) -> set[str]:
    """Return the names of a table's columns."""
    return {column["name"] for column in rows(path, f"PRAGMA table_info({table})")}


def test_columns_are_those_of_the_record(store: Store, path: Path) -> None:
    """A batch's columns, the table and what leaves the store have the names of the record's fields."""
    assert {field.name for field in fields(Columns)} - {"measures", "end_ns"} | set(MEASURES) == set(
        Span._fields
    )
    assert columns_of(path, "spans") == {*STORED, *JOINED}
    leaving = set(StoredSpan._fields) - {"measures", "exception", "service", "name", "kind"} | set(MEASURES)
    assert leaving == {*STORED, "id", "instance", "threshold"}  # That of the trace, where it is thinned.
    assert set(Span._fields) - set(STORED) == {"kind", "name", "exception"}


def test_every_field_is_stored_in_its_column(store: Store, path: Path) -> None:
    """No value lands in another field's column."""
    span = make_span(
        7,
        parent_id=span_id(9),
        status=ERROR,
        duration_ns=40 * MS,
        self_ns=30 * MS,
        cpu_ns=20 * MS,
        attributes={"card": "visa"},
        links=[[trace_id(3), span_id(4)]],
        details={"trace_state": "a=b"},
    )
    store.store([Sender().data(span, make_span(8))])
    stored = row(path, "SELECT * FROM spans WHERE details IS NOT NULL")
    assert {name: stored[name] for name in STORED} == {
        **{name: getattr(span, name) for name in ("trace_id", "span_id", "parent_id", "start_ns", *MEASURES)},
        "duration_ns": 40 * MS,
        "status": ERROR,
        "attributes": '{"card":"visa"}',
        "links": f'[{{"trace_id":"{trace_id(3).hex()}","span_id":"{span_id(4).hex()}"}}]',
        "details": '{"trace_state":"a=b"}',
    }


@pytest.mark.parametrize("mended", [False, True])
def test_a_record_of_an_older_agent_is_stored(store: Store, path: Path, mended: bool) -> None:
    """Fields with a default may be missing at the end; so agents and collector can be upgraded apart."""
    older = [list(make_span(number))[:-1] for number in range(2)]
    newer = [list(make_span(2))] if mended else []
    sender = Sender()
    store.store([sender.data(*older, *newer), sender.open(list(make_open(3))[:-1])])
    assert rows(path, "SELECT start_ns, details FROM spans") == (2 + mended) * [
        {"start_ns": EPOCH_NS, "details": None}
    ]
    assert row(path, "SELECT span_id FROM unfinished_spans") == {"span_id": span_id(3)}
    assert store.refused_count == 0
