"""Token that requests must have.

One idea: the token lives as long as its database, so it is stored in a file beside it, readable by the owner
only; that of a ClickHouse database in the user's own folder. A person gets it with the page's URL; a program
is given it once.
"""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from ztrace.errors import SettingsError
from ztrace.process.owners import is_trusted, name_user
from ztrace_collector.files import write_whole
from ztrace_viewer.interrupts import ignored
from ztrace_viewer.queries.stores.source import Source, make_side

#: Variable with the token, in place of the file.
TOKEN_VARIABLE = "ZTRACE_WEB_TOKEN"
#: Suffix of the file, after the database's name.
SUFFIX = ".token"
#: Least characters of a token, and bytes of a generated one: 192 bits.
MIN_LENGTH, _MADE_BYTES = 16, 24
#: Tokens that need no escaping in a URL, a header and a cookie.
_TOKEN = re.compile(rf"[A-Za-z0-9_.~-]{{{MIN_LENGTH},256}}", re.ASCII)


def find_token(database: Source, environment: Mapping[str, str] = os.environ) -> str:
    """Return the token of the variable, or of the file beside the database, which is created if missing.

    Raises:
        SettingsError: the token is invalid, or cannot be read or stored.
    """
    given = environment.get(TOKEN_VARIABLE)
    if given:
        if not _TOKEN.fullmatch(given):
            raise SettingsError(
                f"{TOKEN_VARIABLE} is not a token",
                hint=f"use {MIN_LENGTH} to 256 letters, digits and any of -_.~",
            )
        return given
    side = make_side(database)
    path = side.with_name(side.name + SUFFIX)
    try:
        return _read(path)
    except FileNotFoundError:
        return _make(path)
    except OSError as error:
        raise _explain(path, error) from error


def _make(path: Path) -> str:
    token = secrets.token_urlsafe(_MADE_BYTES)
    try:
        with ignored(), write_whole(path, mode=0o600, replace=False) as file:
            file.write(f"{token}\n".encode())
    except FileExistsError:
        return _read(path)  # Another process was first.
    except OSError as error:
        raise _explain(path, error) from error
    return token


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, errors="replace") as file:
        status = os.fstat(descriptor)
        if not is_trusted(status.st_uid):
            raise SettingsError(
                f"{path} belongs to another user, {name_user(status.st_uid)}",
                hint=f"run as that user, or give another token as {TOKEN_VARIABLE}",
            )
        if status.st_mode & 0o077:
            raise SettingsError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        token = file.read(1024).strip()
    if not _TOKEN.fullmatch(token):
        raise SettingsError(f"{path} contains no token", hint="delete it, and a new one is created")
    return token


def _explain(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"cannot store the token in {path}: {error.strerror}", hint=f"give one as {TOKEN_VARIABLE}"
    )
