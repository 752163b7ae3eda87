"""Documents of profiles: figures by call path."""

from typing import TypedDict


class Frame(TypedDict):
    """A line of code."""

    file: str
    line: int
    function: str


class Stack(TypedDict):
    """Code, outermost frame first and none where it is unknown, its state, and its time.

    ``state`` is ``run``, ``wait``, or ``wait_busy`` where other code ran on the thread meanwhile.
    """

    frames: list[Frame]
    state: str
    ns: int


class Behind(TypedDict):
    """A span that ran while another one waited for the thread of both."""

    span_id: str
    service: str
    name: str
    ns: int


class SpanStack(Stack):
    """Code of a single span, with the spans that ran meanwhile."""

    behind: list[Behind]


class PathStep(TypedDict):
    """A method on a path; ``(other)`` stands for the paths beyond the bounds."""

    service: str
    name: str
    kind: str


class PathProfile(TypedDict):
    """Figures of one path; ``root_calls`` and ``root_ns`` are calls and total time of its root.

    The shares are of own time, null if unknown. ``stacks`` are those of the path's method over all paths.
    """

    path: list[PathStep]
    root_calls: int
    root_ns: int
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


class MethodCode(PathStep):
    """Code of a method that is on no path of a profile, such as one whose calls are still running."""

    run_share: float | None
    wait_share: float | None
    stacks: list[Stack]


class ProfileDocument(TypedDict):
    """``profile``: trees, the quantiles of their durations, and paths by critical time.

    Extra: ``unsettled_spans``, not counted yet, ``late_spans``, whose trees had expired before,
    ``left_out``, trees of too many spans, and of a live profile ``uncounted``, code of methods that no
    counted tree has.
    """

    traces: int
    p50_ns: int | None
    p95_ns: int | None
    unsettled_spans: int
    late_spans: int
    left_out: int
    paths: list[PathProfile]
    uncounted: list[MethodCode]


class VersionProfile(TypedDict):
    """Profile of the trees whose root's service had a version, empty if it is unknown."""

    version: str
    profile: ProfileDocument


class VersionsDocument(TypedDict):
    """``profile --by service.version``: a profile for each version, the first ones first."""

    by: str
    versions: list[VersionProfile]
