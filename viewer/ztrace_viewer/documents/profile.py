"""Documents of profiles: figures by call path."""

from typing import TypedDict


class Frame(TypedDict):
    """A line of code."""

    file: str
    line: int
    function: str


class Stack(TypedDict):
    """Code below a path, and the time spent in it."""

    frames: list[Frame]
    state: str
    ns: int


class PathStep(TypedDict):
    """A method on a path; ``(other)`` stands for the paths beyond the bounds."""

    service: str
    name: str
    kind: str


class PathProfile(TypedDict):
    """Figures of one path; ``root_calls`` are those of its root.

    The shares are null and there are no stacks until the sampler's data say otherwise.
    """

    path: list[PathStep]
    root_calls: int
    calls: int
    errors: int
    total_ns: int
    self_ns: int
    critical_ns: int
    p50_ns: int | None
    p95_ns: int | None
    run_share: float | None
    wait_share: float | None
    stacks: list[Stack]


class ProfileDocument(TypedDict):
    """``profile``: trees, the quantiles of their durations, and paths by critical time.

    Extra: ``unsettled_spans``, those that are not counted yet, and ``left_out``, trees of too many spans.
    """

    traces: int
    p50_ns: int | None
    p95_ns: int | None
    unsettled_spans: int
    left_out: int
    paths: list[PathProfile]
