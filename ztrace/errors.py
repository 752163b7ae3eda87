"""Errors that ztrace raises, as one tree.

    ZtraceError
    ├── SettingsError            invalid setting or argument
    ├── WireError                refused message, with the reason it is counted under
    ├── EndpointError            address that cannot be bound or connected to
    ├── NotFoundError            no match for a query
    ├── OtlpError                malformed or oversized OTLP request
    │   └── RefusedRequest           in the collector, with the status of its answer
    ├── Busy                     nothing accepted by the collector at the moment
    ├── Closed                   nothing accepted any more: the collector has ended
    └── DatabaseError            unusable database file
        ├── DatabaseMissing          no such file
        ├── DatabaseForeign          a file of another program
        ├── DatabaseNewer            written by a newer ztrace
        ├── DatabaseCorrupt          unreadable by SQLite
        ├── DatabaseInUse            locked by another collector
        └── DatabaseBlocked          not writable at the moment: no space, or a lock

`Busy` and `Closed` stand beside the collector's inbox, `RefusedRequest` beside its OTLP listeners.

The agent catches and counts its own errors, so none of these reaches a traced program. The collector and the
viewer raise them, and the command line prints ``message`` and ``hint`` on one line.
"""

#: Characters of a value that a message repeats, and of a message; a value may have any length.
MAX_QUOTED, MAX_MESSAGE = 80, 1000


def quote(value: object) -> str:
    """Return the beginning of a value for a message: on one line, escaped, and of bounded length."""
    if isinstance(value, (str, bytes)):
        if len(value) <= MAX_QUOTED:
            return repr(value)
        return f"{value[:MAX_QUOTED]!r} and {len(value) - MAX_QUOTED:,} more"
    try:
        text = repr(value)
    except Exception:  # Python prints no integer of more than 4300 digits.
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


class ZtraceError(Exception):
    """Base of all errors of ztrace.

    Attributes:
        message: one line that says what is wrong.
        hint: what the user can do about it; empty if there is nothing.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        if len(message) > MAX_MESSAGE:
            message = message[: MAX_MESSAGE - 1] + "…"
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class SettingsError(ZtraceError):
    """Invalid setting or argument."""


class WireError(ZtraceError):
    """Refused message; ``reason`` is the word that ``ztrace status`` counts it under."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class EndpointError(ZtraceError):
    """Address that cannot be bound or connected to."""


class NotFoundError(ZtraceError):
    """Query without a match; the command line exits with status 1."""


class OtlpError(ZtraceError):
    """Malformed or oversized OTLP request, of which nothing was accepted."""


class DatabaseError(ZtraceError):
    """Database file that cannot be used."""


class DatabaseMissing(DatabaseError):
    """Database file that does not exist."""


class DatabaseForeign(DatabaseError):
    """File that is not a ztrace database."""


class DatabaseNewer(DatabaseError):
    """Database written by a newer ztrace."""


class DatabaseCorrupt(DatabaseError):
    """Database that SQLite cannot read."""


class DatabaseInUse(DatabaseError):
    """Database that another collector has open for writing."""


class DatabaseBlocked(DatabaseError):
    """Sound database that cannot be written at the moment; the obstacle may pass."""
