"""Keys of a server: the clients that may connect, and the service that each message comes from.

One idea: libzmq vouches for the key that a message came under, so nothing in the message has to be trusted.
The folder of keys is that of the collector, made by `ztrace keys`; it is polled, so a key that is added or
revoked takes effect within a second. A revoked key's open connections are ignored from then on.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import zmq

from ztrace.errors import SettingsError
from ztrace.process.keys import ReadableKeys
from ztrace.rpc.contexts import Context

#: Seconds between two looks at the folder.
LOOK_S: Final = 1.0
#: Connections whose service is remembered.
MAX_PEERS: Final = 1 << 16
#: ZAP domain; any name but an empty one makes libzmq ask.
_DOMAIN: Final = b"ztrace"
_VERSION: Final = b"1.0"

_log = logging.getLogger(__name__)


class Guard:
    """Keys that admit clients, and the socket on which libzmq asks for them; `close` closes the socket.

    Args:
        folder: of the keys.
        context: of the sockets that are guarded; libzmq asks one guard in each.

    Attributes:
        socket: on which libzmq asks; answer each message with `answer`.

    Raises:
        SettingsError: the folder cannot be used.
    """

    def __init__(self, folder: Path, context: Context) -> None:
        self._folder = ReadableKeys(folder)
        self._secret = self._folder.server_pair()[1]
        self._stamp: object = None
        self._services: dict[str, str] = {}
        self._peers: dict[bytes, str] = {}
        self._looked_s = 0.0
        self._read()
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")

    def protect(self, socket: "zmq.Socket[bytes]") -> None:
        """Have a socket admit clients with a valid key only; call this before the socket is bound."""
        socket.curve_server = True
        socket.curve_secretkey = self._secret
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)

    def answer(self, question: Sequence[bytes]) -> list[bytes]:
        """Return the answer to a question of libzmq: whether the holder of a key may connect."""
        identity, empty, _, request, *_, key = question
        user = key.hex()
        if user not in self._services:
            self._read()  # The key may have been added a moment ago, and a client denied does not retry.
        good = user in self._services
        status, text = (b"200", b"OK") if good else (b"400", b"no such key")
        return [identity, empty, _VERSION, request, status, text, user.encode() if good else b"", b""]

    def admit(self, frames: Sequence["zmq.Frame"]) -> list[bytes] | None:
        """Return the bytes of a message, None if the key it came under is not valid any more."""
        user = frames[0].get("User-Id")
        service = self._services.get(user) if isinstance(user, str) else None
        if service is None:
            return None
        if len(self._peers) >= MAX_PEERS:
            self._peers.clear()
        self._peers[frames[0].bytes] = service
        return [frame.bytes for frame in frames]

    def service_of(self, identity: bytes) -> str:
        """Return the service whose key the latest messages of a connection came under."""
        return self._peers.get(identity, "")

    def look(self, now_s: float) -> None:
        """Read the keys again if the folder has changed; call this from time to time."""
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            try:
                self._read()
            except SettingsError as error:
                _log.warning("%s; the keys stay as they were", error)

    def close(self) -> None:
        """Close the socket on which libzmq asks."""
        self.socket.close()

    def _read(self) -> None:
        stamp = self._folder.stamp()
        if stamp != self._stamp:
            keys = self._folder.read(broken=lambda error: _log.warning("%s; this key is out", error))
            self._services = {key.public.hex(): key.service for key in keys if key.revoked_s is None}
            self._stamp, self._looked_s = stamp, time.monotonic()
