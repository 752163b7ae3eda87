"""Publishers with several collectors, over real sockets: who gets their spans when one is away."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import ztrace
from tests.ztrace.publishing.test_delivery import free_endpoint
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import wait_for
from ztrace import agent
from ztrace.publishing import choosing, delivery, peer
from ztrace.publishing.peer import MOVED
from ztrace.publishing.publisher import Publisher
from ztrace.wire import BYE


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets how long publishers stay without a connection; at first for ever.

    So a machine that is slow to connect moves none of them by itself.
    """

    def stay(duration_s: float) -> None:
        monkeypatch.setattr(choosing, "STAY_S", duration_s)
        monkeypatch.setattr(choosing, "HURRY_S", duration_s)

    stay(math.inf)
    return stay


@pytest.fixture
def receivers(stopped: None, quick: None) -> Iterator[list[Receiver]]:
    """Yield two running receivers."""
    with ExitStack() as stack:
        yield [stack.enter_context(Receiver()) for _ in range(2)]


def configure(*receivers: Receiver) -> Publisher:
    """Start a publisher that sends to one of several receivers."""
    ztrace.configure("billing", [receiver.endpoint for receiver in receivers])
    publisher = agent.current_publisher()
    assert publisher is not None
    return publisher


def order(publisher: Publisher, receivers: list[Receiver]) -> list[Receiver]:
    """Return the receivers in the order of a publisher."""
    named = {receiver.endpoint: receiver for receiver in receivers}
    return [named[endpoint] for endpoint in choosing.rank(list(named), publisher.identity.incarnation)]


def make_span(name: str) -> None:
    """Record a span."""
    with ztrace.span(name):
        pass


@pytest.mark.usefixtures("patience")
def test_a_publisher_sticks_to_its_first_collector(receivers: list[Receiver], counts: dict[str, int]) -> None:
    """Everything goes to the first collector in the publisher's order, also after a short absence of it."""
    first, second = order(configure(*receivers), receivers)
    make_span("a")
    assert ztrace.flush(20)
    first.stop()
    make_span("b")
    first.start()
    assert ztrace.flush(20)
    ztrace.shutdown(20)
    assert (first.names(), second.messages) == (["a", "b"], [])
    assert {header.collectors for header, _ in first.messages} == {2}
    assert counts == {}


def test_a_publisher_moves_and_returns(
    receivers: list[Receiver], patience: Callable[[float], None], counts: dict[str, int]
) -> None:
    """Spans go to the other collector while one is away, and headers tell how many each has acknowledged."""
    first, second = order(configure(*receivers), receivers)

    def flush() -> None:
        patience(0.3)
        assert ztrace.flush(20)
        patience(math.inf)

    make_span("a")
    assert ztrace.flush(20)
    first.stop()
    for name in ("b", "c"):
        make_span(name)
    flush()
    assert (first.names(), second.names()) == (["a"], ["b", "c"])
    assert {header.acknowledged_elsewhere for header, _ in second.messages} == {1}
    second.stop()
    first.start()
    make_span("d")
    flush()
    ztrace.shutdown(20)
    assert (first.names(), second.names()) == (["a", "d"], ["b", "c"])
    (bye,) = first.headers(BYE)
    assert (bye.retired, bye.acknowledged_elsewhere, bye.created) == (4, 2, 4)
    assert counts[MOVED] >= 2


def test_what_is_not_acknowledged_is_sent_again(
    receivers: list[Receiver], patience: Callable[[float], None]
) -> None:
    """A batch that the lost collector has received, and not acknowledged, reaches the other one as it was."""
    first, second = order(configure(*receivers), receivers)
    first.acknowledging = False
    make_span("a")
    wait_for(lambda: any(spans for _, spans in first.messages))
    first.stop()
    patience(0.3)
    assert ztrace.flush(20)
    assert second.names() == ["a"]
    sent, spans = next(message for message in first.messages if message[1])
    resent, same = next(message for message in second.messages if message[1])
    assert (sent.incarnation, sent.sequence, spans) == (resent.incarnation, resent.sequence, same)
    assert resent.acknowledged_elsewhere == 0


@pytest.mark.usefixtures("patience")
def test_a_silent_connection_is_replaced(receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher whose beats are not answered makes another connection, and sends again over that."""
    monkeypatch.setattr(peer, "SILENT_S", 0.3)
    monkeypatch.setattr(delivery, "RESEND_S", math.inf)
    first, second = order(configure(*receivers), receivers)
    first.acknowledging = False
    make_span("a")
    wait_for(lambda: sum(bool(spans) for _, spans in list(first.messages)) > 1)
    first.acknowledging = True
    first.stop()
    first.start()
    assert ztrace.flush(20)
    assert (first.names(), second.messages) == (["a"], [])


@pytest.mark.usefixtures("stopped", "quick")
def test_a_closing_publisher_tries_the_others_at_once(counts: dict[str, int]) -> None:
    """A short-lived process whose first collector is away delivers to another one as it ends."""
    with Receiver() as receiver:
        ztrace.configure("billing", f"{free_endpoint()},{receiver.endpoint},{free_endpoint()}")
        make_span("a")
        ztrace.shutdown(20)
        assert receiver.names() == ["a"]
        assert len(receiver.headers(BYE)) == 1


def test_a_collector_that_refuses_is_left(
    receivers: list[Receiver], patience: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A collector that cannot be one of several is left for the next, with one warning."""
    publisher = configure(*receivers)
    first, second = order(publisher, receivers)
    first.refusing = True
    make_span("a")
    wait_for(lambda: publisher.worker is not None and publisher.worker.peer.refusal)
    patience(0.3)
    assert ztrace.flush(20)
    ztrace.shutdown(20)
    assert (first.names(), second.names()) == ([], ["a"])
    assert [record.getMessage() for record in caplog.records] == [
        f"ztrace: the collector at {first.endpoint} refuses publishers with several collectors: start each"
        " with --clickhouse, or give a single one in ZTRACE_ENDPOINT"
    ]


@pytest.mark.usefixtures("patience")
def test_the_end_names_all_collectors(receivers: list[Receiver], capsys: pytest.CaptureFixture[str]) -> None:
    """Spans that no collector accepts are reported with the addresses of all, and the reason."""
    publisher = configure(*receivers)
    for receiver in receivers:
        receiver.refusing = True
    make_span("a")
    wait_for(lambda: publisher.worker is not None and publisher.worker.peer.refusal)
    ztrace.shutdown(0)
    one, other = (receiver.endpoint for receiver in receivers)
    assert capsys.readouterr().err == (
        f"ztrace: 1 span not delivered to {one} or {other} (it runs without --clickhouse)\n"
    )
