"""Context shared with OpenTelemetry: parents in any nesting, and no context left over."""

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as context_api
from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import ztrace
import ztrace.otel
from tests.ztrace.programs import run_program
from tests.ztrace.recording import Clock, Recorder, record_of
from ztrace.context import get_current, make_current
from ztrace.records import PASSED, RAISED

pytestmark = pytest.mark.usefixtures("connected")


class Tree:
    """Spans recorded by both tracers, by name."""

    def __init__(self, recorder: Recorder, exported: InMemorySpanExporter) -> None:
        self._recorder = recorder
        self._exported = exported

    def parents(self) -> dict[str, str | None]:
        """Return each span's parent by name, and assert that all spans belong to one trace."""
        found: dict[tuple[int, str], int | None] = {}
        traces = set()
        for span in self._recorder.spans:
            parent = None if span.parent_id is None else int.from_bytes(span.parent_id)
            found[int.from_bytes(span.span_id), span.name] = parent
            traces.add(int.from_bytes(span.trace_id))
        for ended in self._exported.get_finished_spans():
            context = ended.get_span_context()
            assert context is not None
            found[context.span_id, ended.name] = None if ended.parent is None else ended.parent.span_id
            traces.add(context.trace_id)
        assert len(traces) == 1
        by_id = dict(list(found))
        return {name: None if parent is None else by_id[parent] for (_, name), parent in found.items()}


@pytest.fixture
def tree(recorder: Recorder, exported: InMemorySpanExporter) -> Tree:
    """Return the tree recorded by this test."""
    return Tree(recorder, exported)


def test_any_nesting_is_one_tree(tree: Tree, tracer: trace.Tracer) -> None:
    """Spans of both tracers, nested in any order, have the span around them as parent."""
    with ztrace.span("z1"), tracer.start_as_current_span("o1"), tracer.start_as_current_span("o2"):
        with ztrace.span("z2"), ztrace.span("z3"):
            with tracer.start_as_current_span("o3"):
                pass
            with tracer.start_as_current_span("o4"), ztrace.span("z4"):
                pass
        with ztrace.span("z5"):
            pass
    assert tree.parents() == {
        "z1": None,
        "o1": "z1",
        "o2": "o1",
        "z2": "o2",
        "z3": "z2",
        "o3": "z3",
        "o4": "z3",
        "z4": "o4",
        "z5": "o2",
    }


def test_opentelemetry_may_be_the_root(tree: Tree, tracer: trace.Tracer) -> None:
    """An OpenTelemetry root gives ztrace's spans its trace id, and flags and tracestate are passed on."""
    with tracer.start_as_current_span("o1") as outer, ztrace.span("z1"):
        carrier: dict[str, str] = {}
        ztrace.inject(carrier)
        with tracer.start_as_current_span("o2"):
            pass
    assert tree.parents() == {"o1": None, "z1": "o1", "o2": "z1"}
    assert carrier["traceparent"].startswith(f"00-{outer.get_span_context().trace_id:032x}-")


def test_connecting_twice_is_connecting_once() -> None:
    """A second `connect` changes nothing."""
    runtime = context_api._RUNTIME_CONTEXT
    ztrace.otel.connect()
    assert context_api._RUNTIME_CONTEXT is runtime


def test_a_span_that_is_not_current_is_nobodys_parent(tree: Tree, tracer: trace.Tracer) -> None:
    """A span started without becoming current is no parent, in either tracer."""
    with ztrace.span("z1"):
        beside = tracer.start_span("o1")
        other = ztrace.span("z2").start(activate=False)
        with ztrace.span("z3"):
            pass
        with tracer.start_as_current_span("o2"):
            pass
        other.end()
        beside.end()
    assert tree.parents() == {"z1": None, "o1": "z1", "z2": "z1", "z3": "z1", "o2": "z1"}


def test_a_span_that_ends_out_of_order_leaves_nothing(tree: Tree, tracer: trace.Tracer) -> None:
    """Spans of both tracers that end out of order leave the running span current, or none."""
    outer = ztrace.span("z1").start()
    token = context_api.attach(trace.set_span_in_context(first := tracer.start_span("o1")))
    outer.end()
    with ztrace.span("z2"):
        pass
    context_api.detach(token)
    first.end()
    assert get_current() is None
    token = context_api.attach(trace.set_span_in_context(first))
    inner = ztrace.span("z3").start()
    context_api.detach(token)
    assert ztrace.current_span() is inner
    with tracer.start_as_current_span("o2"):
        pass
    inner.end()
    assert tree.parents() == {"z1": None, "o1": "z1", "z2": "o1", "z3": "o1", "o2": "z3"}


def test_a_context_detached_twice_or_elsewhere_is_as_without_ztrace(
    recorder: Recorder, tracer: trace.Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    """A context detached twice or elsewhere is logged by OpenTelemetry and leaves ztrace's span current."""
    with ztrace.span("z1") as outer:
        token = context_api.attach(trace.set_span_in_context(tracer.start_span("o1")))
        context_api.detach(token)
        with caplog.at_level(logging.CRITICAL, "opentelemetry.context"):
            context_api.detach(token)
        assert ztrace.current_span() is outer

        async def elsewhere() -> None:
            with caplog.at_level(logging.CRITICAL, "opentelemetry.context"):
                context_api.detach(token)
            assert ztrace.current_span() is outer

        token = context_api.attach(trace.set_span_in_context(tracer.start_span("o2")))
        asyncio.run(elsewhere())
        context_api.detach(token)
        assert ztrace.current_span() is outer


def test_an_empty_context_begins_a_new_trace(recorder: Recorder, tracer: trace.Tracer) -> None:
    """An empty context, attached as for a request without headers, starts a new trace."""
    with ztrace.span("z1") as outer:
        token = context_api.attach(Context())
        with ztrace.span("z2"):
            pass
        left = ztrace.span("z3").start()
        context_api.detach(token)
        assert ztrace.current_span() is left
        left.end()
        assert ztrace.current_span() is outer
    assert recorder.parents() == {"z2": None, "z3": None, "z1": None}


def test_the_rest_of_a_context_is_opentelemetrys(tree: Tree, tracer: trace.Tracer) -> None:
    """Baggage is visible within ztrace's spans, and setting it changes no parent."""
    with tracer.start_as_current_span("o1"), ztrace.span("z1") as span:
        token = context_api.attach(baggage.set_baggage("user", "ada"))
        assert ztrace.current_span() is span
        with ztrace.span("z2"):
            assert baggage.get_baggage("user") == "ada"
        context_api.detach(token)
        assert baggage.get_baggage("user") is None
    assert tree.parents() == {"o1": None, "z1": "o1", "z2": "z1"}


def run_in_thread(work: Callable[[], object]) -> None:
    """Run `work` to its end in a new thread."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_thread_has_what_is_given_to_it(tree: Tree, tracer: trace.Tracer) -> None:
    """A thread starts without a current span, and an OpenTelemetry context attached there has ztrace's."""

    def work() -> None:
        assert get_current() is None
        token = context_api.attach(carried)
        with ztrace.span("z2"), tracer.start_as_current_span("o2"):
            pass
        context_api.detach(token)
        assert get_current() is None

    with tracer.start_as_current_span("o1"), ztrace.span("z1"):
        carried = context_api.get_current()
        run_in_thread(work)
    assert tree.parents() == {"o1": None, "z1": "o1", "z2": "z1", "o2": "z2"}


def test_tasks_have_their_own(tree: Tree, tracer: trace.Tracer) -> None:
    """Alternating tasks keep the spans in which they were started, even after these have ended."""

    async def work(number: int) -> None:
        for turn in range(3):
            with ztrace.span(f"z{number}{turn}"):
                await asyncio.sleep(0)
                with tracer.start_as_current_span(f"o{number}{turn}"):
                    await asyncio.sleep(0)

    async def main() -> None:
        with tracer.start_as_current_span("o"):
            first = asyncio.create_task(work(1))
            with ztrace.span("z"):
                second = asyncio.create_task(work(2))
        await asyncio.gather(first, second)

    asyncio.run(main())
    expected: dict[str, str | None] = {"o": None, "z": "o"}
    for turn in range(3):
        expected |= {f"z1{turn}": "o", f"o1{turn}": f"z1{turn}", f"z2{turn}": "z", f"o2{turn}": f"z2{turn}"}
    assert tree.parents() == expected


def test_time_in_a_child_of_opentelemetrys_is_not_own_time(
    recorder: Recorder, tracer: trace.Tracer, clock: Clock
) -> None:
    """Time in an OpenTelemetry child is subtracted from a span's self time once, however children overlap."""
    with ztrace.span("z1"):
        clock.pass_ns(10)
        with tracer.start_as_current_span("o1") as child:
            clock.pass_ns(100)
            with ztrace.span("z2"):
                clock.pass_ns(1000)
            with trace.use_span(child):  # The child is made current again and not started again.
                clock.pass_ns(1)
        clock.pass_ns(20)
    assert (recorder.named("z1").self_ns, recorder.named("z1").duration_ns) == (30, 1131)
    assert recorder.named("z2").self_ns == 1000


def test_time_of_spans_that_are_no_children_is_own_time(
    recorder: Recorder, tracer: trace.Tracer, clock: Clock
) -> None:
    """Foreign and unrecorded spans made current do not reduce a span's self time."""
    foreign = tracer.start_span("o1", context=Context())
    with ztrace.span("z1"), trace.use_span(foreign), trace.use_span(trace.INVALID_SPAN):
        clock.pass_ns(10)
    assert recorder.named("z1").self_ns == 10


def test_an_unsampled_parent_is_kept_and_all_of_ztraces_spans_are_recorded(recorder: Recorder) -> None:
    """An unsampled OpenTelemetry parent passes on its trace id and flags, and ztrace's spans are recorded."""
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("tests")
    with tracer.start_as_current_span("o1") as unsampled:
        context = unsampled.get_span_context()
        with ztrace.span("z1"):
            carrier: dict[str, str] = {}
            ztrace.inject(carrier)
            assert not trace.get_current_span().get_span_context().trace_flags.sampled
    span = recorder.span
    assert int.from_bytes(span.trace_id) == context.trace_id
    assert span.parent_id == context.span_id.to_bytes(8)
    assert int(carrier["traceparent"][-2:], 16) & 1 == 0


def fail() -> None:
    """Raise an error within the innermost span."""
    raise ValueError("no")


def test_an_exception_passes_both_and_keeps_its_origin(
    recorder: Recorder, tracer: trace.Tracer, exported: InMemorySpanExporter
) -> None:
    """An exception through both tracers has its origin in ztrace's span, and OpenTelemetry's names it."""
    with (
        pytest.raises(ValueError, match="no"),
        ztrace.span("z1"),
        tracer.start_as_current_span("o1"),
        ztrace.span("z2"),
    ):
        fail()
    inner, outer = record_of(recorder, "z2"), record_of(recorder, "z1")
    origin = recorder.named("z2")
    assert (inner.how, outer.how) == (RAISED, PASSED)
    assert (outer.origin_trace_id, outer.origin_span_id) == (origin.trace_id, origin.span_id)
    (passed,) = exported.get_finished_spans()
    assert passed.attributes == {
        "ztrace.exception.how": PASSED,
        "ztrace.exception.origin.trace_id": origin.trace_id.hex(),
        "ztrace.exception.origin.span_id": origin.span_id.hex(),
    }
    assert [event.name for event in passed.events] == ["exception"]


def test_an_exception_that_began_in_opentelemetrys_span_begins_in_the_first_of_ztraces(
    recorder: Recorder, tracer: trace.Tracer, exported: InMemorySpanExporter
) -> None:
    """An exception raised within OpenTelemetry's span has its origin in the first ztrace span it leaves."""
    with pytest.raises(ValueError, match="no"), ztrace.span("z1"), tracer.start_as_current_span("o1"):
        fail()
    assert record_of(recorder, "z1").how == RAISED
    (span,) = exported.get_finished_spans()
    assert not span.attributes


def test_a_span_that_ends_well_while_an_exception_is_handled_is_told_nothing(
    recorder: Recorder, tracer: trace.Tracer, exported: InMemorySpanExporter
) -> None:
    """An OpenTelemetry span that ends normally in an exception handler has no exception attributes."""
    with ztrace.span("z1"):
        try:
            with ztrace.span("z2"):
                fail()
        except ValueError:
            with tracer.start_as_current_span("o1"):
                pass
    (span,) = exported.get_finished_spans()
    assert not span.attributes


def test_what_a_carrier_brought_is_a_remote_parent(recorder: Recorder, tracer: trace.Tracer) -> None:
    """An extracted context made current is a remote parent in OpenTelemetry."""
    make_current(ztrace.extract({"traceparent": f"00-{1:032x}-{2:016x}-01", "tracestate": "a=b"}))
    context = trace.get_current_span().get_span_context()
    make_current(None)
    assert (context.trace_id, context.span_id, context.is_remote) == (1, 2, True)
    assert context.trace_state.to_header() == "a=b"


def test_unconfigured_opentelemetry_is_as_without_ztrace(
    tracer: trace.Tracer, exported: InMemorySpanExporter
) -> None:
    """Unconfigured ztrace spans are no parents of OpenTelemetry's."""
    with tracer.start_as_current_span("o1") as outer, ztrace.span("z1"):
        assert trace.get_current_span() is outer
        with tracer.start_as_current_span("o2"):
            pass
    inner, _ = exported.get_finished_spans()
    assert inner.parent == outer.get_span_context()


@pytest.mark.process
def test_greenlets_have_their_own() -> None:
    """Under gevent's patches, greenlets start without a current span and do not mix their contexts."""
    done = run_program(
        "import gevent.monkey; gevent.monkey.patch_all()\n"
        "import gevent, ztrace, ztrace.otel\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "ztrace.configure('green', 'tcp://127.0.0.1:9')\n"
        "ztrace.otel.connect()\n"
        "tracer = TracerProvider(shutdown_on_exit=False).get_tracer('t')\n"
        "def work(number):\n"
        "    assert not ztrace.current_span().trace_id\n"
        "    assert not trace.get_current_span().get_span_context().is_valid\n"
        "    for _ in range(3):\n"
        "        with ztrace.span('z') as outer:\n"
        "            gevent.sleep(0)\n"
        "            with tracer.start_as_current_span('o') as middle:\n"
        "                assert middle.parent.span_id == int.from_bytes(outer.span_id)\n"
        "                gevent.sleep(0)\n"
        "                with ztrace.span('y') as inner:\n"
        "                    assert inner.trace_id == outer.trace_id\n"
        "                    gevent.sleep(0)\n"
        "                    assert ztrace.current_span() is inner\n"
        "with tracer.start_as_current_span('main'):\n"
        "    jobs = [gevent.spawn(work, number) for number in range(10)]\n"
        "    gevent.joinall(jobs, raise_error=True)\n"
        "assert not ztrace.current_span().trace_id\n"
        "ztrace.shutdown(0)\n"
    )
    assert done.stdout == ""
