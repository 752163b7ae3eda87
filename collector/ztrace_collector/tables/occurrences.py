"""Exceptions as spans report them, before they are stored."""

from typing import NamedTuple

from ztrace_collector.checking.failures import Failure
from ztrace_collector.tables.origins import Failed, Key


class Occurrence(NamedTuple):
    """Exception in a span, not stored yet.

    Attributes:
        key: the origin.
        others: span ids of further origins in the same trace, as of members of a group.
        derived: its sender, as in `ztrace_collector.tables.origins.Failed`.
    """

    failure: Failure
    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    instance: int
    key: Key
    others: tuple[bytes, ...]
    derived: int
    service: str
    name: str
    kind: str
    at_ns: int

    @property
    def is_origin(self) -> bool:
        """True if the exception was first raised in the span."""
        return self.key == (self.trace_id, self.span_id)

    @property
    def leaves_unhandled(self) -> bool:
        """True if no caller waits for the span, so that its exception goes no further."""
        return self.parent_id is None or self.kind == "consumer"

    def as_failed(self) -> Failed:
        """Return the failed span, among which origins are searched."""
        return Failed(
            self.span_id,
            self.parent_id,
            self.kind,
            self.instance,
            self.at_ns,
            self.failure.type,
            self.failure.message,
            self.failure.how,
            self.key,
            self.derived,
        )
