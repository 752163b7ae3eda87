"""Selection of a time, a service and a method, shared by all queries."""

from dataclasses import dataclass

from ztrace.errors import SettingsError
from ztrace.records import INT64_MAX
from ztrace_collector.layout import MINUTE_NS


@dataclass(frozen=True, slots=True)
class Selection:
    """Part of the database that a query reads; None selects everything.

    Attributes:
        since_ns: Unix, inclusive.
        until_ns: Unix, exclusive.
        service: a service's exact name.
        method: a span's exact name.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    service: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.since_ns is not None and self.until_ns is not None and self.since_ns >= self.until_ns:
            raise SettingsError("--since is not before --until", hint="5m for --since means five minutes ago")

    @property
    def in_time(self) -> bool:
        """Presence of a bound in time."""
        return self.since_ns is not None or self.until_ns is not None

    @property
    def minutes(self) -> tuple[int, int]:
        """First and last minute that the time touches."""
        last = INT64_MAX // MINUTE_NS if self.until_ns is None else (self.until_ns - 1) // MINUTE_NS
        return (self.since_ns or 0) // MINUTE_NS, last


#: Selection of everything.
EVERYTHING = Selection()


def match_names(selection: Selection, service: str, name: str) -> tuple[list[str], list[object]]:
    """Return SQL conditions on two columns for the selected service and method, and their values."""
    wanted = [(service, selection.service), (name, selection.method)]
    conditions = [f"{column} = ?" for column, value in wanted if value is not None]
    return conditions, [value for _, value in wanted if value is not None]
