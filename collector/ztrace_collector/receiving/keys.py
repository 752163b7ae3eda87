"""Folder of keys: the collector's own pair, and the public half of each service's key.

One idea: one small JSON file per key, written whole or not at all. So adding and revoking a key need no
connection to the collector, which polls the folder. A revoked key keeps its file, with the time, so that a
refusal can name its service. No other user can read the files, not even while they are written.
"""

import json
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from ztrace.enrolment import KEY_BYTES, Enrolment, check_service
from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace.process.owners import is_trusted, name_user
from ztrace_collector.files import write_whole

#: File of the collector's pair; each other file whose name is an id is a service's key.
SERVER_FILE = "server.json"
#: Hex digits of the public key that make up a key's id: enough to be unique.
ID_DIGITS = 12
#: Minimum of hex digits in the prefix of an id.
MIN_ID_DIGITS = 4
#: Maximum of bytes read from a file; a key with the longest name takes far less.
MAX_FILE_BYTES = 1 << 14

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ID_FILE = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}\.json")


@dataclass(frozen=True, slots=True)
class Key:
    """Public half of a service's key.

    Attributes:
        service: the only service name that may be sent under it.
        public: 32 bytes.
        made_s: creation time, Unix.
        revoked_s: time of revocation, Unix; None while the key is valid.
    """

    service: str
    public: bytes
    made_s: int
    revoked_s: int | None = None

    @property
    def id(self) -> str:
        """Name of the key on the command line and of its file."""
        return self.public.hex()[:ID_DIGITS]


class KeyFolder:
    """Folder of keys, read on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Create the folder, if missing, and the collector's key in it.

        Raises:
            SettingsError: there is a key already, or the folder cannot be created or used.
        """
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            self._check_folder()
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

    def server_pair(self) -> tuple[bytes, bytes]:
        """Return the collector's public and secret key.

        Raises:
            SettingsError: there is no key, or the key is damaged or accessible to other users.
        """
        self._check_folder()
        record = self._load(SERVER_FILE)
        return self._key_bytes(record, "public", SERVER_FILE), self._key_bytes(record, "secret", SERVER_FILE)

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

    def read(self, *, broken: Callable[[SettingsError], None] | None = None) -> list[Key]:
        """Return the keys of all services, the oldest first, with the revoked ones.

        Args:
            broken: called with the error of each unusable file, which is then left out.

        Raises:
            SettingsError: the folder cannot be used, or one of the files and ``broken`` is None.
        """
        self._check_folder()
        found = []
        for name in filter(_ID_FILE.fullmatch, os.listdir(self.path)):
            try:
                found.append(self._key(name))
            except SettingsError as error:
                if broken is None:
                    raise
                broken(error)
        return sorted(found, key=lambda key: (key.made_s, key.service, key.id))

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

    def stamp(self) -> tuple[object, ...]:
        """Return a value that changes with the content of the folder; a missing folder has a value, too."""
        try:
            with os.scandir(self.path) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            return (error.errno,)
        return tuple(sorted((name, s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_size) for name, s in found))

    def _key(self, name: str) -> Key:
        record = self._load(name)
        try:
            revoked = record["revoked"]
            key = Key(
                check_service(record["service"]),
                self._key_bytes(record, "public", name),
                _seconds(record["made"]),
                None if revoked is None else _seconds(revoked),
            )
        except (KeyError, TypeError, ValueError, SettingsError):
            raise self._damaged(name) from None
        if f"{key.id}.json" != name:
            raise self._damaged(name)
        return key

    def _key_bytes(self, record: Mapping[str, Any], field: str, name: str) -> bytes:
        try:
            key = bytes.fromhex(record[field])
        except (KeyError, TypeError, ValueError):
            raise self._damaged(name) from None
        if len(key) != KEY_BYTES:
            raise self._damaged(name)
        return key

    def _damaged(self, name: str) -> SettingsError:
        return SettingsError(
            f"{self.path / name} is damaged", hint="restore it, or remove it and add a new key"
        )

    def _check_folder(self) -> None:
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise SettingsError(
                f"there are no keys in {self.path}: {error.strerror}",
                hint="make them with 'ztrace keys init'",
            ) from error
        if not stat.S_ISDIR(status.st_mode):
            raise SettingsError(f"{self.path} is not a folder", hint="'ztrace keys init' makes one")
        _check_private(self.path, status)

    def _load(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(number, "rb") as file:
                _check_private(path, os.fstat(number))
                record = json.loads(file.read(MAX_FILE_BYTES))
        except FileNotFoundError:
            raise SettingsError(f"there is no {path}", hint="make it with 'ztrace keys init'") from None
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from error
        except ValueError:
            raise self._damaged(name) from None
        if not isinstance(record, dict):
            raise self._damaged(name)
        return record

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


def _check_private(path: Path, status: os.stat_result) -> None:
    if not is_trusted(status.st_uid):
        raise SettingsError(
            f"{path} belongs to another user, {name_user(status.st_uid)}",
            hint=f"run as that user, or 'chown' it after a look at what is in {path}",
        )
    if status.st_mode & _OTHERS:
        raise SettingsError(f"others can read or change {path}", hint=f"chmod go= {path}")


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


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
