"""Every error ztrace raises, as one tree.

    ZtraceError
    ├── SettingsError            a setting or an argument that cannot be used
    ├── WireError                a message that is refused, with the reason it is counted under
    ├── EndpointError            an address that cannot be bound or connected
    ├── NotFoundError            nothing matches what was asked for
    ├── OtlpError                what came as OpenTelemetry's protocol is none
    └── DatabaseError            the database file cannot be used
        ├── DatabaseMissing          there is no file
        ├── DatabaseForeign          it is not ztrace's
        ├── DatabaseNewer            a newer ztrace wrote it
        ├── DatabaseCorrupt          SQLite cannot read it
        ├── DatabaseInUse            another collector writes it
        └── DatabaseBlocked          it cannot be written at the moment: no space, a lock

The agent catches its own errors, counts them and goes on: none of these reaches a traced program. The
collector and the viewer raise them, and the command line prints ``message`` and ``hint`` on one line.
"""


class ZtraceError(Exception):
    """Say what is wrong in one line, and in ``hint`` what the user can do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class SettingsError(ZtraceError):
    """A setting or an argument cannot be used."""


class WireError(ZtraceError):
    """A message is refused; ``reason`` is the word it is counted under in ``ztrace status``."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class EndpointError(ZtraceError):
    """An address cannot be bound or connected."""


class NotFoundError(ZtraceError):
    """Nothing matches what was asked for; the command line exits with status 1."""


class OtlpError(ZtraceError):
    """What came as OpenTelemetry's protocol is none, or beyond the limits; nothing of it was taken."""


class DatabaseError(ZtraceError):
    """The database file cannot be used."""


class DatabaseMissing(DatabaseError):
    """There is no database file."""


class DatabaseForeign(DatabaseError):
    """The file is not a ztrace database."""


class DatabaseNewer(DatabaseError):
    """A newer ztrace wrote the database."""


class DatabaseCorrupt(DatabaseError):
    """SQLite cannot read the database."""


class DatabaseInUse(DatabaseError):
    """Another collector writes to the database."""


class DatabaseBlocked(DatabaseError):
    """The database cannot be written for now, and nothing is wrong with it: what holds it up may pass."""
