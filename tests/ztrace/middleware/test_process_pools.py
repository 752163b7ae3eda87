"""Tasks of process pools as calls: fork, spawn and forkserver, and peers that are not traced."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import pytest

from tests.ztrace.middleware import pooling
from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import wait_for
from ztrace.middleware.tasks import Task, new_call
from ztrace.records import KIND_NUMBERS, PASSED, RAISED, ExceptionRecord, FrameRecord, Span

CLIENT, SERVER = KIND_NUMBERS["client"], KIND_NUMBERS["server"]
PRODUCER, CONSUMER = KIND_NUMBERS["producer"], KIND_NUMBERS["consumer"]

#: Client spans of the program by the scenario within whose span they are, with the spans of their tasks.
CALLS = {
    "submit": ("double", 1),
    "keyword": ("double", 1),
    "method": ("Order.place", 1),
    "map": ("double", 1),
    "error": ("refuse", 1),
    "unpicklable": ("make_unpicklable", 1),
    "unpicklable task": ("use_executor.<locals>.<lambda>.<locals>.<lambda>", 0),
    "broken": ("leave", 0),
    "apply": ("double", 1),
    "apply_async": ("double", 1),
    "pool map": ("double", 2),
    "empty map": ("double", 0),
    "starmap": ("double", 1),
    "pool error": ("refuse", 1),
    "map error": ("refuse", 1),
    "pool unpicklable": ("make_unpicklable", 1),
}
#: Producer spans likewise.
MESSAGES = {"imap": ("double", 2), "imap_unordered": ("double", 2), "imap error": ("refuse", 1)}
ERRORS = ("error", "pool error", "map error", "imap error")


def run(method: str, endpoint: str, traced: str) -> list[str]:
    """Run the program, and return what it prints."""
    code = "import sys; from tests.ztrace.middleware.pooling import main; main(*sys.argv[1:])"
    done = run_program(code, method, endpoint, traced)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def untraced() -> list[str]:
    """Return the output of the program without ztrace."""
    lines = run("fork", "tcp://127.0.0.1:9", "neither")
    assert len(lines) > len(CALLS)
    return lines


@pytest.fixture
def collector(receiver: Receiver) -> Iterator[Receiver]:
    """Yield the receiver, which has every span of the program once the program has ended."""
    yield receiver
    assert all(header.dropped == 0 for header, _ in receiver.messages)


def of(spans: list[Span], parent: Span | None, kind: int) -> list[Span]:
    """Return the children of a span that are of a kind."""
    found = [span for span in spans if span.kind == kind]
    return [span for span in found if span.parent_id == (parent.span_id if parent else None)]


def scenario(spans: list[Span], name: str) -> Span:
    """Return the span of a scenario."""
    (span,) = (span for span in spans if span.name == name and span.parent_id is None)
    return span


@pytest.mark.process
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_task_is_a_call_to_another_process(collector: Receiver, untraced: list[str], method: str) -> None:
    """Each task is a server span below the client span of its submission, and the answers are the same."""
    assert run(method, collector.endpoint, "both") == untraced
    spans = collector.spans
    for name, (task, count) in CALLS.items():
        (client,) = of(spans, scenario(spans, name), CLIENT)
        served = of(spans, client, SERVER)
        assert (client.name, [span.name for span in served]) == (task, [task] * count), name
        assert client.attributes == {"rpc.system.name": "multiprocessing"}
        for span in served:
            assert span.trace_id == client.trace_id
            assert span.attributes == {"rpc.system.name": "multiprocessing"}
            assert client.start_ns <= span.start_ns
            if client.exception is None:
                assert (client.self_ns or 0) + (span.duration_ns or 0) <= (client.duration_ns or 0)
        inner = [each for span in served for each in of(spans, span, KIND_NUMBERS["internal"])]
        assert len(inner) == (task == "double") * {"map": 2, "pool map": 3}.get(name, count), name
    for name, (task, count) in MESSAGES.items():
        (producer,) = of(spans, scenario(spans, name), PRODUCER)
        consumed = of(spans, producer, CONSUMER)
        assert (producer.name, [span.name for span in consumed]) == (task, [task] * count), name
        assert all(span.links == [[producer.trace_id, producer.span_id]] for span in consumed)
    for name in ERRORS:
        assert_origin(spans, name)
    (broken,) = of(spans, scenario(spans, "broken"), CLIENT)
    assert broken.exception is not None
    assert ExceptionRecord(*broken.exception).type == "concurrent.futures.process.BrokenProcessPool"
    lost = [ExceptionRecord(*span.exception).type for span in spans if span.exception is not None]
    assert lost.count("concurrent.futures._base.CancelledError") == 1


def assert_origin(spans: list[Span], name: str) -> None:
    """Assert that an exception of a task has its origin there, with its frames, and is passed further out."""
    outer = scenario(spans, name)
    call = next(span for span in spans if span.parent_id == outer.span_id)
    (served,) = (span for span in spans if span.parent_id == call.span_id)
    assert served.exception is not None
    origin = ExceptionRecord(*served.exception)
    assert (origin.type, origin.message, origin.how) == ("KeyError", "'piano'", RAISED)
    frames = [FrameRecord(*frame) for frame in origin.frames]
    assert [(frame.function, frame.code) for frame in frames if frame.in_app] == [("refuse", "raise error")]
    for span in (call, outer):
        if span.kind != PRODUCER:
            assert span.exception is not None
            passed = ExceptionRecord(*span.exception)
            assert (passed.how, passed.origin_span_id) == (PASSED, served.span_id), span.name


@pytest.mark.process
def test_a_child_that_records_nothing(collector: Receiver, untraced: list[str]) -> None:
    """Without recording in the children, there are client spans only, and errors have their origin there."""
    assert run("fork", collector.endpoint, "parent") == untraced
    spans = collector.spans
    assert not [span for span in spans if span.kind in (SERVER, CONSUMER)]
    for name, (task, _) in CALLS.items():
        (client,) = of(spans, scenario(spans, name), CLIENT)
        assert client.name == task
    (client,) = of(spans, scenario(spans, "error"), CLIENT)
    assert client.exception is not None
    assert ExceptionRecord(*client.exception).how == RAISED


@pytest.mark.process
def test_a_parent_that_records_nothing(collector: Receiver, untraced: list[str]) -> None:
    """Without recording in the parent, the children's spans are traces of their own."""
    assert run("fork", collector.endpoint, "child") == untraced
    wait_for(lambda: collector.spans)
    assert {span.name for span in collector.spans} == {"inner"}


@pytest.mark.process
def test_a_child_without_ztrace_runs_the_bare_function() -> None:
    """A task is pickled so that a process that cannot import ztrace gets the function."""
    packed = pickle.dumps(Task(len, "len", SERVER, b""))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer) is len, 'ztrace' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], input=packed, stdout=subprocess.PIPE)
    assert done.stdout == b"True False\n"


def test_names_of_tasks() -> None:
    """A task is named after the function within partials, or the class of another callable."""

    def name(function: object) -> str:
        span = new_call(function, CLIENT)  # type: ignore[arg-type]
        assert span is not None
        return span.name

    assert name(partial(partial(pooling.double, 1), 2)) == "double"
    assert name(pooling.Order().place) == "Order.place"
    assert name(str.upper) == "str.upper"

    odd = SimpleNamespace(__qualname__=7)
    assert name(odd) == "SimpleNamespace"
