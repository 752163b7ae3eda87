"""Protocol between the collector and the forwarding process, one message per line.

One idea: the collector sends orders, the process reports, the collector confirms written reports. Orders
contain secrets, so they go through a pipe, where neither ``ps`` nor the environment shows them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ztrace_collector.otlp.sending.destinations import Destination


class Orders(NamedTuple):
    """First line that the process reads.

    Attributes:
        database: the collector's file.
        destinations: the destinations, each with its key in the table ``destinations``.
        unfinished: also send unfinished spans once their processes have ended.
    """

    database: Path
    destinations: Sequence[tuple[int, Destination]]
    unfinished: bool

    def to_line(self) -> bytes:
        """Return the orders as a line."""
        destinations = [(key, asdict(destination)) for key, destination in self.destinations]
        return json.dumps([str(self.database.absolute()), destinations, self.unfinished]).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Orders":
        """Parse the line of `to_line`."""
        database, destinations, unfinished = json.loads(line)
        return cls(Path(database), [(key, _destination(fields)) for key, fields in destinations], unfinished)


def _destination(fields: dict[str, Any]) -> Destination:
    # JSON has lists instead of tuples.
    fields["headers"] = tuple((name, value) for name, value in fields["headers"])
    fields["secrets"] = tuple(fields["secrets"])
    return Destination(**fields)


class Report(NamedTuple):
    """Outcome of spans at one destination, or the error of a failed request.

    Attributes:
        destination: key in ``destinations``.
        at_ns: the time, Unix.
        place: id of the last span; None for a report of unfinished spans, or of an error.
        sent: number of spans accepted.
        skipped: number of spans deleted before they could be sent.
        refused: number of spans rejected, and the destination's message, by reason.
        unfinished: trace and span ids, hex, of unfinished spans.
        error: the error; None if the destination has answered.
    """

    destination: int
    at_ns: int
    place: int | None = None
    sent: int = 0
    skipped: int = 0
    refused: Mapping[str, tuple[int, str]] = MappingProxyType({})
    unfinished: Sequence[tuple[str, str]] = ()
    error: str | None = None

    def to_line(self) -> bytes:
        """Return the report as a line."""
        return json.dumps(self._replace(refused=dict(self.refused))).encode() + b"\n"


def read_line(line: bytes) -> Report | str:
    """Parse a line of the process: a report, or a line for the user."""
    heard = json.loads(line)
    return heard if isinstance(heard, str) else Report(*heard)


def pack_confirmations(destinations: Iterable[int]) -> bytes:
    """Return the lines that confirm one report for each destination."""
    return b"".join(b"%d\n" % destination for destination in destinations)
