"""Fixtures for the agent's tests: spans recorded in this process, and a receiver for those that are sent."""

import _thread
from collections.abc import Iterator
from itertools import count

import pytest

import ztrace
from tests.ztrace.receiving import Receiver
from tests.ztrace.recording import Clock, Recorder
from tests.ztrace.waiting import wait_for
from ztrace import context, diagnostics, spans
from ztrace.publishing import worker


@pytest.fixture
def counts() -> Iterator[dict[str, int]]:
    """Yield the agent's counts of its own failures and corrections, empty at first."""
    diagnostics.counts.clear()
    yield diagnostics.counts
    diagnostics.counts.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a stopped clock that spans read in place of the real one."""
    clock = Clock()
    monkeypatch.setattr(spans, "perf_counter_ns", clock.read)
    monkeypatch.setattr(context, "perf_counter_ns", clock.read)
    monkeypatch.setattr(spans, "thread_time_ns", clock.read_cpu)
    monkeypatch.setattr(spans, "shares_thread", lambda: False)
    return clock


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]) -> Iterator[Recorder]:
    """Yield the recorder that spans are handed to; check at the end that no span is current and nothing
    failed.
    """
    recorder = Recorder()
    monkeypatch.setattr(spans, "publisher", recorder)
    span_ids, trace_ids = count(1), count(1)
    monkeypatch.setattr(spans, "take_span_id", lambda: next(span_ids).to_bytes(8, "big"))
    monkeypatch.setattr(spans, "new_trace_id", lambda now_ns: next(trace_ids).to_bytes(16, "big"))
    assert context.get_current() is None
    yield recorder
    current = context.get_current()
    context.make_current(None)
    assert current is None
    assert counts == {}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the publisher's linger and heartbeat intervals from seconds to milliseconds."""
    monkeypatch.setenv("ZTRACE_LINGER_MS", "5")
    monkeypatch.setattr(worker, "BEAT_S", 0.05)


@pytest.fixture
def stopped(counts: dict[str, int]) -> Iterator[None]:
    """Shut the publisher down after the test, and wait until its thread has ended."""
    threads = _thread._count()
    yield
    ztrace.shutdown(timeout_s=0)
    context.make_current(None)
    wait_for(lambda: _thread._count() <= threads)


@pytest.fixture
def receiver(stopped: None, quick: None) -> Iterator[Receiver]:
    """Yield a running receiver; it is stopped after the test."""
    with Receiver() as receiver:
        yield receiver
