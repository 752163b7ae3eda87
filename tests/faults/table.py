"""What was wanted, what was seen, and what the OpenTelemetry SDK makes of it."""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One fault.

    Attributes:
        wanted: the figure to reach.
        seen: the figure reached.
        lost: spans that are not stored.
        reached: whether that is enough.
        peer: what became of the OpenTelemetry SDK's spans; empty if it has no such thing.
    """

    fault: str
    wanted: str
    seen: str
    lost: int
    reached: bool
    peer: str = ""


def draw(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    cells = [("fault", "wanted", "seen", "", "OpenTelemetry SDK"), ("---",) * 5]
    cells += [(row.fault, row.wanted, row.seen, "" if row.reached else "missed", row.peer) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
