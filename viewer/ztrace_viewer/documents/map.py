"""Document with the calls between services."""

from typing import TypedDict

#: ``from`` is a keyword of Python, hence the form.
ServiceCalls = TypedDict(
    "ServiceCalls", {"from": str, "to": str, "calls": int, "errors": int, "p95_ns": int | None}
)


class ServiceFigures(TypedDict):
    """Calls that came in to a service, the roots that began in it included."""

    service: str
    calls: int
    errors: int
    p95_ns: int | None


class MapDocument(TypedDict):
    """``map``: services by name, and calls by caller and callee.

    ``minutes`` is the time of a rate: calls divided by it are calls a minute; 0 without calls. Extra:
    ``unsettled_spans``, ``left_out`` and ``other_calls``, those on call paths beyond the bounds: not counted
    yet, or at all.
    """

    services: list[ServiceFigures]
    calls: list[ServiceCalls]
    minutes: int
    unsettled_spans: int
    left_out: int
    other_calls: int
