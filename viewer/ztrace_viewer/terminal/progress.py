"""Progress of long commands: one line on standard error, where that is a terminal.

One idea: rich draws the line, and only here. It is redrawn in place, lines printed meanwhile go above it, and
it is cleared at the end. Where standard error is no terminal, rich is not even imported.
"""

import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ztrace_viewer.interrupts import deferred
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.saying import complain

if TYPE_CHECKING:
    import rich.progress

    from ztrace_collector.service import Counts

#: Time from one redrawing to the next: smooth to a person, and negligible work.
PERIOD_S = 0.1
#: The same for a collector, which runs for days.
COLLECTOR_PERIOD_S = 0.5
#: Services whose joining is told; a program that invents names could fill the screen.
_MAX_JOINED = 50
#: Columns of the bar.
_BAR_WIDTH = 24


class _Line(ExitStack):
    """A line of `rich.progress`, from its first redrawing to the end of its block."""

    def __init__(self, *, period_s: float = PERIOD_S, spinner: bool = False, shown: bool = True) -> None:
        super().__init__()
        self.shown = shown and sys.stderr.isatty()
        self._period_s = period_s
        self._has_spinner = spinner
        self._began_s = self._then_s = time.monotonic()
        self._display: rich.progress.Progress | None = None

    @property
    def elapsed_s(self) -> float:
        """Time since the line was made, never zero."""
        return max(time.monotonic() - self._began_s, 1e-9)

    def is_due(self) -> bool:
        """Return whether the line is to be redrawn now."""
        return self.shown and time.monotonic() - self._then_s >= self._period_s

    def draw(self, text: str, share: float | None = None) -> None:
        """Redraw the line at once.

        Args:
            text: its figures.
            share: part of the work that is done, 0 to 1; None if it is unknown: the line has no bar.
        """
        self._then_s = time.monotonic()
        # A line that is drawn halfway would leave the terminal without its cursor.
        with deferred():
            try:
                self._draw(text, share)
            except OSError:
                self.shown = False  # The terminal is closed; the work continues.

    def say(self, line: str) -> None:
        """Print a line that stays, on a terminal or not; it may be called from any thread."""
        with suppress(OSError):
            if self._display is not None and self.shown:
                console = self._display.console
                console.print(clean(line), markup=False, highlight=False, emoji=False, soft_wrap=True)
            else:
                complain(line)

    def _draw(self, text: str, share: float | None) -> None:
        if self._display is None:
            self._display = self._open(has_bar=share is not None)
        task = self._display.task_ids[0]
        self._display.update(task, completed=min(1.0, share or 0.0), text=text)
        if self._display.live.is_started:
            self._display.refresh()
        else:
            self.callback(self._stop)
            self._display.start()  # Which draws it.

    def _stop(self) -> None:
        assert self._display is not None
        with suppress(OSError):  # The terminal may be closed.
            self._display.stop()

    def _open(self, *, has_bar: bool) -> "rich.progress.Progress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

        columns = (
            SpinnerColumn("line") if self._has_spinner else None,
            BarColumn(_BAR_WIDTH, complete_style="cyan", finished_style="cyan") if has_bar else None,
            TaskProgressColumn("{task.percentage:>4.0f}%", markup=False) if has_bar else None,
            TextColumn("{task.fields[text]}", markup=False),
        )
        display = Progress(
            *(column for column in columns if column is not None),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )
        display.add_task("", total=1.0, text="")
        return display


class CountProgress(_Line):
    """Line of an export or an import: how much is done, and how fast."""

    def __init__(self, unit: str, *, shown: bool = True) -> None:
        """Prepare a line without drawing.

        Args:
            unit: noun of what is counted, in the plural.
            shown: False where the command writes to the same terminal.
        """
        super().__init__(shown=shown)
        self._unit = unit

    def update(self, done: int, share: float | None) -> None:
        """Redraw the line if it is due.

        Args:
            done: number of units.
            share: part of the work that is done, 0 to 1; None if it is unknown.
        """
        if self.is_due():
            self.draw(format_count(done, self._unit, self.elapsed_s), share)


class CollectorProgress(_Line):
    """Line of a running collector."""

    def __init__(self) -> None:
        super().__init__(period_s=COLLECTOR_PERIOD_S)
        self._before = 0
        self._joined: set[str] = set()

    def update(self, counts: "Counts") -> None:
        """Redraw the line if it is due; services that have joined since are lines that stay."""
        if not self.is_due():
            return
        for service in counts.publishers:
            if service not in self._joined and len(self._joined) < _MAX_JOINED:
                self._joined.add(service)
                self.say(f"{service or 'a service without a name'} has joined")
        count = counts.span_count
        rate = (count - self._before) / (time.monotonic() - self._then_s)
        self._before = count
        connected = sum(counts.publishers.values())
        self.draw(format_counts(count, rate, connected, counts.refused_count, holding=counts.holding))

    def say(self, line: str) -> None:
        """Print a line that stays, on a terminal or not; it may be called from any thread."""
        super().say(f"ztrace: {line}")


class StageProgress(_Line):
    """Line of a command with stages; without a terminal each new stage is a line."""

    def __init__(self) -> None:
        super().__init__(spinner=True)

    def begin(self, stage: str) -> None:
        """Show the stage that begins now."""
        if self.shown:
            self.draw(stage)
        else:
            self.say(stage)

    def update(self, text: str) -> None:
        """Redraw the line of the stage if it is due."""
        if self.is_due():
            self.draw(text)


def format_count(done: int, unit: str, elapsed_s: float) -> str:
    """Return the text of an export's or an import's line."""
    return f"{done:,} {unit}   {done / elapsed_s:,.0f}/s"


def format_counts(
    span_count: int, rate: float, publisher_count: int, refused_count: int, *, holding: bool = False
) -> str:
    """Return the text of a collector's line."""
    return (
        f"{span_count:,} spans stored   {'holding' if holding else f'{rate:,.0f}/s'}"
        f"   {plural(publisher_count, 'publisher')}   {refused_count:,} refused"
    )
