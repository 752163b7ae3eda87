"""Servers with keys, and the addresses that need them."""

from pathlib import Path

import pytest

from tests.ztrace.rpc.services import Billing
from tests.ztrace.waiting import wait_for
from ztrace import rpc
from ztrace.errors import EndpointError, SettingsError
from ztrace_collector.receiving.keys import KeyFolder


class Asked(Billing):
    """Service that tells who calls."""

    def who(self) -> str:
        """Return the service whose key the caller has."""
        call = rpc.current_call()
        assert call is not None
        return call.service


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """Folder with a server's key."""
    keys = KeyFolder(tmp_path / "keys")
    keys.create()
    return keys


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "[::]", "192.0.2.1", "example.org"])
def test_other_machines_need_keys(host: str) -> None:
    """A server without keys binds no address that other machines can reach."""
    with pytest.raises(EndpointError) as caught:
        rpc.Server(Billing(), f"tcp://{host}:0").start()
    assert "there are no keys" in str(caught.value)


def test_a_key_admits_and_names_the_caller(folder: KeyFolder) -> None:
    """A client with a key is answered, and the server knows its service; without one it has no connection."""
    with rpc.Server(Asked(), "tcp://127.0.0.1:*", keys=folder.path) as server:
        key = folder.add("shop").format()  # A key of after the start is good too.
        with rpc.Client(*server.endpoints, key=key) as client:
            assert client.who() == "shop"
            assert list(client.tail(300)) == list(range(300))
        with rpc.Client(*server.endpoints, timeout_s=0.3) as client:
            with pytest.raises(rpc.DeadlineExceeded) as caught:
                client.who()
            assert "no connection" in str(caught.value)


def test_a_revoked_key_is_ignored(folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is revoked while its client is connected gets no further answer."""
    monkeypatch.setattr("ztrace.rpc.guarding.LOOK_S", 0.0)
    key = folder.add("shop").format()
    server = rpc.Server(Asked(), "tcp://127.0.0.1:*", keys=folder.path, heartbeat_s=0.1)
    with server, rpc.Client(*server.endpoints, key=key) as client:
        assert client.who() == "shop"
        folder.revoke("shop")

        def is_refused() -> bool:
            try:
                with rpc.deadline(0.2):
                    client.who()
            except rpc.RpcError:
                return True
            return False

        wait_for(is_refused)


def test_a_key_of_another_server_is_told(folder: KeyFolder, tmp_path: Path) -> None:
    """A client whose key the server does not know learns why there is no connection."""
    other = KeyFolder(tmp_path / "other")
    other.create()
    enrolment = other.add("shop")
    known = folder.add("shop")
    wrong = type(known)("shop", known.server_public, enrolment.public, enrolment.secret)
    server = rpc.Server(Asked(), "tcp://127.0.0.1:*", keys=folder.path)
    with server, rpc.Client(*server.endpoints, key=wrong.format(), timeout_s=0.1) as client:

        def explain() -> str:
            with pytest.raises(rpc.DeadlineExceeded) as caught:
                client.who()
            return str(caught.value)

        wait_for(lambda: "the server refuses the key" in explain(), explain)


def test_a_folder_without_keys_is_told(tmp_path: Path) -> None:
    """A server whose folder has no key does not start, and says how to make one."""
    with pytest.raises(SettingsError) as caught:
        rpc.Server(Billing(), "tcp://127.0.0.1:*", keys=tmp_path).start()
    assert "ztrace keys init" in str(caught.value)
