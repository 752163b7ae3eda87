"""Spans of jobs: a producer's, and one of each attempt."""

from collections.abc import Callable

import pytest

import ztrace
from tests.ztrace.recording import Recorder, record_of
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import rpc
from ztrace.spans import CONSUMER, PRODUCER

Work = Callable[..., rpc.Worker]


def test_attempts_are_linked(recorder: Recorder, queue: rpc.Queue, work: Work) -> None:
    """Each attempt has a span below the producer's; the second is linked to the first, which failed."""
    attempts: list[int] = []

    def fail_once() -> None:
        attempts.append(1)
        with ztrace.span("within"):
            if len(attempts) == 1:
                raise ValueError("x")

    work(fail_once=fail_once)
    with ztrace.span("order"):
        job = queue.options(backoff_s=0.01).put("fail_once")
    job.result(DEADLINE_S)
    wait_for(lambda: len(recorder.queue) == 6)
    (producer,) = (span for span in recorder.spans if span.kind == PRODUCER)
    first, second = (span for span in recorder.spans if span.kind == CONSUMER)
    assert producer.parent_id == recorder.named("order").span_id
    assert {span.trace_id for span in recorder.spans} == {producer.trace_id}
    assert {span.name for span in (producer, first, second)} == {"fail_once"}
    assert first.parent_id == second.parent_id == producer.span_id
    assert first.exception is not None
    assert second.exception is None
    linked = [[link[1] for link in span.links or ()] for span in (first, second)]
    assert linked == [[producer.span_id], [producer.span_id, first.span_id]]
    assert producer.attributes is not None
    assert second.attributes is not None
    assert producer.attributes["messaging.message.id"] == second.attributes["messaging.message.id"] == job.id
    assert second.attributes["rpc.job.attempt"] == 2
    within = [span.parent_id for span in recorder.spans if span.name == "within"]
    assert within == [first.span_id, second.span_id]


def test_coroutines_are_traced(recorder: Recorder, queue: rpc.Queue, work: Work) -> None:
    """Spans within a coroutine are children of its attempt's span."""

    async def call() -> None:
        with ztrace.span("within"):
            pass

    work(call=call)
    queue.put("call").result(DEADLINE_S)
    wait_for(lambda: len(recorder.queue) == 3)
    (consumer,) = (span for span in recorder.spans if span.kind == CONSUMER)
    assert recorder.named("within").parent_id == consumer.span_id


def test_errors_keep_their_origin(recorder: Recorder, queue: rpc.Queue, work: Work) -> None:
    """The error of a dead job has its origin in the attempt that raised it, for the trace that has put it."""

    def fail() -> None:
        raise ValueError("x")

    work(fail=fail)
    with pytest.raises(rpc.RemoteError), ztrace.span("order"):
        queue.options(max_attempts=1).put("fail").result(DEADLINE_S)
    wait_for(lambda: len(recorder.queue) == 3)
    (attempt,) = (span for span in recorder.spans if span.kind == CONSUMER)
    assert record_of(recorder, "order").origin_span_id == attempt.span_id
