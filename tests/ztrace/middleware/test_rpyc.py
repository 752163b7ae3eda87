"""rpyc: spans of calls in both directions, and everything that may become of a call."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import rpyc
from rpyc.core import brine, consts
from rpyc.core.protocol import Connection
from rpyc.utils.factory import connect_thread

import ztrace
from tests.ztrace.recording import Recorder, codes
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.context import get_current
from ztrace.middleware import carriers, replies
from ztrace.middleware import rpyc as middleware
from ztrace.records import ERROR, KIND_NUMBERS, ExceptionRecord, Span

middleware.install()
KINDS = {number: name for name, number in KIND_NUMBERS.items()}


class OwnError(Exception):
    """Class of exceptions that the caller does not import."""


class Service(rpyc.Service):  # type: ignore[misc]
    """Service whose methods end in every way."""

    release = threading.Event()

    def exposed_echo(self, value: Any) -> Any:
        """Return the value, within a span."""
        with ztrace.span("work"):
            return value

    def exposed_fail(self, message: str) -> None:
        """Raise a builtin exception."""
        raise ValueError(message)

    def exposed_fail_own(self) -> None:
        """Raise an exception of a class of the service's."""
        raise OwnError("own")

    def exposed_stop(self) -> None:
        """Raise the exception that rpyc sends in a form of its own."""
        raise StopIteration

    def exposed_call(self, function: Callable[[int], Any]) -> Any:
        """Call a function of the caller's."""
        return function(2)

    def exposed_count(self) -> Iterator[int]:
        """Yield numbers, each within a span."""
        for number in range(2):
            with ztrace.span("step"):
                pass
            yield number

    @property
    def exposed_state(self) -> str:
        """A property with a span."""
        with ztrace.span("property"):
            return "fine"

    def exposed_wait(self) -> None:
        """Return when the test says so."""
        self.release.wait(DEADLINE_S)


@contextmanager
def connected(**config: Any) -> Iterator[Any]:
    """Yield a connection to a service in a thread."""
    Service.release = threading.Event()
    threads = set(threading.enumerate())
    connection = connect_thread(remote_service=Service, config=config)
    try:
        yield connection
    finally:
        Service.release.set()
        connection.close()
        for thread in set(threading.enumerate()) - threads:
            thread.join(DEADLINE_S)


@pytest.fixture
def connection(recorder: Recorder) -> Iterator[Any]:
    """Yield a connection to a service; both ends record their spans."""
    with connected() as connection:
        yield connection


def of_kind(recorder: Recorder, kind: str) -> list[Span]:
    """Return the spans of a kind, in the order in which they ended."""
    return [span for span in recorder.spans if KINDS[span.kind] == kind]


def only(recorder: Recorder, kind: str) -> Span:
    """Return the only span of a kind, once it has ended: that of a call ends after its reply is sent."""
    wait_for(lambda: of_kind(recorder, kind))
    (span,) = of_kind(recorder, kind)
    return span


def exception_of(span: Span) -> ExceptionRecord:
    """Return the exception that a span ended with."""
    assert span.exception is not None
    assert span.status == ERROR
    return ExceptionRecord(*span.exception)


def test_a_call(connection: Any, recorder: Recorder) -> None:
    """A call is one client span and one server span, named as the method without its prefix."""
    with ztrace.span("caller") as caller:
        assert connection.root.echo(1) == 1
    client, server = only(recorder, "client"), only(recorder, "server")
    assert client.name == server.name == "echo"
    assert client.parent_id == caller.span_id
    assert server.parent_id == client.span_id
    assert recorder.named("work").parent_id == server.span_id
    assert (client.attributes or {})["rpc.system.name"] == "rpyc"
    assert server.attributes == {"rpc.system.name": "rpyc"}
    assert (client.self_ns or 0) < (client.duration_ns or 0)


def test_an_error(connection: Any, recorder: Recorder) -> None:
    """An exception begins at the server, with its frames, and the caller's is the same one."""
    with pytest.raises(ValueError, match="no funds") as caught:
        connection.root.fail("no funds")
    server, client = (exception_of(only(recorder, kind)) for kind in ("server", "client"))
    assert server.origin_span_id == client.origin_span_id == only(recorder, "server").span_id
    assert codes(server)[-1] == "raise ValueError(message)"
    assert [client.type, client.message] == [server.type, server.message] == ["ValueError", "no funds"]
    assert "middleware/rpyc" not in "".join(traceback.format_exception(caught.value))


def test_an_error_of_an_unknown_class(connection: Any, recorder: Recorder) -> None:
    """A class that the caller does not import has the name that it has at the server."""
    with pytest.raises(Exception, match="own"):
        connection.root.fail_own()
    server, client = (exception_of(only(recorder, kind)) for kind in ("server", "client"))
    assert server.type == client.type
    assert client.type.endswith("OwnError")
    assert client.message == "own"


def test_stop_iteration(connection: Any, recorder: Recorder) -> None:
    """StopIteration comes back without an exception object, and is no error at either end."""
    with pytest.raises(StopIteration):
        connection.root.stop()
    assert only(recorder, "server").name == only(recorder, "client").name == "stop"


def test_an_unknown_attribute(connection: Any, recorder: Recorder) -> None:
    """A request that is no call has no span, and its error reaches the span around it."""
    with pytest.raises(AttributeError), ztrace.span("caller"):
        connection.root.nothing  # noqa: B018
    assert [span.name for span in recorder.spans] == ["caller"]
    assert exception_of(recorder.span).type == "AttributeError"


def test_a_callback(connection: Any, recorder: Recorder) -> None:
    """A call in the other direction is a child of the call within which it is made."""
    seen = []

    def double(number: int) -> int:
        seen.append(get_current())
        return number * 2

    assert connection.root.call(double) == 4
    wait_for(lambda: len(recorder.spans) == 4)
    names = {(span.name, KINDS[span.kind]): span for span in recorder.spans}
    outer, served = names["call", "client"], names["call", "server"]
    back = next(span for span in of_kind(recorder, "client") if span is not outer)
    run = names["double", "server"]
    assert served.parent_id == outer.span_id
    assert back.parent_id == served.span_id
    assert run.parent_id == back.span_id
    assert seen[0] is not None
    assert seen[0].span_id == run.span_id


def test_an_error_of_a_callback(connection: Any, recorder: Recorder) -> None:
    """An exception of the caller's own function comes back with its origin there."""

    def fail(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError):
        connection.root.call(fail)
    wait_for(lambda: len(recorder.spans) == 4)
    recorded = [exception_of(span) for span in recorder.spans]
    origin = next(span for span in of_kind(recorder, "server") if span.name == "fail")
    assert {each.origin_span_id for each in recorded} == {origin.span_id}
    assert {(each.type, each.message) for each in recorded} == {("KeyError", "2")}


def test_a_generator(connection: Any, recorder: Recorder) -> None:
    """Steps of a remote generator have no spans; what they run has the caller's span as parent."""
    with ztrace.span("caller") as caller:
        assert list(connection.root.count()) == [0, 1]
    assert [span.name for span in of_kind(recorder, "client")] == ["count"]
    steps = [span for span in recorder.spans if span.name == "step"]
    assert [span.parent_id for span in steps] == [caller.span_id] * 2


def test_a_property(connection: Any, recorder: Recorder) -> None:
    """An attribute that runs code has no span, and the code's spans have a parent."""
    with ztrace.span("caller") as caller:
        assert connection.root.state == "fine"
    assert {span.parent_id for span in recorder.spans if span.name == "property"} == {caller.span_id}


def test_an_asynchronous_call(connection: Any, recorder: Recorder) -> None:
    """The span of an asynchronous call ends with the reply."""
    echo = rpyc.async_(connection.root.echo)
    with ztrace.span("caller") as caller:
        result = echo(1)
        assert of_kind(recorder, "client") == []
        assert result.value == 1
    client, server = only(recorder, "client"), only(recorder, "server")
    assert client.name == server.name == "echo"
    assert client.parent_id == caller.span_id
    assert server.parent_id == client.span_id


def test_an_error_of_an_asynchronous_call(connection: Any, recorder: Recorder) -> None:
    """The exception is the call's, whether or not the result is looked at."""
    result = rpyc.async_(connection.root.fail)("late")
    result.wait()
    server, client = (exception_of(only(recorder, kind)) for kind in ("server", "client"))
    assert client.origin_span_id == server.origin_span_id == only(recorder, "server").span_id
    with pytest.raises(ValueError, match="late"):
        result.value  # noqa: B018


def test_an_asynchronous_call_that_expires(connection: Any, recorder: Recorder) -> None:
    """A result that expires ends the span with the timeout."""
    result = rpyc.timed(connection.root.wait, 0.01)()
    with pytest.raises(TimeoutError):
        result.value  # noqa: B018
    assert exception_of(only(recorder, "client")).type == "TimeoutError"


def test_a_call_that_expires(recorder: Recorder) -> None:
    """A synchronous call that times out ends with the timeout, and its late reply changes nothing."""
    with connected() as connection:
        wait = connection.root.wait
        connection._config["sync_request_timeout"] = 0.2
        with pytest.raises(TimeoutError):
            wait()
        connection._config["sync_request_timeout"] = DEADLINE_S
        Service.release.set()
        wait_for(lambda: of_kind(recorder, "server"))
        assert connection.root.echo(1) == 1
    assert exception_of(of_kind(recorder, "client")[0]).type == "TimeoutError"


def test_a_connection_that_is_lost(recorder: Recorder) -> None:
    """Calls whose connection ends before their reply end with EOFError."""
    with connected() as connection:
        pending = rpyc.async_(connection.root.wait)()
        connection._channel.stream.sock.shutdown(2)
        with pytest.raises(EOFError):
            connection.root.echo(1)
        with pytest.raises(EOFError):
            pending.wait()
    clients = of_kind(recorder, "client")
    assert {exception_of(span).type for span in clients} == {"EOFError"}


def test_a_relay(recorder: Recorder) -> None:
    """A service that passes on another one's exception is on its way, with one origin."""
    # The service calls a function of this process, which calls the other service.
    with connected() as further, connected() as connection, pytest.raises(ValueError, match="deep"):
        connection.root.call(lambda number: further.root.fail("deep"))
    wait_for(lambda: len(recorder.spans) == 6)
    recorded = [exception_of(span) for span in recorder.spans]
    origin = next(span for span in of_kind(recorder, "server") if span.name == "fail")
    assert {each.origin_span_id for each in recorded} == {origin.span_id}
    assert {(each.type, each.message) for each in recorded} == {("ValueError", "deep")}


def count_requests(connection: Any, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the handlers of the requests that a call sends."""
    sent: list[int] = []
    send = Connection._send

    def counted(self: Any, msg: int, seq: int, args: Any) -> Any:
        if msg == consts.MSG_REQUEST and self is connection:
            sent.append(int(args[0]))
        return send(self, msg, seq, args)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_send", counted)
        call()
    return sent


def test_no_further_requests(connection: Any, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing asks the other side for nothing: netrefs are not hashed, compared or looked at."""

    def call() -> None:
        connection.root.echo([1])
        connection.root.echo(connection.root)
        list(connection.root.count())

    call()
    traced = count_requests(connection, call, monkeypatch)
    monkeypatch.setattr("ztrace.spans.publisher", None)
    assert traced == count_requests(connection, call, monkeypatch)


@pytest.mark.parametrize("trailer", [b"x" * 20, b"d=x", b"00-x", b"x" * 60_000])
def test_a_forged_request(
    connection: Any,
    counts: dict[str, int],
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    trailer: bytes,
) -> None:
    """A forged trailer of a request is counted, and the request is served as from an untraced caller."""
    end = trailer + len(trailer).to_bytes(2, "big") + b"\x00ztrace\x01"
    echo = connection.root.echo
    monkeypatch.setattr("ztrace.middleware.rpyc.messages.make_trailer", lambda text: end)
    assert echo(1) == 1
    assert only(recorder, "server").parent_id is None
    assert counts == {"peer_trailer" if len(trailer) > 8192 else carriers.UNREADABLE: 1}
    counts.clear()


@pytest.mark.parametrize("reply", ["x", "d=x", "d=1;o=zz", "d=1;m=%"])
def test_a_forged_reply(
    connection: Any, counts: dict[str, int], recorder: Recorder, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    """A forged trailer of a reply is counted, and the error is the caller's, under its own class."""
    fail = connection.root.fail
    monkeypatch.setattr("ztrace.middleware.rpyc.messages.reply_bytes", lambda *arguments: reply.encode())
    with pytest.raises(ValueError, match="no"):
        fail("no")
    client = exception_of(only(recorder, "client"))
    assert (client.type, client.message) == ("ValueError", "no")
    assert client.origin_span_id == only(recorder, "client").span_id
    assert counts == {replies.UNREADABLE: 1}
    counts.clear()
    only(recorder, "server")


def test_trailers_are_ignored() -> None:
    """brine decodes a message with a trailer as the message."""
    from ztrace.middleware.rpyc.messages import Trailing

    args = (1, (2, ("a", b"b")))
    plain, trailing = brine.dump((5, args)), brine.dump((5, Trailing(args, b"trailer")))
    assert trailing == plain + b"trailer"
    assert brine.load(trailing) == (5, args)


def test_unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on while nothing is recorded, and nothing is sent."""
    monkeypatch.setattr("ztrace.spans.publisher", None)
    with connected() as connection:
        assert connection.root.echo(1) == 1
        assert rpyc.async_(connection.root.echo)(2).value == 2
