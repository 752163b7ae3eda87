"""Document of an event, for commands and webhooks."""

from typing import Literal, TypedDict

from ztrace_viewer.documents.comparison import PathChange
from ztrace_viewer.documents.errors import GroupSummary


class SlowerMethod(TypedDict):
    """A method whose calls became slower, by the comparison of two stretches of time.

    ``root`` is the SERVICE.METHOD of the trees; the change is that of the path with the largest one, whose
    last step is the method. ``before_ns`` and ``after_ns`` are begin and end of each stretch.
    """

    service: str
    name: str
    kind: str
    root: str
    before_ns: tuple[int, int]
    after_ns: tuple[int, int]
    change: PathChange


class EventDocument(TypedDict):
    """An event: one line of text, a link to the page if it is served, and the group or the method.

    ``left_out`` is the number of events since the last one that were left out, since there were too many.
    """

    event: Literal["new_group", "regressed_group", "slower_method"]
    at_ns: int
    text: str
    link: str | None
    group: GroupSummary | None
    method: SlowerMethod | None
    left_out: int
