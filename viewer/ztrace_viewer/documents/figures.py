"""Documents with figures per method."""

from typing import TypedDict


class MethodFigures(TypedDict):
    """Calls of one method, their errors and times; the quantiles are null if none has ended."""

    service: str
    name: str
    kind: str
    calls: int
    errors: int
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None
    total_ns: int
    self_ns: int


class StatsDocument(TypedDict):
    """``stats``: the method with the largest total first."""

    methods: list[MethodFigures]
