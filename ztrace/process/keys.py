"""Folder of keys, read: a server's own pair, and the public half of each service's key.

`ztrace keys` writes the folder; the collector and servers of the RPC read it. One idea: one small JSON file
per key, written whole or not at all, so a reader only polls. A revoked key keeps its file, with the time.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ztrace.enrolment import KEY_BYTES, check_service
from ztrace.errors import SettingsError
from ztrace.process.owners import is_trusted, name_user

#: File of the collector's pair; each other file whose name is an id is a service's key.
SERVER_FILE = "server.json"
#: Hex digits of the public key that make up a key's id: enough to be unique.
ID_DIGITS = 12
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


class ReadableKeys:
    """Folder of keys, read on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def server_pair(self) -> tuple[bytes, bytes]:
        """Return the collector's public and secret key.

        Raises:
            SettingsError: there is no key, or the key is damaged or accessible to other users.
        """
        self.check_folder()
        record = self._load(SERVER_FILE)
        return self._key_bytes(record, "public", SERVER_FILE), self._key_bytes(record, "secret", SERVER_FILE)

    def read(self, *, broken: Callable[[SettingsError], None] | None = None) -> list[Key]:
        """Return the keys of all services, the oldest first, with the revoked ones.

        Args:
            broken: called with the error of each unusable file, which is then left out.

        Raises:
            SettingsError: the folder cannot be used, or one of the files and ``broken`` is None.
        """
        self.check_folder()
        found = []
        for name in filter(_ID_FILE.fullmatch, os.listdir(self.path)):
            try:
                found.append(self._key(name))
            except SettingsError as error:
                if broken is None:
                    raise
                broken(error)
        return sorted(found, key=lambda key: (key.made_s, key.service, key.id))

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

    def check_folder(self) -> None:
        """Check that the folder exists, and that other users can neither read nor change it.

        Raises:
            SettingsError: the folder cannot be used.
        """
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


def _check_private(path: Path, status: os.stat_result) -> None:
    if not is_trusted(status.st_uid):
        raise SettingsError(
            f"{path} belongs to another user, {name_user(status.st_uid)}",
            hint=f"run as that user, or 'chown' it after a look at what is in {path}",
        )
    if status.st_mode & _OTHERS:
        raise SettingsError(f"others can read or change {path}", hint=f"chmod go= {path}")


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
