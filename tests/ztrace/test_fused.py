"""Fused spans of calls: the same records as those of the general methods, whatever the program does."""

import random
from collections.abc import Callable
from contextvars import Context
from itertools import count
from typing import Any

import pytest

import ztrace
from tests.ztrace.recording import Clock, Recorder
from ztrace import spans
from ztrace.context import SpanContext, get_current
from ztrace.fused import calls, serving
from ztrace.fused.calls import end_call, start_call
from ztrace.fused.serving import ServedSpan, end_served, start_served
from ztrace.middleware.kit import new_span
from ztrace.records import Span as Fields
from ztrace.spans import CLIENT, SERVER, Span

ATTRIBUTES: dict[str, Any] = {"rpc.system.name": "test"}
CALLER = (b"T" * 16, b"S" * 8, (1, "vendor=1"))


class General:
    """Spans of calls by the general methods."""

    def start_call(self, name: str) -> Span:
        """Start a client span."""
        return new_span(name, CLIENT, dict(ATTRIBUTES)).start(activate=False)

    def end_call(self, span: Span) -> None:
        """End a client span."""
        span.__exit__()

    def start_served(self, name: str, joined: bool, cpu_ns: int) -> Span:
        """Start a server span."""
        return new_span(name, SERVER, dict(ATTRIBUTES), SpanContext(*CALLER) if joined else None).start()

    def end_served(self, span: Any) -> None:
        """End a server span."""
        span.__exit__()


class Fused(General):
    """Spans of calls by the fused functions."""

    def start_call(self, name: str) -> Span:
        """Start a client span."""
        span = Span()
        context = start_call(span, name, ATTRIBUTES)
        assert context is not None
        assert context[:25] == span.trace_id + span.span_id + bytes([span.w3c[0]])
        assert context[25:] == span.w3c[1].encode()
        return span

    def end_call(self, span: Span) -> None:
        """End a client span."""
        end_call(span)

    def start_served(self, name: str, joined: bool, cpu_ns: int) -> Span:
        """Start a server span."""
        span = ServedSpan()
        start_served(span, name, ATTRIBUTES, CALLER if joined else None, cpu_ns)
        return span

    def end_served(self, span: Any) -> None:
        """End a server span."""
        end_served(span)


class Program:
    """Random program of calls, served calls and spans of the program's own, which may end in any order."""

    def __init__(self, seed: int, way: General, clock: Clock) -> None:
        self._dice = random.Random(seed)
        self._way = way
        self._clock = clock
        self._names = count(1)
        self._open: list[Span] = []

    def run(self, depth: int = 0) -> None:
        """Run a part of the program."""
        actions: list[Callable[[int], None]] = [self._call, self._end_one, self._work, self._serve]
        for _ in range(self._dice.randrange(5)):
            self._pass()
            self._dice.choice(actions[: 2 if depth > 3 else 4])(depth)

    def finish(self) -> None:
        """End the calls that are still open."""
        while self._open:
            self._end_one(0)

    def _pass(self) -> None:
        self._clock.pass_ns(self._dice.randrange(100))
        self._clock.cpu_ns += self._dice.randrange(50)

    def _call(self, depth: int) -> None:
        self._open.append(self._way.start_call(f"call {next(self._names)}"))

    def _end_one(self, depth: int) -> None:
        if not self._open:
            return
        span = self._open.pop(self._dice.randrange(len(self._open)))
        if self._dice.randrange(3) == 0:
            span.set(late=True)
        if self._dice.randrange(2):
            span.covered_ns += self._dice.randrange(200)
        if self._dice.randrange(5) == 0:
            span.end(ValueError("lost"))
        else:
            self._way.end_call(span)

    def _work(self, depth: int) -> None:
        with ztrace.span(f"work {next(self._names)}"):
            self.run(depth + 1)

    def _serve(self, depth: int) -> None:
        if self._dice.randrange(4):
            Context().run(self._serve_here, depth)
        else:
            self._serve_here(depth)

    def _serve_here(self, depth: int) -> None:
        before = get_current()
        name, joined = f"serve {next(self._names)}", self._dice.randrange(4) > 0
        span = self._way.start_served(name, joined, self._clock.cpu_ns)
        assert get_current() is span
        self.run(depth + 1)
        self._pass()
        replied = span.reply() if self._dice.randrange(2) else None
        self._pass()
        assert replied is None or span.reply() == replied
        if self._dice.randrange(5) == 0:
            span.apart.cpu_ns = None
        if self._dice.randrange(5) == 0:
            span.set(size=3)
        if self._dice.randrange(5) == 0:
            span.end(KeyError("x"))
        else:
            self._way.end_served(span)
        assert get_current() is before


def play(seed: int, way: General, monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> list[Fields]:
    """Run a program, and return its records."""
    clock, span_ids, trace_ids = Clock(), count(1), count(1)
    for module in (spans, calls, serving):
        monkeypatch.setattr(module, "perf_counter_ns", clock.read)
        monkeypatch.setattr(module, "take_span_id", lambda: next(span_ids).to_bytes(8, "big"))
    for module in (spans, calls):
        monkeypatch.setattr(module, "new_trace_id", lambda now_ns: next(trace_ids).to_bytes(16, "big"))
    for module in (spans, serving):
        monkeypatch.setattr(module, "thread_time_ns", clock.read_cpu)
    monkeypatch.setattr(spans, "shares_thread", lambda: False)
    program = Program(seed, way, clock)
    program.run()
    program.finish()
    assert not recorder.register
    records = recorder.spans
    recorder.queue.clear()
    return records


@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_records_are_those_of_the_general_methods(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Fused and general spans of a random program differ in nothing that is recorded."""
    total = 0
    for seed in range(first, first + 250):
        expected = play(seed, General(), monkeypatch, recorder)
        assert play(seed, Fused(), monkeypatch, recorder) == expected, seed
        total += len(expected)
    assert total > 1000
