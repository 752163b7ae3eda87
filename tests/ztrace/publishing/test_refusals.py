"""Connections that the collector refuses: the user learns why, once, and at the end."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

import ztrace
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import wait_for
from ztrace import agent
from ztrace.enrolment import Enrolment

SERVER_PUBLIC, SERVER_SECRET = zmq.curve_keypair()
PUBLIC, SECRET = map(z85.decode, zmq.curve_keypair())
KEY = Enrolment("billing", z85.decode(SERVER_PUBLIC), PUBLIC, SECRET).format()


@contextmanager
def keyed(admitted: Path | None = None) -> Iterator[str]:
    """Yield the endpoint of a socket with keys; with a folder, only the public keys in it are admitted."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        if admitted is not None:
            authenticator = ThreadAuthenticator(context)
            authenticator.start()
            stack.callback(authenticator.stop)
            authenticator.configure_curve(location=str(admitted))
        socket = stack.enter_context(context.socket(zmq.ROUTER))
        socket.linger = 0
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = SERVER_PUBLIC, SERVER_SECRET
        socket.bind("tcp://127.0.0.1:0")
        yield socket.getsockopt_string(zmq.LAST_ENDPOINT)


@contextmanager
def unkeyed(admitted: Path | None = None) -> Iterator[str]:
    """Yield the endpoint of a receiver without keys."""
    with Receiver() as receiver:
        yield receiver.endpoint


@pytest.mark.parametrize(
    ("collector", "key", "reason", "advice"),
    [
        (keyed, None, "no key", "admits keys only; set ZTRACE_KEY, see 'ztrace keys add'"),
        (keyed, KEY, "key refused", "does not admit this service's key; see 'ztrace keys list'"),
        (unkeyed, KEY, "key not wanted", "has no keys; start it with --keys, or unset ZTRACE_KEY"),
    ],
    ids=["no key", "key refused", "key not wanted"],
)
@pytest.mark.usefixtures("stopped", "quick")
def test_a_refusal_is_explained_once_and_at_the_end(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    collector: Callable[[Path | None], AbstractContextManager[str]],
    key: str | None,
    reason: str,
    advice: str,
) -> None:
    """A refused connection is logged once with the reason and the remedy, and named with the lost spans."""
    with collector(tmp_path if reason == "key refused" else None) as endpoint:
        ztrace.configure("billing", endpoint, key=key)
        with ztrace.span("a"):
            pass
        publisher = agent.current_publisher()
        assert publisher is not None
        wait_for(lambda: publisher.worker is not None and publisher.worker.peer.refusal)
        ztrace.shutdown(0.2)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"ztrace: {reason}: the collector at {endpoint} {advice}"]
    assert capsys.readouterr().err == f"ztrace: 1 span not delivered to {endpoint} ({reason})\n"


@pytest.mark.usefixtures("stopped", "quick")
def test_a_service_that_is_refused_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    """A service without a key connects as soon as a collector without keys has the endpoint."""
    with keyed() as endpoint:
        ztrace.configure("billing", endpoint)
        with ztrace.span("a"):
            pass
        publisher = agent.current_publisher()
        assert publisher is not None
        wait_for(lambda: publisher.worker is not None and publisher.worker.peer.refusal)
    with Receiver(endpoint) as receiver:
        assert ztrace.flush(20)
        assert receiver.names() == ["a"]
        assert publisher.worker is not None
        assert publisher.worker.peer.refusal is None
        ztrace.shutdown()
    assert len(caplog.records) == 1
