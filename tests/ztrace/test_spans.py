"""Spans: tree structure, times, and isolation of failures from the traced program."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.event
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ztrace
from tests.ztrace.recording import OFFSET_NS, Clock, Recorder
from tests.ztrace.waiting import DEADLINE_S
from ztrace import spans
from ztrace.context import SpanContext, get_current, make_current
from ztrace.records import ERROR, KIND_NUMBERS, OK

REMOTE = SpanContext(b"T" * 16, b"S" * 8, (1, "vendor=1"))


def test_a_span_records_what_it_was_told(recorder: Recorder, clock: Clock) -> None:
    """A record has the span's name, kind, times and attributes."""
    with ztrace.span("charge", kind="client", card="visa") as span:
        clock.pass_ns(250)
        span.set(amount=12, card="master")
    recorded = recorder.span
    assert (recorded.name, recorded.kind) == ("charge", KIND_NUMBERS["client"])
    assert (recorded.start_ns, recorded.duration_ns, recorded.self_ns) == (OFFSET_NS + 1000, 250, 250)
    assert recorded.attributes == {"card": "master", "amount": 12}
    assert (recorded.parent_id, recorded.links, recorded.exception, recorded.status) == (None, None, None, OK)


def test_attributes_may_have_the_names_of_arguments(recorder: Recorder) -> None:
    """Attributes may be called `name` and `self`, like the parameters of `span` and `set`."""
    with ztrace.span("charge", name="Ada", self=1) as span:
        span.set(self=2, name="Bo")
    assert recorder.span.attributes == {"name": "Bo", "self": 2}


@pytest.mark.parametrize("kind", KIND_NUMBERS)
def test_kinds_are_stored_by_number(recorder: Recorder, kind: str) -> None:
    """Kinds are recorded as numbers, and looked up by value, not identity."""
    with ztrace.span("a", kind="".join(list(kind))):
        pass
    assert recorder.span.kind == KIND_NUMBERS[kind]


def test_only_server_spans_have_cpu_time(recorder: Recorder, clock: Clock) -> None:
    """Only server spans record the CPU time of their thread."""
    for kind in KIND_NUMBERS:
        with ztrace.span(kind, kind=kind):
            clock.cpu_ns += 70
    cpu = {span.name: span.cpu_ns for span in recorder.spans}
    assert cpu == dict.fromkeys(KIND_NUMBERS) | {"server": 70}


def test_a_server_span_that_ends_in_another_thread_has_no_cpu_time(recorder: Recorder, clock: Clock) -> None:
    """A server span whose CPU time would be negative, after ending in another thread, has none."""
    with ztrace.span("serve", kind="server"):
        clock.cpu_ns = 3
    assert recorder.span.cpu_ns is None


def test_nested_spans_are_children_of_the_one_around_them(recorder: Recorder) -> None:
    """Nested spans are children of the innermost open span and share its trace id."""
    with ztrace.span("a"):
        with ztrace.span("b"), ztrace.span("c"):
            pass
        with ztrace.span("d"):
            pass
    assert recorder.parents() == {"a": None, "b": "a", "c": "b", "d": "a"}
    assert len({span.trace_id for span in recorder.spans}) == 1
    assert len({span.span_id for span in recorder.spans}) == 4


def test_each_root_begins_a_trace(recorder: Recorder) -> None:
    """Consecutive root spans have separate traces."""
    for name in "ab":
        with ztrace.span(name):
            pass
    first, second = recorder.spans
    assert first.parent_id is second.parent_id is None
    assert first.trace_id != second.trace_id


def test_current_span_follows_the_blocks(recorder: Recorder) -> None:
    """The current span is the innermost open one."""
    assert get_current() is None
    with ztrace.span("a") as a:
        assert ztrace.current_span() is a
        with ztrace.span("b") as b:
            assert ztrace.current_span() is b
        assert ztrace.current_span() is a
    assert get_current() is None


def test_an_explicit_parent_is_used_instead_of_the_current_span(recorder: Recorder) -> None:
    """A span with an explicit parent takes the parent's trace id, span id and W3C state."""
    with ztrace.span("a"), ztrace.span("b", parent=REMOTE) as b:
        assert b.w3c == REMOTE.w3c
        with ztrace.span("c"):
            pass
    b_span = recorder.named("b")
    assert (b_span.trace_id, b_span.parent_id) == (REMOTE.trace_id, REMOTE.span_id)
    assert recorder.named("c").trace_id == REMOTE.trace_id
    assert recorder.named("a").trace_id != REMOTE.trace_id


def test_after_a_span_with_an_explicit_parent_all_is_as_before(recorder: Recorder) -> None:
    """A remote parent is not current during or after the span it was given to."""
    with ztrace.span("serve", parent=REMOTE):
        pass
    assert get_current() is None
    with ztrace.span("a") as a:
        with ztrace.span("b", parent=REMOTE):
            pass
        assert ztrace.current_span() is a


def test_a_parent_that_was_never_recorded_is_none(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent created before `configure` is ignored, and its child becomes a root."""
    with monkeypatch.context() as unconfigured:
        unconfigured.setattr(spans, "publisher", None)
        early = ztrace.span("early").start()
    with ztrace.span("late", parent=early):
        pass
    assert recorder.span.parent_id is None
    assert len(recorder.span.trace_id) == 16


def test_links_are_pairs_of_ids(recorder: Recorder) -> None:
    """A link is recorded as the linked trace id and span id."""
    with ztrace.span("a") as a:
        pass
    with ztrace.span("b", links=[REMOTE, a]):
        pass
    recorded = recorder.named("a")
    assert recorder.named("b").links == [
        [REMOTE.trace_id, REMOTE.span_id],
        [recorded.trace_id, recorded.span_id],
    ]


def test_an_exception_makes_an_error_and_goes_on(recorder: Recorder) -> None:
    """An uncaught exception is recorded, sets the status to error, and propagates unchanged."""
    error = ValueError("no")

    def fail() -> None:
        with ztrace.span("a"):
            raise error

    with pytest.raises(ValueError, match="no") as caught:
        fail()
    assert caught.value is error
    assert recorder.span.status == ERROR
    assert recorder.span.exception is not None
    assert tuple(recorder.span.exception[:2]) == ("ValueError", "no")


def test_an_exception_that_is_caught_inside_is_not_the_spans(recorder: Recorder) -> None:
    """An exception caught inside the span leaves its status ok."""
    with ztrace.span("a"):
        try:
            raise ValueError
        except ValueError:
            pass
    assert (recorder.span.status, recorder.span.exception) == (OK, None)


def test_start_and_end_by_hand(recorder: Recorder, clock: Clock) -> None:
    """A span can be started and ended without a block, and without becoming current."""
    span = ztrace.span("a").start(activate=False)
    assert get_current() is None
    clock.pass_ns(5)
    span.end(ValueError("late"))
    assert (recorder.span.duration_ns, recorder.span.status) == (5, ERROR)


def test_a_span_ended_twice_is_recorded_once(recorder: Recorder, clock: Clock) -> None:
    """A span ended twice is recorded once, as of the first end."""
    with ztrace.span("a") as span:
        span.end()
        clock.pass_ns(5)
        span.end(ValueError())
    assert (recorder.span.duration_ns, recorder.span.status) == (0, OK)


def test_a_span_started_twice_goes_on(recorder: Recorder, clock: Clock) -> None:
    """Entering the block of a running span does not start it again or make it its own parent."""
    with ztrace.span("a"):
        span = ztrace.span("b").start()
        clock.pass_ns(5)
        with span:
            clock.pass_ns(5)
    assert recorder.parents() == {"a": None, "b": "a"}
    assert recorder.named("b").duration_ns == 10
    assert recorder.named("a").self_ns == 0


def test_a_root_started_twice_ends(recorder: Recorder) -> None:
    """A root span started twice does not become its own parent."""
    with ztrace.span("a").start():
        pass
    assert recorder.span.parent_id is None


def test_a_span_can_be_used_again_once_it_has_ended(recorder: Recorder) -> None:
    """A span reused after its end becomes a new span below the then current one."""
    again = ztrace.span("again")
    for name in "ab":
        with ztrace.span(name), again:
            pass
    first, a, second, b = recorder.spans
    assert (first.parent_id, second.parent_id) == (a.span_id, b.span_id)
    assert first.span_id != second.span_id


def test_spans_that_end_in_the_wrong_order_keep_their_parents(recorder: Recorder) -> None:
    """An inner span stays current when its outer span ends first, and an ended span never becomes current."""
    with ztrace.span("root") as root:
        outer = ztrace.span("outer").start()
        inner = ztrace.span("inner").start()
        outer.end()
        assert ztrace.current_span() is inner
        inner.end()
        assert ztrace.current_span() is root
    assert recorder.parents() == {"root": None, "outer": "root", "inner": "outer"}


def test_a_root_that_ends_first_leaves_nothing_current(recorder: Recorder) -> None:
    """No span is current after a root and its child end in the wrong order."""
    outer = ztrace.span("outer").start()
    inner = ztrace.span("inner").start()
    outer.end()
    inner.end()
    assert get_current() is None


def test_a_span_that_ends_in_another_thread_leaves_that_threads_current(recorder: Recorder) -> None:
    """A span ended in another thread is recorded, and the current span of either thread is unchanged."""
    span = ztrace.span("here").start()
    found: list[object] = []

    def end() -> None:
        with ztrace.span("there") as there:
            span.end()
            found.append(ztrace.current_span() is there)

    in_thread(end)
    assert found == [True]
    assert ztrace.current_span() is span
    make_current(None)
    assert recorder.parents() == {"here": None, "there": None}


def test_self_time_is_what_no_child_covers(recorder: Recorder, clock: Clock) -> None:
    """Self time is the duration less that of sequential and nested children, each subtracted once."""
    with ztrace.span("a"):
        clock.pass_ns(1)
        with ztrace.span("b"):
            clock.pass_ns(20)
            with ztrace.span("c"):
                clock.pass_ns(300)
        clock.pass_ns(4000)
        with ztrace.span("d"):
            clock.pass_ns(50_000)
    self_ns = {span.name: span.self_ns for span in recorder.spans}
    assert self_ns == {"a": 4001, "b": 20, "c": 300, "d": 50_000}


def test_overlapping_children_are_counted_once(recorder: Recorder, clock: Clock) -> None:
    """Time covered by two concurrent children is subtracted once."""
    with ztrace.span("a") as a:
        b = ztrace.span("b", parent=a).start(activate=False)
        clock.pass_ns(10)
        c = ztrace.span("c", parent=a).start(activate=False)
        clock.pass_ns(10)
        b.end()
        clock.pass_ns(10)
        c.end()
        clock.pass_ns(5)
    assert recorder.named("a").self_ns == 5


def test_a_child_that_outlives_its_parent_covers_it_to_its_end(recorder: Recorder, clock: Clock) -> None:
    """A child's time after its parent's end is not subtracted from the parent's self time."""
    with ztrace.span("a") as a:
        clock.pass_ns(3)
        child = ztrace.span("child", parent=a).start(activate=False)
        clock.pass_ns(10)
    clock.pass_ns(100)
    child.end()
    assert recorder.named("a").self_ns == 3
    assert recorder.named("child").duration_ns == 110


def test_a_child_that_begins_while_its_parent_ends_takes_nothing_off(
    recorder: Recorder, clock: Clock
) -> None:
    """A child started in another thread after the parent's last clock reading reduces no self time."""
    with ztrace.span("a") as a:
        clock.pass_ns(10)

        def begin_child() -> None:
            clock.pass_ns(7)
            ztrace.span("child", parent=a).start(activate=False)

        clock.meanwhile = begin_child
    assert (recorder.named("a").duration_ns, recorder.named("a").self_ns) == (10, 10)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8),
    st.integers(0, 60),
    st.integers(0, 5),
)
def test_self_time_is_the_parent_less_the_union_of_its_children(
    intervals: list[tuple[int, int]], parent_ns: int, begin_ns: int
) -> None:
    """Self time is the duration less the union of the children's intervals, however they overlap."""
    children = [(begin_ns + min(pair), begin_ns + max(pair)) for pair in intervals]
    children = [(start, end) for start, end in children if start <= parent_ns]
    covered = set[int]().union(*(range(start, min(end, parent_ns)) for start, end in children))
    with recording() as (recorder, clock):
        at_start: dict[int, list[int]] = {}
        at_end: dict[int, list[int]] = {}
        for number, (start, end) in enumerate(children):
            at_start.setdefault(start, []).append(number)
            at_end.setdefault(end, []).append(number)
        open_spans: dict[int, ztrace.Span] = {}
        parent = ztrace.span("parent").start(activate=False)
        for moment in range(max([parent_ns, *(end for _, end in children)]) + 1):
            for number in at_start.get(moment, ()):
                open_spans[number] = ztrace.span(f"child {number}", parent=parent).start(activate=False)
            for number in at_end.get(moment, ()):
                open_spans[number].end()
            if moment == parent_ns:
                parent.end()
            clock.pass_ns(1)
        assert recorder.named("parent").self_ns == parent_ns - len(covered)
        assert len(recorder.spans) == 1 + len(children)


def test_threads_have_their_own_current_span(recorder: Recorder) -> None:
    """Concurrent threads have separate current spans."""
    together = threading.Barrier(4)

    def work(number: int) -> None:
        with ztrace.span(f"outer {number}"):
            together.wait(DEADLINE_S)
            with ztrace.span(f"inner {number}"):
                together.wait(DEADLINE_S)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    with ztrace.span("main"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
    expected = {f"inner {number}": f"outer {number}" for number in range(4)}
    assert recorder.parents() == expected | {f"outer {n}": None for n in range(4)} | {"main": None}


def test_a_span_can_be_handed_to_a_thread(recorder: Recorder) -> None:
    """A span passed to a thread as parent has the thread's spans as children."""
    with ztrace.span("main") as main:

        def work() -> None:
            with ztrace.span("work", parent=main):
                pass

        in_thread(work)
    assert recorder.parents() == {"work": "main", "main": None}


def test_many_threads_lose_no_span(recorder: Recorder) -> None:
    """Concurrent threads with a common parent lose no span and leave the parent no open child."""
    with ztrace.span("main") as main:

        def work() -> None:
            for _ in range(300):
                with ztrace.span("outer", parent=main), ztrace.span("inner"):
                    pass

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert main.open_children == 0
    outer = {span.span_id for span in recorder.spans if span.name == "outer"}
    inner = [span for span in recorder.spans if span.name == "inner"]
    assert (len(outer), len(inner)) == (2400, 2400)
    assert {span.parent_id for span in inner} == outer


def test_gathered_tasks_are_children_of_who_gathers(recorder: Recorder) -> None:
    """Gathered tasks have separate current spans below the span that started them."""

    async def work(number: int) -> None:
        with ztrace.span(f"outer {number}"):
            await asyncio.sleep(0)
            with ztrace.span(f"inner {number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        with ztrace.span("main") as span:
            await asyncio.gather(*map(work, range(3)))
            assert ztrace.current_span() is span

    asyncio.run(main())
    expected = {f"inner {number}": f"outer {number}" for number in range(3)}
    assert recorder.parents() == expected | {f"outer {n}": "main" for n in range(3)} | {"main": None}


def test_a_task_that_outlives_its_span_stays_in_the_trace(recorder: Recorder, clock: Clock) -> None:
    """A task's span is a child of the span that started the task, even after that span has ended."""

    async def work(begun: asyncio.Event, go_on: asyncio.Event) -> None:
        begun.set()
        await go_on.wait()
        with ztrace.span("task"):
            clock.pass_ns(50)

    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        with ztrace.span("main"):
            task = asyncio.create_task(work(begun, go_on))
            await begun.wait()
            clock.pass_ns(5)
        assert get_current() is None
        go_on.set()
        await task

    asyncio.run(main())
    assert recorder.parents() == {"main": None, "task": "main"}
    assert (recorder.named("main").self_ns, recorder.named("task").duration_ns) == (5, 50)


def test_a_cancelled_task_ends_its_span(recorder: Recorder) -> None:
    """Cancelling a task ends its span with the cancellation as exception."""

    async def work() -> None:
        with ztrace.span("work"):
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert recorder.span.status == ERROR
    assert recorder.span.exception is not None
    assert recorder.span.exception[0] == "asyncio.exceptions.CancelledError"


def test_greenlets_have_their_own_current_span(recorder: Recorder) -> None:
    """Concurrent greenlets have separate current spans."""
    go_on = gevent.event.Event()

    def work(number: int) -> None:
        with ztrace.span(f"outer {number}"):
            go_on.wait(DEADLINE_S)
            with ztrace.span(f"inner {number}"):
                gevent.sleep(0)

    greenlets = [gevent.spawn(work, number) for number in range(3)]
    with ztrace.span("main") as main:
        gevent.sleep(0)
        go_on.set()
        gevent.joinall(greenlets, timeout=DEADLINE_S, raise_error=True)
        assert ztrace.current_span() is main
    parents = recorder.parents()
    assert {name: parent for name, parent in parents.items() if name.startswith("inner")} == {
        f"inner {number}": f"outer {number}" for number in range(3)
    }
    assert len(parents) == 7


def test_a_killed_greenlet_ends_its_span(recorder: Recorder) -> None:
    """Killing a greenlet ends its span with the exception of the kill."""

    def work() -> None:
        with ztrace.span("work"):
            gevent.sleep(DEADLINE_S)

    greenlet = gevent.spawn(work)
    gevent.sleep(0)
    greenlet.kill()
    assert recorder.span.exception is not None
    assert recorder.span.exception[0] == "greenlet.GreenletExit"


def test_unconfigured_nothing_is_recorded_and_all_goes_on(counts: dict[str, int]) -> None:
    """Without a publisher, blocks run, exceptions propagate, and no span becomes current."""
    assert spans.publisher is None

    def fail() -> None:
        with ztrace.span("a", card="visa", links=[REMOTE]) as span, ztrace.span("b", parent=span) as inner:
            span.set(amount=1)
            assert get_current() is None
            assert (repr(inner), span.trace_id) == ("<Span  >", b"")
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert counts == {}


def test_a_span_whose_publisher_has_gone_is_not_recorded(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span open across `shutdown` is not recorded by the next publisher, and restores the current span."""
    after = Recorder()
    with ztrace.span("a"):
        monkeypatch.setattr(spans, "publisher", after)
    assert recorder.spans == after.spans == []
    assert get_current() is None


def test_without_room_the_publisher_decides(recorder: Recorder) -> None:
    """A span that exceeds the room of the queue is passed to `overflow` once."""
    recorder.room = 1
    for name in "ab":
        with ztrace.span(name):
            pass
    assert [span.name for span in recorder.spans] == ["a"]
    assert [record[4] for record in recorder.overflown] == ["b"]


class Awkward:
    """Value whose comparison, truth, hash and text all raise."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize("name", [None, 5, b"bytes", "", "\ud800", Awkward(), "x" * 100_000])
def test_any_name_is_recorded(recorder: Recorder, name: Any) -> None:
    """A span's name is recorded as given, whatever its type; encoding corrects it later."""
    with ztrace.span(name, value=Awkward()):
        pass
    assert recorder.span.name is name


@pytest.mark.parametrize("kind", ["nonsense", 2, [], {}, Awkward()])
def test_a_kind_that_is_none_is_an_attribute(recorder: Recorder, kind: Any) -> None:
    """An unknown kind, hashable or not, is an attribute of an internal span."""
    with ztrace.span("a", kind=kind):
        pass
    assert recorder.span.kind == KIND_NUMBERS["internal"]
    assert recorder.span.attributes is not None
    assert recorder.span.attributes["kind"] is kind


@pytest.mark.parametrize("parent", [5, "text", [], object(), Awkward()])
def test_a_parent_that_is_none_is_an_attribute(recorder: Recorder, parent: Any) -> None:
    """A parent that is no context is an attribute, and the span is a child of the current one."""
    with ztrace.span("outer"), ztrace.span("a", parent=parent) as span:
        assert ztrace.current_span() is span
    assert recorder.parents() == {"outer": None, "a": "outer"}
    attributes = recorder.named("a").attributes
    assert attributes is not None
    assert attributes["parent"] is parent


@pytest.mark.parametrize("links", [5, "text", ["text"], {"a": REMOTE}, [REMOTE, 5], Awkward()])
def test_links_that_are_none_are_an_attribute(recorder: Recorder, links: Any) -> None:
    """Links with anything but contexts are an attribute, and the contexts among them are links."""
    with ztrace.span("a", links=links):
        pass
    found = isinstance(links, list) and REMOTE in links
    assert recorder.span.links == ([[REMOTE.trace_id, REMOTE.span_id]] if found else None)
    assert recorder.span.attributes is not None
    assert recorder.span.attributes["links"] is links


@pytest.mark.parametrize("links", [REMOTE, (REMOTE,), {REMOTE}, iter([REMOTE]), [None, REMOTE]])
def test_links_may_be_a_context_or_any_iterable(recorder: Recorder, links: Any) -> None:
    """A single context, and any iterable of contexts and None, is taken for links."""
    with ztrace.span("a", links=links):
        pass
    assert recorder.span.links == [[REMOTE.trace_id, REMOTE.span_id]]
    assert recorder.span.attributes is None


def test_what_is_not_given_is_no_attribute(recorder: Recorder) -> None:
    """None, and empty links, are neither links nor attributes."""
    unset: Any = None
    with ztrace.span("a", kind=unset, parent=unset, links=[]):
        pass
    assert (recorder.span.links, recorder.span.attributes) == (None, None)


def test_links_to_what_was_not_recorded_are_left_out(recorder: Recorder) -> None:
    """Links to spans that never started, or did not record, are left out, and the span is recorded."""
    with ztrace.span("a", links=[ztrace.span("never"), ztrace.current_span(), REMOTE]):
        pass
    assert recorder.span.links == [[REMOTE.trace_id, REMOTE.span_id]]


def test_the_current_span_takes_attributes_wherever_it_is_asked_for(recorder: Recorder) -> None:
    """Outside any span, and under an extracted context, `current_span` gives an object that `set` does
    nothing on.
    """
    nowhere = ztrace.current_span()
    nowhere.set(x=1)
    assert (nowhere.trace_id, nowhere.span_id, nowhere.ended) == (b"", b"", True)
    make_current(REMOTE)
    assert ztrace.current_span() is REMOTE
    ztrace.current_span().set(x=1)
    make_current(None)
    with ztrace.span("a", parent=nowhere):
        ztrace.current_span().set(y=2)
    assert (recorder.span.parent_id, recorder.span.attributes) == (None, {"y": 2})


def test_a_span_used_again_has_attributes_of_its_own(recorder: Recorder) -> None:
    """Each use of a span begins with the attributes it was made with, and keeps what was set during it."""
    poll = ztrace.span("poll", queue="in")
    for turn in range(3):
        with poll:
            if turn:
                poll.set(turn=turn, queue=str(turn))
                poll.set(last=turn == 2)
    assert [span.attributes for span in recorder.spans] == [
        {"queue": "in"},
        {"queue": "1", "turn": 1, "last": False},
        {"queue": "2", "turn": 2, "last": True},
    ]


def test_a_span_used_again_keeps_its_kind_parent_and_links(recorder: Recorder, clock: Clock) -> None:
    """Each use of a server span has the given parent and links, and ends with its own reply."""
    serve = ztrace.span("serve", kind="server", parent=REMOTE, links=[REMOTE])
    for _ in range(2):
        with serve:
            clock.pass_ns(5)
            clock.cpu_ns += 3
            assert serve.reply() == 5
            clock.pass_ns(100)
    for span in recorder.spans:
        assert (span.parent_id, span.links) == (REMOTE.span_id, [[REMOTE.trace_id, REMOTE.span_id]])
        assert (span.duration_ns, span.cpu_ns) == (5, 3)


def test_reply_harms_no_other_span(recorder: Recorder, clock: Clock) -> None:
    """A span that is not a server's ends at its end, and one that was never started has no duration."""
    assert ztrace.span("never").reply() == 0
    with ztrace.span("a") as span:
        clock.pass_ns(5)
        assert span.reply() == 5
        clock.pass_ns(5)
    assert recorder.span.duration_ns == 10


def test_a_span_that_was_never_started_can_be_ended_and_shown(recorder: Recorder) -> None:
    """A span that was never started records nothing on `end`, and has a representation."""
    span = ztrace.span("a")
    span.end()
    assert repr(span) == "<Span>"
    assert recorder.spans == []


def test_a_context_shows_its_ids(recorder: Recorder) -> None:
    """The representation of a context shows its ids."""
    assert repr(REMOTE) == f"<SpanContext {REMOTE.trace_id.hex()} {REMOTE.span_id.hex()}>"


def fail() -> int:
    """Fail as code of ztrace's own may."""
    raise RuntimeError


def test_a_failure_is_logged_once(
    recorder: Recorder,
    counts: dict[str, int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first failure of a kind is logged with its traceback, and later ones are only counted."""
    monkeypatch.setattr(spans, "perf_counter_ns", fail)
    for _ in range(3):
        with ztrace.span("a"):
            pass
    assert counts.pop("span_start") == 3
    (logged,) = caplog.records
    assert logged.exc_info


def test_a_logger_that_fails_does_no_harm(
    recorder: Recorder, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logging filter that raises does not break the traced program."""

    def refuse(record: logging.LogRecord) -> bool:
        raise RuntimeError

    monkeypatch.setattr(spans, "perf_counter_ns", fail)
    logger = logging.getLogger("ztrace")
    logger.addFilter(refuse)
    try:
        with ztrace.span("a"):
            pass
    finally:
        logger.removeFilter(refuse)
    assert counts.pop("span_start") == 1


def in_thread(work: Callable[[], None]) -> None:
    """Run `work` to its end in a new thread."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


@contextmanager
def recording() -> Iterator[tuple[Recorder, Clock]]:
    """Record spans as the fixtures do, separately for each of hypothesis's examples."""
    recorder, clock = Recorder(), Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "publisher", recorder)
        patch.setattr(spans, "perf_counter_ns", clock.read)
        yield recorder, clock


def test_a_task_that_outlives_its_span_stays_in_its_trace(recorder: Recorder) -> None:
    """All consecutive spans of a task are children of the span in which the task was started."""

    async def work() -> None:
        await asyncio.sleep(0)
        for name in ("first", "second"):
            with ztrace.span(name):
                await asyncio.sleep(0)

    async def request() -> None:
        with ztrace.span("request"):
            task = asyncio.create_task(work())
        await task

    asyncio.run(request())
    root, *children = recorder.spans
    assert [(each.name, each.parent_id) for each in children] == [
        ("first", root.span_id),
        ("second", root.span_id),
    ]
