"""Admission by keys: a key is valid for one service, until it is revoked.

One idea: libzmq vouches for the key that a message came under, so nothing in the message has to be trusted.
The collector polls the folder of keys, so adding and revoking need no connection to it.
"""

import logging
import time
from collections.abc import Callable, Sequence

from zmq.utils import z85

from ztrace.errors import SettingsError, WireError
from ztrace.process.keys import Key
from ztrace.wire import unpack_header
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_collector.refusals import KEY_REVOKED, SERVICE_NOT_OF_KEY, Note

#: Poll interval of the folder of keys.
LOOK_S = 1.0

_log = logging.getLogger(__name__)


class Admission:
    """Keys of a folder, as of the latest poll."""

    def __init__(self, folder: KeyFolder, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Read the keys.

        Raises:
            SettingsError: the folder cannot be used.
        """
        self._folder = folder
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._stamp = folder.stamp()
        self._keys = _by_user(folder.read())
        #: Keys that have been used to connect since the port was opened.
        self._entered: set[str] = set()
        self._unsaid: list[str] = []

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the holder of a key may connect; pyzmq calls this for each handshake.

        An unknown key may have been created a moment ago, and a libzmq client that is denied once never
        retries, so the folder is read again before a key is denied.
        """
        user = key.decode()
        if user not in self._keys:
            self._read_changes()
        if not self._is_good(user):
            return False
        self._entered.add(user)
        return True

    def admit(self, user: str, frames: Sequence[bytes], note: Note) -> bool:
        """Return whether a message may be stored; a message that may not is counted.

        Args:
            user: the key that the message came under.
            frames: the message.
            note: counts the refusal.
        """
        key = self._keys.get(user)
        if key is None or key.revoked_s is not None:
            note(KEY_REVOKED, f"key {key.id} of {key.service}" if key else "a key that was removed")
            return False
        if len(frames) != 3:
            return True  # The store refuses messages without a header, each under its own reason.
        try:
            service = unpack_header(frames[1]).service
        except WireError:
            return True
        if service != key.service:
            note(SERVICE_NOT_OF_KEY, f"{service[:80]!r} under key {key.id} of {key.service}")
            return False
        return True

    def look(self, say: Callable[[str], None]) -> bool:
        """Read the keys again if the folder has changed.

        Args:
            say: called with each error, as a line for the user.

        Returns:
            True if a key that may be in use has become invalid, so that the port has to be opened again.
        """
        now_s = self._clock_s()
        if now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        self._read_changes()
        while self._unsaid:
            say(self._unsaid.pop(0))
        if all(map(self._is_good, self._entered)):
            return False
        self._entered.clear()
        return True

    def _read_changes(self) -> None:
        stamp = self._folder.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys = self._folder.read(broken=lambda error: self._unsaid.append(f"{error}; this key is out"))
        except SettingsError as error:
            self._unsaid.append(f"{error}; the keys stay as they were")
        else:
            self._keys = _by_user(keys)
            _log.info("read %d keys again", len(keys))

    def _is_good(self, user: str) -> bool:
        key = self._keys.get(user)
        return key is not None and key.revoked_s is None


def _by_user(keys: Sequence[Key]) -> dict[str, Key]:
    """Return keys by the user id that libzmq gives their holders."""
    return {z85.encode(key.public).decode(): key for key in keys}
