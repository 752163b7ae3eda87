"""Delivery to a collector: at least once, in order, within bounds, without blocking the program."""

import _thread
import socket
import time
from collections.abc import Sequence
from typing import Any

import pytest

import ztrace
from tests.ports import find_port
from tests.ztrace.receiving import Receiver
from tests.ztrace.recording import make_record
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import agent
from ztrace.process.probing import Shortage
from ztrace.publishing import delivery, link, publisher, retrying, unfinished, worker
from ztrace.publishing.encoding import encode
from ztrace.publishing.publisher import Publisher
from ztrace.publishing.worker import Worker
from ztrace.records import UNFINISHED
from ztrace.settings import LIMITS
from ztrace.wire import ACK, BEAT, BYE, DATA, OPEN, TOMBSTONE, Header, pack_acks


def make_spans(*names: str) -> None:
    """Record an ended span of each name."""
    for name in names:
        with ztrace.span(name):
            pass


def numbered(count: int, prefix: str = "") -> list[str]:
    """Return numbered names in ascending order."""
    return [f"{prefix}{number}" for number in range(count)]


def current_publisher() -> Publisher:
    """Return the publisher created by `configure`."""
    current = agent.current_publisher()
    assert current is not None
    return current


def current_worker() -> Worker:
    """Return the publisher's worker, which exists once a span has ended."""
    current = current_publisher().worker
    assert current is not None
    return current


def free_endpoint() -> str:
    """Return an endpoint at which no socket listens."""
    return f"tcp://127.0.0.1:{find_port()}"


def is_balanced(header: Header, sent: Sequence[Header]) -> bool:
    """Return whether every ended span is in a batch or counted as dropped."""
    batched = sum({one.sequence: one.span_count for one in sent}.values())
    return header.created == batched + header.dropped


def test_spans_arrive_in_order_with_their_publisher(receiver: Receiver) -> None:
    """Batches arrive in order with the service and start time, and `flush` returns once all are stored."""
    ztrace.configure("billing", receiver.endpoint)
    make_spans(*numbered(2000))
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == numbered(2000)
    header = receiver.headers(DATA)[-1]
    assert (header.service, len(header.incarnation)) == ("billing", 16)
    assert abs(header.started_ns - time.time_ns()) < 60 * 10**9
    start_ns = receiver.spans[-1].start_ns
    assert abs(start_ns - time.time_ns()) < 60 * 10**9


def test_spans_made_before_the_collector_is_up_arrive_once_it_is(stopped: None, quick: None) -> None:
    """Spans ended before the collector starts are kept in the window and delivered once it is up."""
    endpoint = free_endpoint()
    ztrace.configure("billing", endpoint, batch_spans=100)
    make_spans(*numbered(750))
    wait_for(lambda: len(current_publisher().queue) == 50)  # The remaining spans do not fill a batch yet.
    with Receiver(endpoint) as receiver:
        assert ztrace.flush(DEADLINE_S)
        assert receiver.names() == numbered(750)
    assert [header.span_count for header in receiver.headers(DATA)] == 7 * [100] + [50]


@pytest.mark.parametrize("endpoint", ["tcp://[::1]:*", "ipc://{}/collector"])
def test_other_transports(stopped: None, quick: None, endpoint: str, tmp_path: Any) -> None:
    """Spans are delivered over IPv6 and over sockets in the file system."""
    if "::1" in endpoint and not has_ipv6():
        pytest.skip("no IPv6 here")
    with Receiver(endpoint.format(tmp_path)) as receiver:
        ztrace.configure("billing", receiver.endpoint)
        make_spans("a")
        assert ztrace.flush(DEADLINE_S)
        assert receiver.names() == ["a"]


def has_ipv6() -> bool:
    """Return whether this machine has an IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_sequence_numbers_have_no_gaps_and_headers_agree(receiver: Receiver) -> None:
    """Sequence numbers are consecutive, the floor follows acknowledgements, and the totals always add up."""
    ztrace.configure("billing", receiver.endpoint)
    each = LIMITS["ZTRACE_BATCH_SPANS"].default + 100
    for batch in range(5):
        make_spans(*numbered(each, f"{batch} "))
        assert ztrace.flush(DEADLINE_S)
    ztrace.shutdown(DEADLINE_S)
    (bye,) = wait_for(lambda: receiver.headers(BYE))
    sent = receiver.headers(DATA)
    assert [header.sequence for header in sent] == list(range(len(sent)))
    assert len(sent) >= 10
    for header in sent:
        assert header.covered == 1
        assert header.floor <= header.sequence
        below = sum(one.span_count for one in sent if one.sequence < header.floor)
        assert header.retired == below
        assert header.created >= sum(one.span_count for one in sent if one.sequence <= header.sequence)
    assert (bye.sequence, bye.covered, bye.floor, bye.retired) == (len(sent), 1, len(sent), 5 * each)
    assert (bye.created, bye.dropped) == (5 * each, 0)
    assert is_balanced(bye, sent)


def test_acknowledged_batches_leave_the_window(receiver: Receiver) -> None:
    """An acknowledged batch releases its spans and bytes from the window."""
    ztrace.configure("billing", receiver.endpoint)
    make_spans(*numbered(1500))
    assert ztrace.flush(DEADLINE_S)
    kept = current_worker().window
    assert (len(kept), kept._bytes) == (0, 0)
    assert kept.retired == kept.batched == 1500


def test_what_is_not_acknowledged_is_sent_again_after_a_reconnect(receiver: Receiver) -> None:
    """After a reconnect, unacknowledged batches are resent in order from the oldest, once per connection."""
    receiver.acknowledging = False
    ztrace.configure("billing", receiver.endpoint)
    make_spans(*numbered(1300))
    wait_for(lambda: sum(header.span_count for header in receiver.headers(DATA)) == 1300)
    before = receiver.headers(DATA)
    receiver.stop()
    assert not ztrace.flush(0)
    receiver.messages.clear()
    receiver.acknowledging = True
    receiver.start()
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == numbered(1300)
    again = receiver.headers(DATA)
    assert [header.sequence for header in again] == [header.sequence for header in before]
    assert again[0].incarnation == before[0].incarnation


def test_only_what_is_not_acknowledged_is_sent_again(receiver: Receiver) -> None:
    """Batches acknowledged before a reconnect are not resent."""
    ztrace.configure("billing", receiver.endpoint)
    make_spans("stored")
    assert ztrace.flush(DEADLINE_S)
    receiver.stop()
    make_spans("waiting")
    receiver.start()
    assert ztrace.flush(DEADLINE_S)
    assert [header.sequence for header in receiver.headers(DATA)] == [0, 1]
    assert receiver.names() == ["stored", "waiting"]


def test_a_silent_collector_is_sent_everything_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout without acknowledgement restarts sending at the oldest batch on the same connection."""
    monkeypatch.setattr(delivery, "RESEND_S", 0.05)
    receiver.acknowledging = False
    ztrace.configure("billing", receiver.endpoint)
    make_spans(*numbered(600))
    wait_for(lambda: [header.sequence for header in receiver.headers(DATA)].count(0) >= 3)
    receiver.acknowledging = True
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == numbered(600)


def test_a_lost_acknowledgement_is_asked_for_by_a_beat(receiver: Receiver) -> None:
    """An idle publisher's heartbeat states its position, so a lost acknowledgement can be repeated."""
    receiver.acknowledging = False
    ztrace.configure("billing", receiver.endpoint)
    make_spans("a")
    (header,) = wait_for(lambda: receiver.headers(DATA))
    wait_for(lambda: len(receiver.headers(BEAT)) >= 2)
    receiver.send(pack_acks({header.incarnation: 1}))
    assert ztrace.flush(DEADLINE_S)
    assert len(receiver.headers(DATA)) == 1
    beat = receiver.headers(BEAT)[0]
    assert (beat.sequence, beat.floor, beat.covered, beat.span_count, beat.created) == (1, 0, 0, 0, 1)


def test_no_more_than_the_limit_is_in_flight(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that acknowledges nothing is sent no more batches than the in-flight limit."""
    monkeypatch.setattr(delivery.Delivery, "limit", 3)
    receiver.acknowledging = False
    ztrace.configure("billing", receiver.endpoint, batch_spans=10)
    make_spans(*numbered(200))
    wait_for(lambda: not current_publisher().queue and len(receiver.headers(BEAT)) >= 2)
    assert [header.sequence for header in receiver.headers(DATA)] == [0, 1, 2]
    receiver.acknowledging = True
    receiver.send(pack_acks({receiver.headers(DATA)[0].incarnation: 0}))
    receiver.stop()
    receiver.start()
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == numbered(200)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x02",
        b"\x02ack",
        b"\x02ack\xc1",
        b"nonsense",
        ACK + b"\x92\x01\x81\xc4\x01i\xa1x",
        b"\xff" * 8_000,
    ],
    ids=lambda frame: repr(frame[:8]),
)
def test_a_broken_acknowledgement_is_survived(
    receiver: Receiver, counts: dict[str, int], frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed acknowledgement costs the connection, is counted, and delivery continues over another."""
    monkeypatch.setattr(retrying, "RETRY_S", 0.01)
    ztrace.configure("billing", receiver.endpoint)
    make_spans("before")
    assert ztrace.flush(DEADLINE_S)
    receiver.send(frame)
    make_spans("after")
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == ["before", "after"]
    assert counts == {"collector_frame": 1}


def test_a_frame_over_the_limit_is_survived(receiver: Receiver, counts: dict[str, int]) -> None:
    """A frame larger than any acknowledgement costs the connection, and delivery continues over another."""
    ztrace.configure("billing", receiver.endpoint)
    make_spans("before")
    assert ztrace.flush(DEADLINE_S)
    receiver.send(b"\xff" * 100_000)
    make_spans("after")
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == ["before", "after"]
    assert counts == {}


def test_acknowledgements_of_others_change_nothing(receiver: Receiver) -> None:
    """Acknowledgements for other publishers and repeated ones are ignored."""
    receiver.acknowledging = False
    ztrace.configure("billing", receiver.endpoint)
    make_spans("a")
    (header,) = wait_for(lambda: receiver.headers(DATA))
    receiver.send(pack_acks({b"x" * 16: 1000}))
    receiver.send(pack_acks({header.incarnation: 0}))
    beats = len(receiver.headers(BEAT))
    wait_for(lambda: len(receiver.headers(BEAT)) > beats + 1)
    assert not ztrace.flush(0)
    receiver.send(pack_acks({header.incarnation: 1}))
    assert ztrace.flush(DEADLINE_S)


def test_a_full_queue_drops_what_is_new_and_counts_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue drops new spans without blocking and counts each."""
    held, go_on = _thread.allocate_lock(), _thread.allocate_lock()
    go_on.acquire()
    held.acquire()

    def encode_late(*arguments: Any) -> Any:
        if held.locked():
            held.release()
            go_on.acquire()
        yield from encode(*arguments)

    monkeypatch.setattr(worker, "encode", encode_late)
    ztrace.configure("billing", receiver.endpoint, queue_spans=50)
    make_spans("first")
    assert held.acquire(timeout=DEADLINE_S)
    held.release()
    make_spans(*numbered(500))
    assert len(current_publisher().queue) == 50
    assert current_publisher().dropped == 450
    go_on.release()
    assert ztrace.flush(DEADLINE_S)
    ztrace.shutdown(DEADLINE_S)
    (bye,) = wait_for(lambda: receiver.headers(BYE))
    assert (bye.created, bye.dropped) == (501, 450)
    assert receiver.names() == ["first", *numbered(50)]


def test_a_full_window_leaves_tombstones(receiver: Receiver) -> None:
    """A full window replaces its oldest unsent batches by a tombstone with their number of spans."""
    receiver.stop()
    ztrace.configure("billing", receiver.endpoint, batch_spans=10, window_bytes=1 << 20)
    for number in range(3000):
        with ztrace.span(str(number), text="x" * 1000):
            pass
    wait_for(lambda: not current_publisher().queue and not current_worker().filling % 2)
    kept = current_worker().window
    assert kept._bytes <= 1 << 20
    receiver.start()
    assert ztrace.flush(DEADLINE_S)
    ztrace.shutdown(DEADLINE_S)
    wait_for(lambda: receiver.headers(BYE))
    (tombstone,) = {header.sequence: header for header in receiver.headers(TOMBSTONE)}.values()
    assert tombstone.span_count + len(receiver.spans) == 3000
    assert len(receiver.spans) > 500
    assert receiver.names() == numbered(3000)[tombstone.span_count :]
    assert tombstone.covered > 1
    (first_ns, last_ns) = receiver.stretches[0]
    assert first_ns < last_ns <= receiver.spans[0].start_ns + (receiver.spans[0].duration_ns or 0)


def test_spans_that_cannot_be_encoded_are_counted_as_dropped(receiver: Receiver) -> None:
    """A span that cannot be encoded is counted as dropped, and the spans around it are delivered."""
    ztrace.configure("billing", receiver.endpoint)
    bad: Any = object()
    make_spans("before")
    with ztrace.span("bad", parent=ztrace.SpanContext(bad, b"s" * 8)):
        pass
    make_spans("after")
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == ["before", "after"]
    ztrace.shutdown(DEADLINE_S)
    (bye,) = wait_for(lambda: receiver.headers(BYE))
    assert (bye.created, bye.dropped, bye.mended) == (3, 1, {"span_unencodable": 1})


def test_a_failure_while_encoding_is_counted(
    receiver: Receiver, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure while encoding a batch counts its spans as dropped, and the next batch is sent."""
    encoders: list[Any] = [encode]

    def fail(*arguments: Any) -> Any:
        encoders.append(encode)
        raise MemoryError

    encoders.append(fail)
    monkeypatch.setattr(worker, "encode", lambda *arguments: encoders.pop()(*arguments))
    ztrace.configure("billing", receiver.endpoint)
    make_spans("lost")
    wait_for(lambda: counts.get("delivery"))
    make_spans("kept")
    assert ztrace.flush(DEADLINE_S)
    ztrace.shutdown(DEADLINE_S)
    (bye,) = wait_for(lambda: receiver.headers(BYE))
    assert (bye.created, bye.dropped) == (2, 1)
    assert receiver.names() == ["kept"]


def test_a_span_that_goes_on_is_published_as_open(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span open for long enough is published as unfinished, repeatedly, with its current attributes."""
    monkeypatch.setattr(unfinished, "AGE_NS", 100_000_000)
    ztrace.configure("billing", receiver.endpoint)
    with ztrace.span("outer", kind="server", user="ada") as outer, ztrace.span("inner"):
        for _ in range(50):
            make_spans("short")
        wait_for(lambda: len(receiver.headers(OPEN)) >= 2)
        outer.set(late=1)
        wait_for(lambda: receiver.open_spans[-2].attributes == {"user": "ada", "late": 1})
    assert ztrace.flush(DEADLINE_S)
    told = receiver.open_spans
    assert {span.name for span in told} == {"outer", "inner"}
    finished = {span.name: span for span in receiver.spans}
    for span in told:
        assert (span.status, span.duration_ns, span.self_ns, span.cpu_ns) == (UNFINISHED, None, None, None)
        assert span.span_id == finished[span.name].span_id
        assert span.parent_id == finished[span.name].parent_id
        assert abs(span.start_ns - finished[span.name].start_ns) < 10**9
    assert (told[0].name, told[0].attributes) == ("outer", {"user": "ada"})
    ztrace.shutdown(DEADLINE_S)
    (bye,) = wait_for(lambda: receiver.headers(BYE))
    assert bye.created == len(receiver.spans) == 52


def test_what_is_open_when_the_program_ends_is_told(receiver: Receiver) -> None:
    """A span open at shutdown is published as unfinished, however recently it started."""
    ztrace.configure("billing", receiver.endpoint)
    with ztrace.span("open"):
        make_spans("done")
        assert ztrace.flush(DEADLINE_S)
        ztrace.shutdown(DEADLINE_S)
    wait_for(lambda: receiver.headers(BYE))
    assert [span.name for span in receiver.open_spans] == ["open"]


def test_flush_waits_for_what_is_being_encoded(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """`flush` waits for the spans being encoded, which are in neither the queue nor a batch."""
    held, go_on = _thread.allocate_lock(), _thread.allocate_lock()
    go_on.acquire()
    held.acquire()

    def encode_slowly(*arguments: Any) -> Any:
        held.release()
        go_on.acquire()
        yield from encode(*arguments)

    monkeypatch.setattr(worker, "encode", encode_slowly)
    ztrace.configure("billing", receiver.endpoint)
    make_spans("a")
    assert held.acquire(timeout=DEADLINE_S)
    assert not current_publisher().queue
    assert not ztrace.flush(0.05)
    go_on.release()
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == ["a"]


def test_flush_tells_when_the_deadline_came_first(stopped: None, quick: None) -> None:
    """`flush` returns False at its deadline when no collector is reachable."""
    ztrace.configure("billing", free_endpoint())
    assert ztrace.flush(0)
    make_spans("a")
    assert not ztrace.flush(0.05)


@pytest.mark.parametrize("timeout_s", [None, "long", object()])
def test_nonsense_for_a_timeout_does_no_harm(
    receiver: Receiver, counts: dict[str, int], timeout_s: Any
) -> None:
    """An invalid timeout is counted, and `flush` returns False."""
    ztrace.configure("billing", receiver.endpoint)
    make_spans("a")
    assert not ztrace.flush(timeout_s)
    assert counts.pop("flush") == 1


def test_unconfigured_there_is_nothing_to_flush(counts: dict[str, int]) -> None:
    """`flush` and `shutdown` return at once while ztrace is unconfigured."""
    assert ztrace.flush(DEADLINE_S)
    ztrace.shutdown(DEADLINE_S)
    assert counts == {}


def test_shutdown_delivers_and_says_bye(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """`shutdown` delivers all ended spans and a final bye, and prints nothing."""
    ztrace.configure("billing", receiver.endpoint)
    make_spans(*numbered(3000))
    ztrace.shutdown(DEADLINE_S)
    (bye,) = wait_for(lambda: receiver.headers(BYE))
    assert receiver.messages[-1][0] is bye
    assert receiver.names() == numbered(3000)
    assert (bye.created, bye.dropped) == (3000, 0)
    assert not agent.is_configured()
    assert capsys.readouterr() == ("", "")


def test_shutdown_without_a_collector_says_what_stays_behind(
    stopped: None, quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a collector, `shutdown` returns before its deadline and reports the undelivered spans."""
    monkeypatch.setattr(worker, "UNREACHED_S", 0.05)
    endpoint = free_endpoint()
    for names, said in ((["a"], "1 span"), (numbered(1234), "1,234 spans")):
        ztrace.configure("billing", endpoint)
        make_spans(*names)
        begun_s = time.monotonic()
        ztrace.shutdown(DEADLINE_S)
        assert time.monotonic() - begun_s < DEADLINE_S / 2
        assert capsys.readouterr() == ("", f"ztrace: {said} not delivered to {endpoint}\n")


def test_shutdown_keeps_its_deadline_with_a_silent_collector(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a silent collector, `shutdown` waits until its deadline and reports the loss in its last bye."""
    receiver.acknowledging = False
    ztrace.configure("billing", receiver.endpoint)
    make_spans(*numbered(30))
    wait_for(lambda: receiver.headers(DATA))
    ztrace.shutdown(timeout_s=0.5)
    assert capsys.readouterr().err == f"ztrace: 30 spans not delivered to {receiver.endpoint}\n"
    wait_for(lambda: len(receiver.headers(BYE)) == 2)
    first, last = receiver.headers(BYE)
    assert (first.created, first.retired, first.floor) == (last.created, last.retired, 0) == (30, 0, 0)
    assert last.floor == last.sequence == first.sequence + 1


def test_after_shutdown_nothing_is_recorded(receiver: Receiver, counts: dict[str, int]) -> None:
    """After `shutdown`, spans are not recorded, an open one included, and a second call does nothing."""
    ztrace.configure("billing", receiver.endpoint)
    with ztrace.span("open"):
        make_spans("before")
        ztrace.shutdown(DEADLINE_S)
    make_spans("after")
    ztrace.shutdown(DEADLINE_S)
    assert ztrace.flush(0)
    assert receiver.names() == ["before"]
    assert counts == {}


def test_a_publisher_that_is_closed_takes_nothing_more(receiver: Receiver) -> None:
    """A span that ends while its publisher closes is counted as dropped."""
    ztrace.configure("billing", receiver.endpoint)
    make_spans("before")
    closing = current_publisher()
    ztrace.shutdown(DEADLINE_S)
    assert closing.room == 0
    closing.overflow(make_record())
    assert (closing.dropped, len(closing.queue)) == (1, 0)


def test_configuring_again_begins_a_new_incarnation(receiver: Receiver) -> None:
    """A second `configure` delivers the earlier spans and starts a new incarnation for the later ones."""
    for service in ("first", "second"):
        ztrace.configure(service, receiver.endpoint)
        make_spans(service)
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == ["first", "second"]
    first, second = receiver.headers(DATA)
    assert (first.service, second.service) == ("first", "second")
    assert (first.sequence, second.sequence) == (0, 0)
    assert first.incarnation != second.incarnation
    assert receiver.headers(BYE)[0].incarnation == first.incarnation


def refuse(*args: Any) -> Any:
    """Fail as the start of a thread does at a limit."""
    raise Shortage("no thread can be started")


def test_a_thread_that_cannot_be_started_is_started_later(
    receiver: Receiver, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans wait in the queue while no thread can be started, and are delivered by one that starts later."""
    ztrace.configure("billing", receiver.endpoint)
    monkeypatch.setattr(publisher, "RETRY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "start_thread", refuse)
        make_spans(*numbered(3))
    assert counts.keys() == {"shortage"}
    assert not receiver.messages
    make_spans("later")
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == [*numbered(3), "later"]


def test_a_thread_that_cannot_be_started_is_not_tried_with_each_span(
    receiver: Receiver, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans that follow a failed attempt at once do not try again, and `flush` does not lose them."""
    ztrace.configure("billing", receiver.endpoint)
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "start_thread", refuse)
        make_spans(*numbered(100))
    assert counts == {"shortage": 1}
    assert not ztrace.flush(0.01)


def test_without_a_thread_a_shutdown_does_not_wait(
    stopped: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`shutdown` returns at once and reports every span if no thread could be started."""
    monkeypatch.setattr(publisher, "start_thread", refuse)
    endpoint = free_endpoint()
    ztrace.configure("billing", endpoint)
    make_spans(*numbered(3))
    begun_s = time.monotonic()
    ztrace.shutdown(DEADLINE_S)
    assert time.monotonic() - begun_s < DEADLINE_S / 2
    assert capsys.readouterr().err == f"ztrace: 3 spans not delivered to {endpoint}\n"


def test_a_connection_that_cannot_be_made_is_made_later(
    receiver: Receiver, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans wait while libzmq lacks threads or descriptors, and are delivered once it has them."""
    monkeypatch.setattr(retrying, "RETRY_S", 0.01)
    tried: list[None] = []

    def probe() -> None:
        tried.append(None)
        if len(tried) < 4:
            raise Shortage("too few file descriptors are left")

    monkeypatch.setattr(link, "probe", probe)
    ztrace.configure("billing", receiver.endpoint)
    make_spans(*numbered(3))
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == numbered(3)
    assert (len(tried), counts) == (4, {"shortage": 3})


def test_several_threads_begin_one_publisher(receiver: Receiver) -> None:
    """Threads whose first spans end concurrently share one background thread and lose no span."""
    ztrace.configure("billing", receiver.endpoint)
    before = _thread._count()
    go, done = _thread.allocate_lock(), [_thread.allocate_lock() for _ in range(6)]
    go.acquire()

    def work(number: int) -> None:
        with go:
            pass
        make_spans(*numbered(100, f"{number} "))
        done[number].release()

    for number, lock in enumerate(done):
        lock.acquire()
        _thread.start_new_thread(work, (number,))
    go.release()
    for lock in done:
        assert lock.acquire(timeout=DEADLINE_S)
    wait_for(lambda: _thread._count() <= before + 1)
    assert ztrace.flush(DEADLINE_S)
    assert len(receiver.names()) == 600
    assert len({header.incarnation for header in receiver.headers(DATA)}) == 1
