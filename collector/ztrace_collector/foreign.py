"""Spans that do not come from a publisher: OTLP's, and those of files.

One idea: whoever reads another format makes these of it, and from here on it is the same way for all. Nothing
here is checked yet: `store` checks it as it does what publishers send, and tells what became of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ztrace.wire import Span


class Resource(NamedTuple):
    """What made the spans: a process, or what another format knows of one.

    Attributes:
        incarnation: 16 bytes; the same for all batches of the same resource.
        service: the service's name.
        host: the host's name, empty if it is unknown.
        pid: the process id, 0 if it is unknown.
        started_ns: when it began, Unix; 0 if it is unknown.
        attributes: as they were sent, None for a publisher's own.
    """

    incarnation: bytes
    service: str
    host: str
    pid: int
    started_ns: int
    attributes: dict[str, Any] | None


class ForeignBatch(NamedTuple):
    """Spans of one resource; they have ended.

    Attributes:
        spans: values as msgpack has them, and nested mappings; floats need not be finite.
    """

    resource: Resource
    spans: Sequence[Span]


class Outcome(NamedTuple):
    """What became of a batch: each of its spans is in one of these.

    Attributes:
        stored: new ones.
        duplicates: stored before, under the same trace and span id.
        refused: not fit to be stored, by reason.
    """

    stored: int
    duplicates: int
    refused: dict[str, int]
