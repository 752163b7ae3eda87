"""What the collector and the process that sends on say to each other, a line at a time.

One idea: the collector gives orders, the process reports, the collector confirms what it has written down.
The orders have secrets, so they go through a pipe, where neither ``ps`` nor the environment shows them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ztrace_collector.otlp.sending.destinations import Destination

#: The word after which what can be sent at once is sent, and the process ends.
FINISH = b"finish\n"


class Orders(NamedTuple):
    """What is to be done: the first line that the process hears.

    Attributes:
        database: the file.
        destinations: each with its key of the table ``destinations``.
        unfinished: also send spans that have not ended once their processes have.
    """

    database: Path
    destinations: Sequence[tuple[int, Destination]]
    unfinished: bool

    def to_line(self) -> bytes:
        """Return them on one line."""
        destinations = [(key, asdict(destination)) for key, destination in self.destinations]
        return json.dumps([str(self.database.absolute()), destinations, self.unfinished]).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Orders":
        """Return what `to_line` made a line of."""
        database, destinations, unfinished = json.loads(line)
        return cls(Path(database), [(key, _destination(fields)) for key, fields in destinations], unfinished)


def _destination(fields: dict[str, Any]) -> Destination:
    # JSON has lists only.
    fields["headers"] = tuple((name, value) for name, value in fields["headers"])
    fields["secrets"] = tuple(fields["secrets"])
    return Destination(**fields)


class Report(NamedTuple):
    """What has become of spans at one destination, or that it does not answer.

    Attributes:
        destination: key of ``destinations``.
        at_ns: when, Unix.
        place: the last span's id; None if the report is of spans that have not ended, or of an error.
        sent: how many it has taken.
        skipped: how many were deleted before they were sent.
        refused: how many it refused, by reason, and what it said.
        unfinished: trace and span ids, hex, of those that have not ended.
        error: why it has not answered; None if it has.
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
        """Return it on one line."""
        return json.dumps(self._replace(refused=dict(self.refused))).encode() + b"\n"


def read_line(line: bytes) -> Report | str:
    """Return what the process says: a report, or a line for people."""
    heard = json.loads(line)
    return heard if isinstance(heard, str) else Report(*heard)


def pack_confirmations(destinations: Iterable[int]) -> bytes:
    """Return the lines that confirm a report of each of some destinations."""
    return b"".join(b"%d\n" % destination for destination in destinations)


def pack_words(line: str) -> bytes:
    """Return a line for people, as the process says it."""
    return json.dumps(line).encode() + b"\n"
