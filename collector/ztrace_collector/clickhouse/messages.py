"""Lines between the collector and the process that sends to ClickHouse, one message per line.

One idea: the process reports a step before and after each block, and waits until it is written in the
journal. The end of a block is there before the block is sent, so a block that is repeated after a kill has
the boundaries, the token and the time of arrival of the first attempt, which the engine then recognizes.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from ztrace_collector.clickhouse.address import ClickHouseAddress


class Orders(NamedTuple):
    """First line that the process reads; it contains the password.

    Attributes:
        database: the collector's file.
        destination: key of the address in the table ``destinations``.
        address: where to send.
        thin: share of ordinary traces to keep there; None to keep all.
    """

    database: Path
    destination: int
    address: ClickHouseAddress
    thin: float | None = None

    def to_line(self) -> bytes:
        """Return the orders as a line."""
        fields = [str(self.database.absolute()), self.destination, asdict(self.address), self.thin]
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Orders":
        """Parse the line of `to_line`."""
        database, destination, address, thin = json.loads(line)
        return cls(Path(database), destination, ClickHouseAddress(**address), thin)


class Step(NamedTuple):
    """Progress of sending, or an error.

    Attributes:
        destination: key in ``destinations``.
        at_ns: the time, Unix.
        engine: id of the ClickHouse database; empty in an error before it is known.
        error: the error; None if the engine has answered.
        begins: a connection has begun, and the journal has to have a row for the engine.
        place: id of the last span that is stored there; None if that has not changed.
        sent: number of spans stored since the last step.
        skipped: number of spans that were deleted before the first block.
        block_end: id of the last span of the block that is sent next; None if there is none.
        block_ms: time of arrival of that block, Unix, in milliseconds.
        changes: id in ``changes`` up to which all rows are stored; None if that has not changed.
        complete: id of the last span whose other rows are stored as well; None if that has not changed.
    """

    destination: int
    at_ns: int
    engine: str = ""
    error: str | None = None
    begins: bool = False
    place: int | None = None
    sent: int = 0
    skipped: int = 0
    block_end: int | None = None
    block_ms: int = 0
    changes: int | None = None
    complete: int | None = None

    def to_line(self) -> bytes:
        """Return the step as a line."""
        return json.dumps(self).encode() + b"\n"


#: Line that confirms a step.
CONFIRMATION = b"written\n"


def read_line(line: bytes) -> Step | str:
    """Parse a line of the process: a step, or a line for the user."""
    heard = json.loads(line)
    return heard if isinstance(heard, str) else Step(*heard)
