"""Spans that outlast their parent, and links, on the screen."""

from pathlib import Path
from typing import Any

import pytest

from tests.viewer.stored import MINUTE, NOON, SECOND, span, span_id, store, trace_id
from ztrace import records
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.render.call_tree import draw_tree

TRACE, OTHER = trace_id(1), trace_id(2)
#: Time of the request in these trees, in milliseconds.
REQUEST_MS = 100


def below(path: Path, spans: dict[str, list[records.Span]], width: int = 100) -> list[str]:
    """Return what is drawn below the request, a second after it began, without the columns."""
    store(path, spans, at_ns=NOON + SECOND)
    with open_file(path) as db:
        tree: TreeDocument = read_tree(db, TRACE, NOON + SECOND)
    drawn = [line.plain for line in draw_tree(tree, width, None, NOON + SECOND)]
    first = next(number for number, line in enumerate(drawn) if line.startswith("CALL"))
    return [line for line in drawn[first + 2 :] if not line.startswith("not complete")]


def request() -> records.Span:
    """Return the span that has ended before others."""
    return span(TRACE, 1, name="request", duration_ms=REQUEST_MS)


@pytest.mark.parametrize(
    ("start_ms", "duration_ms", "told"),
    [
        (10, 20, None),
        (10, 90, None),  # It ends in the same moment.
        (10, 90.5, None),
        (10, 102, "ended 12.0ms after its parent ended"),
        (10, None, "open 900ms after its parent ended"),
        (100, 0.5, None),
        (100.25, 0.5, "began 250µs after its parent ended"),
        (150, 500, "began 50.0ms after its parent ended"),
        (150, None, "began 50.0ms after its parent ended"),
    ],
)
def test_what_outlasts_its_parent_is_marked(
    path: Path, start_ms: float, duration_ms: float | None, told: str | None
) -> None:
    """A span of the same process that begins or ends after its parent has a line that says so."""
    task = span(TRACE, 2, 1, name="task", kind="internal", start_ms=start_ms, duration_ms=duration_ms)
    drawn = below(path, {"shop": [request(), task]})
    assert [line.strip() for line in drawn if "parent" in line] == ([] if told is None else [told])


@pytest.mark.parametrize(
    ("kind", "duration_ms", "told"),
    [
        ("server", 90, None),
        ("server", 130, "ended 30.0ms after its parent ended"),
        ("server", None, "open 700ms after its parent ended"),
        ("consumer", 130, None),
    ],
)
def test_in_another_process_only_durations_tell(
    path: Path, kind: str, duration_ms: float | None, told: str | None
) -> None:
    """A served call that takes longer than its caller waited is marked, however the clocks differ."""
    served = span(TRACE, 2, 1, kind=kind, start_ms=200, duration_ms=duration_ms)
    drawn = below(path, {"shop": [request()], "cart": [served]})
    assert [line.strip() for line in drawn if "parent" in line] == ([] if told is None else [told])


def test_only_the_span_that_left_its_parent_is_marked(path: Path) -> None:
    """Spans below a task that outlasts the request are not marked: the task is their parent."""
    task = span(TRACE, 2, 1, name="task", kind="internal", start_ms=50, duration_ms=400)
    step = span(TRACE, 3, 2, name="step", kind="internal", start_ms=300, duration_ms=100)
    drawn = below(path, {"shop": [request(), task, step]})
    assert [line.split("  ")[0] for line in drawn[:1]] == ["└╴shop.task"]
    assert drawn[1] == "  │ ended 350ms after its parent ended"
    assert sum("parent" in line for line in drawn) == 1


def test_marked_spans_are_not_folded_among_others(path: Path) -> None:
    """A span that outlasts its parent stands out of a row of others; a row of such spans is folded."""
    tasks = [span(TRACE, n, 1, name="task", kind="internal", start_ms=n, duration_ms=5) for n in range(2, 22)]
    tasks[10] = tasks[10]._replace(duration_ns=int(300 * SECOND / 1000))
    late = [
        span(TRACE, n, 1, name="late", kind="internal", start_ms=200, duration_ms=5) for n in range(30, 50)
    ]
    drawn = "\n".join(below(path, {"shop": [request(), *tasks, *late]}))
    assert drawn.count("ended 212ms after its parent ended") == 1
    assert drawn.count("began 100ms after its parent ended") == 3
    assert "… 17 more like this, 85.0ms in all" in drawn


def linked(number: int, parent: int | None, *links: tuple[bytes, int], **changes: Any) -> records.Span:
    """Return a span with links."""
    made = span(TRACE, number, parent, **changes)
    return made._replace(links=[[trace, span_id(linked_to)] for trace, linked_to in links])


def test_a_linked_trace_is_named(path: Path) -> None:
    """A root that continues the work of another trace names it, in a form that `ztrace show` takes."""
    drawn = below(path, {"shop": [linked(1, None, (OTHER, 7), kind="internal")]})
    assert drawn == [f"  linked to trace {OTHER.hex()}, span {span_id(7).hex()}"]


def test_a_consumer_is_not_linked_to_its_parent(path: Path) -> None:
    """The link of a consumer to its producer, which it stands below, is left out; others are not."""
    sent = span(TRACE, 1, kind="producer", duration_ms=MINUTE)
    received = linked(2, 1, (TRACE, 1), (TRACE, 3), kind="consumer")
    drawn = below(path, {"shop": [sent], "cart": [received]})
    assert [line.strip() for line in drawn if "linked" in line] == [
        f"linked to span {span_id(3).hex()} of this trace"
    ]


def test_many_links_do_not_hide_the_tree(path: Path) -> None:
    """Many links are cut to some, with the number of the others."""
    drawn = below(path, {"shop": [linked(1, None, *((OTHER, n) for n in range(1, 8)))]}, 60)
    assert len(drawn) == 4
    assert drawn[-1] == "  … 4 more links; --json has them all"
    assert all(len(line) <= 60 for line in drawn)
