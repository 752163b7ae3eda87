"""The folder of keys: the collector's own, and of each service's only the public half.

One idea: one small JSON file per key, written whole or not at all, so that adding and revoking need no
collector that is told: it looks at the folder. A revoked key keeps its file, with the time, so that a refusal
can say whose key it was. Nobody but the owner can read any of it, not even while it is being written.
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
from ztrace.errors import NotFoundError, SettingsError
from ztrace_collector.files import write_whole

#: The collector's pair; every other file of the folder that ends in .json is a service's key.
SERVER_FILE = "server.json"
#: Hex digits of the public key that name a key: enough that two are never the same by chance.
ID_DIGITS = 12
#: Hex digits that must be given of an id.
MIN_ID_DIGITS = 4
#: Bytes of a file; one with the longest name is far below.
MAX_FILE_BYTES = 1 << 14

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ID_FILE = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}\.json")


@dataclass(frozen=True, slots=True)
class Key:
    """The public half of one of a service's keys.

    Attributes:
        service: the only name it may send under.
        public: 32 bytes.
        made_s: when, Unix.
        revoked_s: likewise; None while it is good.
    """

    service: str
    public: bytes
    made_s: int
    revoked_s: int | None = None

    @property
    def id(self) -> str:
        """What names it on the command line, and its file."""
        return self.public.hex()[:ID_DIGITS]


class KeyFolder:
    """A folder of keys; nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the folder, if there is none, and the collector's key in it.

        Raises:
            SettingsError: there is a key already, or the folder cannot be made or used.
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
                hint="to begin anew, take another folder",
            ) from None

    def server_pair(self) -> tuple[bytes, bytes]:
        """Return the collector's public and secret key.

        Raises:
            SettingsError: there is none, it is damaged, or others can read it.
        """
        self._check_folder()
        record = self._load(SERVER_FILE)
        return self._key_bytes(record, "public", SERVER_FILE), self._key_bytes(record, "secret", SERVER_FILE)

    def add(self, service: str) -> Enrolment:
        """Make a key for a service; what is returned is in no file.

        Raises:
            SettingsError: the name cannot be one, or the folder cannot be used.
        """
        check_service(service)
        server_public, _ = self.server_pair()
        public, secret = _make_pair()
        key = Key(service, public, _now_s())
        self._write(f"{key.id}.json", _record(key))
        return Enrolment(service, server_public, public, secret)

    def read(self, *, broken: Callable[[SettingsError], None] | None = None) -> list[Key]:
        """Return every service's keys, the oldest first; the revoked ones too.

        Args:
            broken: told of each file that cannot be used, which is then left out.

        Raises:
            SettingsError: the folder cannot be used, or one of the files and nobody is to be told.
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
        """Mark a key as revoked; it is named by its id's beginning, or by the service if that has one only.

        Raises:
            NotFoundError: no key that is good is called so.
            SettingsError: several are, or the folder cannot be used.
        """
        keys = self.read()
        wanted = [key for key in keys if key.service == which]
        if not wanted and re.fullmatch(rf"[0-9a-f]{{{MIN_ID_DIGITS},}}", which):
            wanted = [key for key in keys if key.id.startswith(which) or key.public.hex() == which]
        good = [key for key in wanted if key.revoked_s is None]
        if not wanted:
            raise NotFoundError(
                f"no key or service is called {which!r}", hint="'ztrace keys list' shows them"
            )
        if not good:
            raise NotFoundError(f"every key of {which!r} is revoked already")
        if len(good) > 1:
            ids = ", ".join(f"{key.id} ({key.service})" for key in good)
            raise SettingsError(f"{which!r} fits several keys", hint=f"give the id of one: {ids}")
        revoked = replace(good[0], revoked_s=_now_s())
        self._write(f"{revoked.id}.json", _record(revoked), over=True)
        return revoked

    def stamp(self) -> tuple[object, ...]:
        """Return what is different once anything in the folder is; a folder that is gone has its own."""
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
            mode = os.stat(self.path).st_mode
        except OSError as error:
            raise SettingsError(
                f"there are no keys in {self.path}: {error.strerror}",
                hint="make them with 'ztrace keys init'",
            ) from error
        if not stat.S_ISDIR(mode):
            raise SettingsError(f"{self.path} is not a folder", hint="'ztrace keys init' makes one")
        _check_private(self.path, mode)

    def _load(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(number, "rb") as file:
                _check_private(path, os.fstat(number).st_mode)
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
        """Put a file there whole.

        Raises:
            FileExistsError: it is there, and ``over`` is not given.
            SettingsError: the disk or the folder refuses.
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


def _check_private(path: Path, mode: int) -> None:
    if mode & _OTHERS:
        raise SettingsError(f"others can read or change {path}", hint=f"chmod go= {path}")


def _make_pair() -> tuple[bytes, bytes]:
    """Return a public and a secret key."""
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
