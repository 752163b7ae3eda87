"""The one line of text that lets a service in: what ``ztrace keys add`` prints and ZTRACE_KEY holds.

One idea: everything that the service needs to reach a collector with keys is one word without a character
that a shell, a unit file or a URL would read otherwise, and a checksum at its end tells a mistyped or cut one
before a connection fails for no visible reason.

It is a password: whoever has it can send spans as that service. Nothing here ever shows the secret.
"""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Self

from ztrace.errors import SettingsError

#: The first part; another layout would have another number.
PREFIX = "ztrace1"
#: Bytes of each CURVE key.
KEY_BYTES = 32
#: Characters of a service's name: what every message can carry.
MAX_SERVICE = 256

_HINT = "'ztrace keys add SERVICE' prints one, for that service"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What one service has; keys are 32 bytes, as pyzmq's ``curve_*`` options take them.

    Attributes:
        service: the only name it may send spans under.
        server_public: the collector's key, by which the service knows that it is the right one.
        public: the service's own key, for ``curve_publickey``.
        secret: for ``curve_secretkey``.
    """

    service: str
    server_public: bytes
    public: bytes
    secret: bytes = field(repr=False)

    def format(self) -> str:
        """Return the text that `parse` reads."""
        parts = (self.service.encode(), self.server_public, self.public, self.secret)
        text = ".".join((PREFIX, *map(_encode, parts)))
        return f"{text}.{_checksum(text)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `format` or ``ztrace keys add`` wrote; space around it is left out.

        Raises:
            SettingsError: it is none, or mistyped, or cut. The text is not shown: it is secret.
        """
        text = text.strip()
        prefix, _, rest = text.partition(".")
        if prefix != PREFIX:
            raise SettingsError(f"the key does not begin with '{PREFIX}.'", hint=_HINT)
        body, _, checksum = text.rpartition(".")
        fields = rest.split(".")
        if len(fields) != 5 or not body.isascii() or checksum != _checksum(body):
            raise SettingsError("the key is mistyped or not whole", hint=_HINT)
        try:
            service, server_public, public, secret = map(_decode, fields[:4])
            name = check_service(service.decode())
        except (ValueError, SettingsError):
            raise SettingsError("the key is damaged", hint=_HINT) from None
        if {len(server_public), len(public), len(secret)} != {KEY_BYTES}:
            raise SettingsError("the key is damaged", hint=_HINT)
        return cls(name, server_public, public, secret)


def check_service(name: str) -> str:
    """Return a name that a key can be bound to.

    Raises:
        SettingsError: it is empty, too long, or has characters that no terminal shows.
    """
    if not 0 < len(name) <= MAX_SERVICE or not name.isprintable() or name != name.strip():
        raise SettingsError(
            f"{name[:40]!r} cannot be a service's name",
            hint=f"1 to {MAX_SERVICE} characters that can be printed, without spaces around them",
        )
    return name


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
