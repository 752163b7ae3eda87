"""The shop from its opening to its closing.

One idea: callers are closed before their callees and the collector last, so every call ends and every span is
stored. After any error all others are killed at once, and the collector ends as usual, so its file is whole.
"""

import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import zmq

from ztrace.errors import DatabaseError, SettingsError, ZtraceError
from ztrace_viewer.demo.processes import START_S, Child, ProcessError, finish_all
from ztrace_viewer.interrupts import deferred
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.terminal.progress import StageProgress

#: Services in the order of closing: mail is closed after the last orders.
SERVICES = (("front", "orders", "billing", "stock"), ("mail",), ("loyalty", "courier"))
#: Poll interval of the processes.
_GLANCE_S = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run.

    Attributes:
        database: the file with the spans.
        since_ns: start of the run; the file may have older spans.
        complaints: failures of processes that did not end the run.
        logs: folder with the logs, kept only after failures.
    """

    database: Path
    since_ns: int
    complaints: list[str]
    logs: Path


def run_shop(seconds: float, database: Path | None) -> Outcome:
    """Open the shop, let customers in for a time, and close it.

    Raises:
        ZtraceError: a process did not start or died, or the file cannot be used.
    """
    with deferred():
        folder = Path(tempfile.mkdtemp(prefix="ztrace-demo-"))
        try:
            outcome = _run(seconds, database or folder / "shop.db", folder / "run")
        except ProcessError:
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if not outcome.complaints:
            shutil.rmtree(outcome.logs if database is None else folder, ignore_errors=True)
        return outcome


def _run(seconds: float, database: Path, folder: Path) -> Outcome:
    since_ns = time.time_ns()
    folder.mkdir()
    _check_path(folder)
    with ExitStack() as stack, StageProgress() as progress:

        def start(name: str, module: str, *arguments: str) -> Child:
            child = Child(name, module, arguments, folder)
            stack.callback(child.kill if name != "collector" else child.end)
            return child

        names = [name for wave in SERVICES for name in wave]
        progress.begin(f"opening the shop: {', '.join(names)}")
        collector = start("collector", "collector", str(database))
        endpoint = _find_endpoint(collector)
        services = {name: start(name, "service", name, endpoint, str(folder)) for name in names}
        for child in services.values():
            child.wait_until_ready()
        shopper = start("shopper", "shopper", endpoint, str(folder), str(seconds))
        progress.begin(f"the shop is open for {seconds:g} s")
        _watch(shopper, [collector, *services.values()], seconds, database, progress)
        progress.begin("closing the shop")
        complaints = finish_all([shopper])
        for wave in SERVICES:
            complaints += finish_all([services[name] for name in wave])
        complaints += finish_all([collector])
    return Outcome(database, since_ns, complaints, folder)


def _check_path(folder: Path) -> None:
    longest = len(str(folder / "billing").encode())
    if longest > zmq.IPC_PATH_MAX_LEN:
        raise SettingsError(
            f"the path of the temporary folder {folder.parent} is too long for sockets in it",
            hint="set TMPDIR to a shorter one, such as /tmp",
        )


def _find_endpoint(collector: Child) -> str:
    try:
        return collector.wait_until_ready()
    except ProcessError:
        if collector.wait(0) != 2:
            raise
        raise DatabaseError(collector.last_words()) from None


def _watch(
    shopper: Child, others: list[Child], seconds: float, database: Path, progress: StageProgress
) -> None:
    """Wait until the customers have left the shop.

    Raises:
        ProcessError: a process died, or the customers do not leave.
    """
    begin_s = time.monotonic()
    while (status := shopper.wait(_GLANCE_S)) is None:
        for child in others:
            if child.wait(0) is not None:
                raise child.explain_end("ended while the shop was open")
        open_s = time.monotonic() - begin_s
        if open_s > seconds + START_S:
            raise ProcessError("the customers do not leave the shop", hint=f"see {shopper.log}")
        clock = f"{min(open_s, seconds):.1f} of {seconds:g} s"
        progress.update(f"the shop is open: {clock}, {_count(database):,} spans stored")
    if status:
        raise shopper.explain_end("ended too early")


def _count(database: Path) -> int:
    try:
        with open_file(database) as store:
            return read_status(store, 0)["spans_stored"]
    except ZtraceError:
        return 0
