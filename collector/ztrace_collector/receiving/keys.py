"""Folder of keys: the collector's own pair, and the public half of each service's key.

One idea: one small JSON file per key, written whole or not at all. So adding and revoking a key need no
connection to the collector, which polls the folder. A revoked key keeps its file, with the time, so that a
refusal can name its service. No other user can read the files, not even while they are written.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import zmq
from zmq.utils import z85

from ztrace.enrolment import Enrolment, check_service
from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace.process.keys import SERVER_FILE, Key, ReadableKeys
from ztrace_collector.files import write_whole

#: Minimum of hex digits in the prefix of an id.
MIN_ID_DIGITS = 4


class KeyFolder(ReadableKeys):
    """Folder of keys, read and written."""

    def create(self) -> None:
        """Create the folder, if missing, and the collector's key in it.

        Raises:
            SettingsError: there is a key already, or the folder cannot be created or used.
        """
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            self.check_folder()
        except OSError as error:
            raise SettingsError(f"cannot make {self.path}: {error.strerror}") from error
        public, secret = _make_pair()
        try:
            self._write(
                SERVER_FILE, {"public": public.hex(), "secret": secret.hex(), "made": _text(_now_s())}
            )
        except FileExistsError:
            raise SettingsError(
                f"{self.path} has a server key already, and replacing it would lock every service out",
                hint="to start over, use another folder",
            ) from None

    def add(self, service: str) -> Enrolment:
        """Create a key for a service, and return the enrolment, whose secret is stored nowhere.

        Raises:
            SettingsError: the name is invalid, or the folder cannot be used.
        """
        check_service(service)
        server_public, _ = self.server_pair()
        public, secret = _make_pair()
        key = Key(service, public, _now_s())
        self._write(f"{key.id}.json", _record(key))
        return Enrolment(service, server_public, public, secret)

    def revoke(self, which: str) -> Key:
        """Mark a key as revoked.

        Args:
            which: a prefix of the key's id, or the service if it has a single valid key.

        Raises:
            NotFoundError: no valid key matches.
            SettingsError: several keys match, or the folder cannot be used.
        """
        keys = self.read()
        wanted = [key for key in keys if key.service == which]
        if not wanted and re.fullmatch(rf"[0-9a-f]{{{MIN_ID_DIGITS},}}", which):
            wanted = [key for key in keys if key.id.startswith(which) or key.public.hex() == which]
        good = [key for key in wanted if key.revoked_s is None]
        if not wanted:
            raise NotFoundError(
                f"no key or service is called {quote(which)}", hint="'ztrace keys list' shows them"
            )
        if not good:
            raise NotFoundError(f"every key of {quote(which)} is revoked already")
        if len(good) > 1:
            ids = ", ".join(f"{key.id} ({key.service})" for key in good)
            raise SettingsError(f"{quote(which)} fits several keys", hint=f"give the id of one: {ids}")
        revoked = replace(good[0], revoked_s=_now_s())
        self._write(f"{revoked.id}.json", _record(revoked), over=True)
        return revoked

    def _write(self, name: str, record: Mapping[str, object], *, over: bool = False) -> None:
        """Write a file whole.

        Raises:
            FileExistsError: the file exists, and ``over`` is false.
            SettingsError: the file cannot be written.
        """
        path = self.path / name
        text = json.dumps(record, indent=2, ensure_ascii=False)
        try:
            with write_whole(path, mode=0o600, replace=over) as file:
                file.write(f"{text}\n".encode())
        except FileExistsError:
            raise
        except OSError as error:
            raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _make_pair() -> tuple[bytes, bytes]:
    """Return a new public and secret key."""
    if not zmq.has("curve"):
        raise SettingsError("this build of ZeroMQ has no CURVE", hint="install pyzmq from a wheel")
    public, secret = zmq.curve_keypair()
    return z85.decode(public), z85.decode(secret)


def _record(key: Key) -> dict[str, object]:
    return {
        "service": key.service,
        "public": key.public.hex(),
        "made": _text(key.made_s),
        "revoked": None if key.revoked_s is None else _text(key.revoked_s),
    }


def _now_s() -> int:
    return int(time.time())


def _text(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat().replace("+00:00", "Z")
