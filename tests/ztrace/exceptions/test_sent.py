"""Exceptions that libraries serialize with their attributes, and send to peers without ztrace."""

import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import ztrace
from tests.ztrace.recording import Recorder, record_of
from ztrace.records import PASSED, RAISED

pytestmark = pytest.mark.trouble


class Shop:
    """Service whose methods raise through two spans, if there is a publisher."""

    def fail(self, kind: str) -> None:
        """Raise an exception of a builtin class, with attributes or without."""
        error = KeyError("pen") if kind == "plain" else ValueError("no")
        if kind == "attributes":
            error.code, error.items = 7, ["a", "b"]  # type: ignore[union-attr]
        if kind == "note":
            error.add_note("seen")
        with ztrace.span("outer"), ztrace.span("inner"):
            raise error


@pytest.fixture
def proxy() -> Iterator[Any]:
    """Yield a client of the service; the server's thread ends with the test."""
    pyro = import_module("Pyro5.api")
    daemon = pyro.Daemon(host="127.0.0.1")
    uri = daemon.register(pyro.expose(Shop)())
    thread = threading.Thread(target=daemon.requestLoop)
    thread.start()
    try:
        with pyro.Proxy(uri) as client:
            yield client
    finally:
        daemon.shutdown()
        thread.join()
        daemon.close()


@pytest.mark.parametrize("kind", ["plain", "attributes", "note"])
@pytest.mark.parametrize("serializer", ["serpent", "json", "marshal", "msgpack"])
def test_a_client_of_pyro_gets_the_servers_exception(
    recorder: Recorder, proxy: Any, kind: str, serializer: str
) -> None:
    """An exception that has left spans arrives at a Pyro5 client as it does without ztrace."""
    proxy._pyroSerializer = serializer
    with pytest.raises((KeyError, ValueError)) as caught:
        proxy.fail(kind)
    attributes = {name: value for name, value in vars(caught.value).items() if name != "_pyroTraceback"}
    assert caught.value.args == (("pen",) if kind == "plain" else ("no",))
    expected = {"attributes": {"code": 7, "items": ["a", "b"]}, "note": {"__notes__": ["seen"]}}
    assert attributes == expected.get(kind, {})
    assert [record_of(recorder, name).how for name in ("inner", "outer")] == [RAISED, PASSED]
