"""Table of results: expected and actual figures, and those of the OpenTelemetry SDK."""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """Result of one fault.

    Attributes:
        wanted: the expected figure.
        seen: the actual figure.
        lost: the number of spans not stored.
        reached: whether the actual figure suffices.
        peer: the result of the OpenTelemetry SDK; empty if not applicable.
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
