"""Enrolment of a service: the line that ``ztrace keys add`` prints and ZTRACE_KEY holds.

One idea: everything that a service needs to reach a collector with keys is one word, without characters that
are special in a shell, a unit file or a URL. A checksum at its end detects a mistyped or truncated word
before a connection fails for no visible reason.

The word is a password: with it, any program can send spans as that service. No error message repeats it.
"""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Self

from ztrace.errors import SettingsError

#: First part of the word; a new layout gets a new number.
PREFIX = "ztrace1"
#: Size of a CURVE key in bytes.
KEY_BYTES = 32
#: Maximum length of a service's name, which every message carries.
MAX_SERVICE = 256

_HINT = "'ztrace keys add SERVICE' prints one, for that service"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Name and keys of a service; keys are 32 bytes, as pyzmq's ``curve_*`` options take them.

    Attributes:
        service: the only name under which the service may send spans.
        server_public: public key of the collector, which authenticates it to the service.
        public: public key of the service, for ``curve_publickey``.
        secret: secret key of the service, for ``curve_secretkey``.
    """

    service: str
    server_public: bytes
    public: bytes
    secret: bytes = field(repr=False)

    def format(self) -> str:
        """Format the enrolment as the text that `parse` accepts."""
        parts = (self.service.encode(), self.server_public, self.public, self.secret)
        text = ".".join((PREFIX, *map(_encode, parts)))
        return f"{text}.{_checksum(text)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the output of `format` or ``ztrace keys add``, ignoring surrounding white space.

        Raises:
            SettingsError: the text is no enrolment, mistyped or truncated. The message does not repeat it.
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
    """Return the name unchanged if a key can be bound to it.

    Raises:
        SettingsError: the name is empty, too long, or not printable.
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
