"""Address of a ClickHouse database: ``clickhouse://[USER:PASSWORD@]HOST[:PORT]/DATABASE``."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ztrace.errors import SettingsError, quote

#: Schemes of plain HTTP and of TLS, with the port of each that ClickHouse itself uses.
PORTS = {"clickhouse": 8123, "clickhouses": 8443}
#: Variables with the user and the password of an address that has none.
USER_VARIABLE, PASSWORD_VARIABLE = "ZTRACE_CLICKHOUSE_USER", "ZTRACE_CLICKHOUSE_PASSWORD"
_FORM = "give clickhouse://HOST:8123/DATABASE, or clickhouses:// for TLS"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """Database of a ClickHouse server, reached over HTTP.

    Attributes:
        url: the address for people, without user and password.
        host: the server.
        port: its port for HTTP.
        database: name of the database.
        secure: whether TLS is used.
        user: name of the user.
        password: the user's password.
    """

    url: str
    host: str
    port: int
    database: str
    secure: bool = False
    user: str = field(default="default", repr=False)
    password: str = field(default="", repr=False)

    def redact(self, text: str) -> str:
        """Return a text as one line without the password."""
        if self.password:
            text = text.replace(self.password, "…")
        return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def is_clickhouse(text: str) -> bool:
    """Return whether a text is the address of a ClickHouse database rather than the path of a file."""
    return text.partition("://")[0].lower() in PORTS


def read_address(text: str, environment: Mapping[str, str] = os.environ) -> ClickHouseAddress:
    """Parse the address of a database.

    Args:
        text: the address.
        environment: variables, which have user and password if the address has none.

    Raises:
        SettingsError: the text is not such an address.
    """
    # The text is not repeated, since it may have a password in any place.
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise SettingsError("the ClickHouse address cannot be read as a URL", hint=_FORM) from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise SettingsError("this is not the address of a ClickHouse database", hint=_FORM)
    database = parts.path.strip("/")
    if not _NAME.fullmatch(database) or parts.query or parts.fragment:
        raise SettingsError(
            f"{quote(database)} is not the name of a ClickHouse database"
            if database
            else "no database is named",
            hint=f"{_FORM}; names have letters, digits and underscores",
        )
    port = port or PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = unquote(parts.username or "") or environment.get(USER_VARIABLE) or "default"
    password = unquote(parts.password or "") or environment.get(PASSWORD_VARIABLE) or ""
    if not _is_text(user + password):
        raise SettingsError(
            "user and password of the ClickHouse address are not UTF-8",
            hint=f"set {USER_VARIABLE} and {PASSWORD_VARIABLE} in UTF-8",
        )
    return ClickHouseAddress(
        url=f"{parts.scheme}://{host}:{port}/{database}",
        host=parts.hostname,
        port=port,
        database=database,
        secure=parts.scheme == "clickhouses",
        user=user,
        password=password,
    )


def _is_text(value: str) -> bool:
    """Return whether a value has no bytes that are not UTF-8, which Python keeps as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
