"""Spans recorded in the test's own process, and a receiver for those that are sent."""

import _thread
from collections.abc import Iterator
from itertools import count

import pytest

import ztrace
from tests.ztrace.receiving import Receiver
from tests.ztrace.recording import Clock, Recorder
from tests.ztrace.waiting import wait_for
from ztrace import diagnostics, spans
from ztrace.publishing import worker


@pytest.fixture
def counts() -> Iterator[dict[str, int]]:
    """Yield the counts of ztrace's own failures and mendings, empty at first."""
    diagnostics.counts.clear()
    yield diagnostics.counts
    diagnostics.counts.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that spans read, which stands still."""
    clock = Clock()
    monkeypatch.setattr(spans, "perf_counter_ns", clock.read)
    monkeypatch.setattr(spans, "thread_time_ns", clock.read_cpu)
    return clock


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]) -> Iterator[Recorder]:
    """Yield what spans are handed to; at the end no span is current and nothing has failed."""
    recorder = Recorder()
    monkeypatch.setattr(spans, "publisher", recorder)
    span_ids, trace_ids = count(1), count(1)
    monkeypatch.setattr(spans, "take_span_id", lambda: next(span_ids).to_bytes(8, "big"))
    monkeypatch.setattr(spans, "new_trace_id", lambda now_ns: next(trace_ids).to_bytes(16, "big"))
    assert spans.current_span() is None
    yield recorder
    current = spans.current_span()
    spans.make_current(None)
    assert current is None
    assert counts == {}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the publisher's thread look, beat and send again after moments instead of seconds."""
    monkeypatch.setenv("ZTRACE_LINGER_MS", "5")
    monkeypatch.setattr(worker, "BEAT_S", 0.05)


@pytest.fixture
def stopped(counts: dict[str, int]) -> Iterator[None]:
    """See that a publisher is shut down after the test and has left no thread."""
    threads = _thread._count()
    yield
    ztrace.shutdown(timeout_s=0)
    spans.make_current(None)
    wait_for(lambda: _thread._count() <= threads)


@pytest.fixture
def receiver(stopped: None, quick: None) -> Iterator[Receiver]:
    """Yield a receiver that runs."""
    with Receiver() as receiver:
        yield receiver
