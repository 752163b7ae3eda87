"""Open spans: watched without keeping them alive, and counted when the program drops them."""

import gc
import sys
import threading
from collections import OrderedDict
from typing import Any, cast

import pytest

import ztrace
from tests.ztrace.receiving import Receiver
from tests.ztrace.recording import Clock, Recorder
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import agent, diagnostics
from ztrace.publishing import unfinished
from ztrace.publishing.unfinished import AGE_NS, MAX_MOVED, Unfinished, Watch
from ztrace.records import Record
from ztrace.spans import Span

DROPPED = "span_abandoned"


@pytest.fixture
def open_spans(
    recorder: Recorder, clock: Clock, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Yield the watch over the recorder's spans, on the stopped clock."""
    monkeypatch.setattr(unfinished, "perf_counter_ns", clock.read)
    recorder.watched = cast("OrderedDict[int, Any]", OrderedDict[int, Watch]())
    yield Unfinished(cast("dict[Span, None]", recorder.register), cast(Any, recorder.watched))
    counts.clear()


def start(**attributes: Any) -> Span:
    """Start a span that is not current."""
    return ztrace.span("work", **attributes).start(activate=False)


def look(open_spans: Unfinished) -> list[Any]:
    """Look until there is nothing more to move, and return the objects to be released."""
    objects: list[Any] = []
    while open_spans.look(objects):
        pass
    return objects


def dropped() -> int:
    """Return the number of spans counted as dropped."""
    return diagnostics.counts.get(DROPPED, 0)


def attributes_of(records: list[Record]) -> list[Any]:
    """Return the attributes of records."""
    return [record[unfinished._ATTRIBUTES] for record in records]


def test_dropped_spans_are_counted_without_a_collector(
    open_spans: Unfinished, recorder: Recorder, clock: Clock
) -> None:
    """Spans dropped before their first second is over leave the register, each counted once."""
    for number in range(100):
        start(number=number)
    look(open_spans)
    assert dropped() == 0
    clock.pass_ns(AGE_NS)
    look(open_spans)
    look(open_spans)
    assert dropped() == 100
    assert (len(recorder.register), len(recorder.watched)) == (0, 0)
    assert attributes_of(open_spans.list_abandoned([]))[99] == {"number": 99, "ztrace.abandoned": True}


def test_a_held_span_is_watched_without_being_held(
    open_spans: Unfinished, recorder: Recorder, clock: Clock
) -> None:
    """An old span belongs to the program alone, and is counted at the first look after it is dropped."""
    held = start(n=1)
    clock.pass_ns(AGE_NS)
    look(open_spans)
    assert dropped() == 0
    del held
    look(open_spans)
    assert dropped() == 1
    assert not recorder.watched


def test_an_old_span_that_ends_is_not_counted(
    open_spans: Unfinished, recorder: Recorder, clock: Clock
) -> None:
    """The end of a watched span removes the watch, and its release later on is not counted."""
    held = start()
    clock.pass_ns(AGE_NS)
    look(open_spans)
    held.end()
    assert not recorder.watched
    del held
    look(open_spans)
    assert dropped() == 0
    assert len(recorder.queue) == 1


def test_a_span_in_a_cycle_is_counted(open_spans: Unfinished, recorder: Recorder, clock: Clock) -> None:
    """A span whose attribute refers back to the span is counted once Python collects the cycle."""
    request: dict[str, Any] = {}
    request["span"] = start(request=request, path="/pay")
    clock.pass_ns(AGE_NS)
    look(open_spans).clear()
    del request
    gc.collect()
    look(open_spans)
    assert dropped() == 1
    assert attributes_of(open_spans.list_abandoned([])) == [{"path": "/pay", "ztrace.abandoned": True}]


def test_many_open_spans_hide_no_dropped_one(
    open_spans: Unfinished, recorder: Recorder, clock: Clock
) -> None:
    """Beside more open spans than are examined at once, dropped spans are counted at the next look."""
    held = [start() for _ in range(unfinished.MAX_WATCHED + 5)]
    clock.pass_ns(AGE_NS)
    look(open_spans)
    for _ in range(10):
        start()
    clock.pass_ns(AGE_NS)
    look(open_spans)
    assert dropped() == 10
    assert len(recorder.watched) == len(held)


def test_open_spans_cost_a_look_nothing(open_spans: Unfinished, recorder: Recorder, clock: Clock) -> None:
    """A look makes as many calls beside thousands of watched spans as beside one."""
    held = [start()]

    def count_calls() -> int:
        clock.pass_ns(AGE_NS)
        look(open_spans)
        calls = 0

        def note(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(note)
        try:
            open_spans.look([])
        finally:
            sys.setprofile(None)
        return calls

    few = count_calls()
    held += [start() for _ in range(2 * MAX_MOVED)]
    assert count_calls() == few


def test_a_crowd_is_moved_at_any_age(
    open_spans: Unfinished, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above a number of young spans the oldest leave the register at once."""
    monkeypatch.setattr(unfinished, "CROWD", 50)
    held = [start() for _ in range(40)]
    for _ in range(60):
        start()
    look(open_spans)
    assert (dropped(), len(recorder.watched), len(recorder.register)) == (60, len(held), 0)


def test_records_of_dropped_spans_are_bounded_and_counts_are_not(
    open_spans: Unfinished, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a number of records that wait for a collector, dropped spans are counted only."""
    monkeypatch.setattr(unfinished, "MAX_ABANDONED", 3)
    for _ in range(5):
        start()
    clock.pass_ns(AGE_NS)
    look(open_spans)
    assert dropped() == 5
    assert len(open_spans.list_abandoned([])) == 3
    open_spans.forget_abandoned()
    assert open_spans.list_abandoned([]) == []


def test_every_watched_span_is_published_in_turn(
    open_spans: Unfinished, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More spans than are examined at once are all published, at most so many at a time."""
    monkeypatch.setattr(unfinished, "MAX_WATCHED", 10)
    monkeypatch.setattr(unfinished, "MAX_PUBLISHED", 5)
    held = [start(n=n) for n in range(20)]
    clock.pass_ns(AGE_NS)
    look(open_spans)
    published = [attributes["n"] for _ in range(8) for attributes in attributes_of(open_spans.take_due([]))]
    assert sorted(published) == list(range(len(held)))


def test_objects_of_the_program_are_given_back(open_spans: Unfinished, clock: Clock) -> None:
    """A span is returned for release elsewhere if its release may run a finalizer, and else released."""
    start(plain="text")
    start(odd=threading.Event())
    with ztrace.span("above") as above:
        parent = ztrace.span("parent").start(activate=False)
    start(odd=[above])
    below = ztrace.span("below", parent=parent).start(activate=False)
    parent.end()
    clock.pass_ns(AGE_NS)
    assert len(look(open_spans)) == 3
    assert below.name == "below"


def test_a_dropped_span_is_published_once_and_a_held_one_repeatedly(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span without references is published once as abandoned, an open one until it ends."""
    monkeypatch.setattr(unfinished, "AGE_NS", 1_000_000)
    ztrace.configure("billing", receiver.endpoint)
    held = start(n=1)
    for _ in range(3):
        start(n=2)
    wait_for(lambda: [span.attributes for span in receiver.open_spans].count({"n": 1}) >= 3)
    told = [span.attributes for span in receiver.open_spans if span.attributes != {"n": 1}]
    assert told == 3 * [{"n": 2, "ztrace.abandoned": True}]
    held.end()
    assert ztrace.flush(DEADLINE_S)
    wait_for(lambda: any(header.mended == {DROPPED: 3} for header, _ in receiver.messages))


def test_objects_are_released_by_a_program_that_only_starts_spans(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of dropped spans are released in the thread of the next start, although no span ends."""
    monkeypatch.setattr(unfinished, "AGE_NS", 1_000_000)
    released: list[int] = []

    class Held:
        def __del__(self) -> None:
            released.append(threading.get_ident())

    def start_another() -> bool:
        start(odd=Held())
        return len(released) >= 10

    ztrace.configure("billing", receiver.endpoint)
    wait_for(start_another)
    assert set(released) == {threading.get_ident()}
    publisher = agent.current_publisher()
    assert publisher is not None
    assert publisher.dropped == 0
