"""Jobs of a queue on the terminal: their numbers, the workers, and a table of those that are not done.

One idea: the documents are answers of a queue, so values of another type are shown as unknown.
"""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from ztrace_viewer.render.grid import Column, draw_grid
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.durations import UNITS_NS, format_duration

#: Numbers of jobs, in the order of a job's life.
_COUNTS = ("waiting", "delayed", "running", "dead", "done", "cancelled", "retries")
_WORKERS = (
    Column("WORKER", flexible=8),
    Column("HOST", flexible=8, goes=2),
    Column("PID", right=True, goes=1),
    Column("RUNNING", right=True),
    Column("CREDITS", right=True, goes=3),
    Column("HEARD", right=True),
)
_JOBS = (
    Column("JOB"),
    Column("CALL", flexible=16),
    Column("STATE"),
    Column("TRIES", right=True, goes=3),
    Column("AGE", right=True, goes=2),
    Column("DUE", right=True, goes=1),
    Column("ERROR", flexible=12),
)
_STYLES = {"dead": "bold red", "running": "green", "delayed": "dim"}


def draw_queue(document: Mapping[str, object], width: int) -> Iterator[Text]:
    """Yield the lines of a queue's status."""
    for name in _COUNTS:
        count = document.get(name)
        told = f"{count:,}" if isinstance(count, int) else "?"
        yield Text.assemble(
            (f"{name:<12}", "dim"), (told, _STYLES["dead"] if name == "dead" and count else "bold")
        )
    yield Text.assemble(("spool       ", "dim"), clean(str(document.get("spool") or "none")))
    yield Text()
    workers = _list_maps(document.get("workers"))
    if not workers:
        yield Text("no workers are connected", "yellow")
        return
    rows = [
        [
            Text(_tell(each.get("worker"))),
            Text(_tell(each.get("host"))),
            *(Text(_tell(each.get(name))) for name in ("pid", "running", "credits")),
            Text(f"{_tell_time(each.get('heard_s'))} ago"),
        ]
        for each in workers
    ]
    yield from draw_grid(_WORKERS, rows, width)


def draw_jobs(document: Mapping[str, object], width: int) -> Iterator[Text]:
    """Yield a table of jobs."""
    rows = []
    for job in _list_maps(document.get("jobs")):
        state = _tell(job.get("state"))
        rows.append(
            [
                Text(_tell(job.get("id")), "cyan"),
                Text(f"{_tell(job.get('name'))}({_tell(job.get('args'), '')})", "bold"),
                Text(state, _STYLES.get(state, "")),
                Text(f"{_tell(job.get('attempts'))}/{_tell(job.get('max_attempts'))}"),
                Text(_tell_time(job.get("age_s"))),
                Text("" if job.get("due_s") is None else f"in {_tell_time(job.get('due_s'))}"),
                Text(_tell(job.get("error"), ""), "red"),
            ]
        )
    yield from draw_grid(_JOBS, rows, width)


def _list_maps(value: object) -> Sequence[Mapping[str, object]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _tell(value: object, unknown: str = "?") -> str:
    return unknown if value is None else clean(str(value))


def _tell_time(seconds: object) -> str:
    return format_duration(int(seconds * UNITS_NS["s"])) if isinstance(seconds, (int, float)) else "?"
