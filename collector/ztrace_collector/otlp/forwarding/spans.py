"""Forwarding of spans to OTLP receivers, as the collector sees it."""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from ztrace_collector.otlp.forwarding.messages import Orders, Report, pack_confirmations, read_line
from ztrace_collector.otlp.forwarding.rows import read_behind, register, write_reports
from ztrace_collector.otlp.sending.destinations import Destination


class SpanSending:
    """The `ztrace_collector.forwarding.forwarder.Sending` of spans to OTLP receivers."""

    module = "ztrace_collector.otlp.forwarding.process"
    option = "--otlp"

    def __init__(self, database: Path, destinations: Sequence[Destination], *, unfinished: bool) -> None:
        """Store the settings.

        Args:
            database: the collector's file.
            destinations: the destinations.
            unfinished: also send unfinished spans once their processes have ended.
        """
        self._database = database
        self._destinations = destinations
        self._unfinished = unfinished

    def register(self, db: sqlite3.Connection) -> bytes:
        """Write that the destinations are in use, and return the orders."""
        keys = register(db, self._destinations, time.time_ns())
        named = list(zip(keys, self._destinations, strict=True))
        return Orders(self._database, named, self._unfinished).to_line()

    def read_line(self, line: bytes) -> Report | str:
        """Parse a line of the process: a report, or a line for the user."""
        return read_line(line)

    def write_reports(self, db: sqlite3.Connection, reports: Sequence[Report]) -> None:
        """Apply reports in their order."""
        write_reports(db, reports)

    def confirm(self, reports: Sequence[Report]) -> bytes:
        """Return a line for each report that is written."""
        return pack_confirmations(report.destination for report in reports)

    def read_behind(self, db: sqlite3.Connection) -> list[tuple[str, int]]:
        """Return the destinations with unsent spans, and their numbers of unsent spans."""
        return read_behind(db)
