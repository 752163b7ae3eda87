"""Stored spans to OTLP."""

import sqlite3
from collections.abc import Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace_collector.otlp.reading import StoredSpan


class Builder:
    """Makes OTLP requests of stored spans; it keeps what many spans have in common.

    Args of the constructor: ``db``, any connection to the file, used by the thread that calls `request`.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def request(self, spans: Sequence[StoredSpan]) -> ExportTraceServiceRequest:
        """Return the spans as one request, by resource and scope, each in the order given."""
        raise NotImplementedError
