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


class Trend(TypedDict):
    """Figures of one method in each part of the time; ``p95_ns`` is null where no call has ended."""

    calls: list[int]
    errors: list[int]
    p95_ns: list[int | None]


class Trends(TypedDict):
    """Trends of the first methods of a list, in its order, and the parts of the time that they share."""

    since_ns: int
    part_s: int
    methods: list[Trend]


class StatsTrendsDocument(StatsDocument):
    """``stats --json``; ``trends`` is null if the time has fewer than three minutes with calls."""

    trends: Trends | None
