"""Ctrl-C at any moment: a command leaves its files as they were, or completes them."""

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import ztrace_viewer
from tests.viewer.stored import checkout, store, trace_id
from ztrace_collector import files
from ztrace_viewer import entry, interrupts
from ztrace_viewer.interrupts import allowed, deferred, ignore, ignored, interruptible

#: Exit status of an interrupted command.
INTERRUPTED = 130
#: Executed lines from one moment to the next, beside all lines of the modules named.
STEP = 199


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Handle signals as a program that was just started does, and restore the handlers."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def press() -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


class _Tracer:
    """Counts the lines of the viewer that are executed, and presses Ctrl-C before one of them."""

    def __init__(self, press_before: int | None = None) -> None:
        self.lines: list[tuple[str, int]] = []
        self._press_before = press_before

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(str(Path(ztrace_viewer.__file__).parent)) and name != files.__file__:
            return None
        if event == "line":
            self.lines.append((os.path.basename(name), frame.f_lineno))
            if len(self.lines) - 1 == self._press_before:
                press()
        return self


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[object], press_before: int | None = None) -> Any:
    """Run a command in this process.

    Returns:
        The exit status, and the module and number of each line that was executed.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(interrupts, "_state", None)
    monkeypatch.setattr(sys, "argv", ["ztrace", *map(str, arguments)])
    tracer, before = _Tracer(press_before), sys.gettrace()
    sys.settrace(tracer)
    try:
        status = entry.main()
    finally:
        sys.settrace(before)
    return status, tracer.lines


def interrupt_everywhere(
    monkeypatch: pytest.MonkeyPatch, arguments: list[object], check: Callable[[int], None], *modules: str
) -> None:
    """Run a command again and again, with Ctrl-C at another moment each time, and check what it left."""
    _, lines = run(monkeypatch, arguments)
    check(0)
    # The line 0 is the start of `main`, which handles no signal yet.
    first = {line: at for at, line in reversed(list(enumerate(lines))) if line[0] in modules}
    moments = sorted({*first.values(), *range(1, len(lines), STEP)})
    assert len(moments) > 10
    statuses = set()
    for moment in moments:
        status, _ = run(monkeypatch, arguments, moment)
        statuses.add(status)
        check(status)
    assert statuses <= {0, INTERRUPTED}
    assert INTERRUPTED in statuses


@pytest.mark.slow
def test_an_export_leaves_the_old_file_or_the_new(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An interrupted export leaves the previous file and no other, and prints nothing."""
    for number in (1, 2):
        store(path, checkout(trace_id(number)))
    folder = tmp_path / "to"
    folder.mkdir()
    file = folder / "trees.jsonl"

    def check(status: int) -> None:
        assert [each.name for each in folder.iterdir()] == ["trees.jsonl"]
        is_new = file.read_text() != "before"
        assert (status == 0) == is_new
        told = capfd.readouterr().err
        assert told.startswith("exported ") if is_new else not told
        file.write_text("before")

    file.write_text("before")
    interrupt_everywhere(
        monkeypatch, ["export", "--db", path, "-o", file], check, "output.py", "files.py", "interrupts.py"
    )


@pytest.mark.slow
def test_an_import_leaves_a_sound_database(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An interrupted import leaves no database, or one that is sound and closed."""
    store(path, checkout(trace_id(1)))
    file, home = tmp_path / "trees.jsonl", tmp_path / "home"
    run(monkeypatch, ["export", "--db", path, "-o", file])
    home.mkdir()
    database = home / "home.db"

    def check(status: int) -> None:
        left = [each.name for each in home.iterdir()]
        assert left in ([], ["home.db"])
        if left:
            with closing(sqlite3.connect(database)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                (spans,) = db.execute("SELECT count(*) FROM spans").fetchone()
            assert spans or status
            database.unlink()
        told = capfd.readouterr()
        assert told.err.count("\n") <= 1

    interrupt_everywhere(monkeypatch, ["import", file, "--db", database], check, "storing.py")


def test_keys_are_made_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An interrupted command leaves no folder of keys, or one with the collector's key."""
    folder = tmp_path / "keys"

    def check(status: int) -> None:
        left = [each.name for each in folder.iterdir()] if folder.exists() else []
        assert left == ([] if status else ["server.json"]) or left == ["server.json"]
        for name in left:
            (folder / name).unlink()
        if folder.exists():
            folder.rmdir()
        capfd.readouterr()

    interrupt_everywhere(monkeypatch, ["keys", "init", "--keys", folder], check, "files.py")


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    """A deferred interrupt is raised at the end, once, and the handler is the previous one again."""
    done = []

    def work() -> None:
        with deferred():
            press()
            press()
            done.append("body")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["body"]
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_ctrl_c_is_raised_where_it_is_allowed() -> None:
    """A pending interrupt is raised at the next block that allows it, and a later one at once."""
    done = []

    def wait_later() -> None:
        with deferred():
            press()
            with deferred():
                done.append("deferred twice")
            with allowed():
                done.append("never")

    def wait_now() -> None:
        with deferred(), allowed():
            press()
            done.append("never")

    for work in (wait_later, wait_now):
        with pytest.raises(KeyboardInterrupt):
            work()
    assert done == ["deferred twice"]


def test_an_impatient_user_does_not_interrupt_the_cleanup() -> None:
    """A second Ctrl-C while the first is handled is ignored."""
    done = []

    def work() -> None:
        with deferred():
            try:
                with allowed():
                    press()
            finally:
                press()
                done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["cleaned up"]


def test_items_are_used_without_interruption() -> None:
    """Ctrl-C is raised while the next item is made, never while one is used."""
    used = []

    def make() -> Iterator[int]:
        yield 1
        press()
        yield 2

    def use(items: Iterator[int], *, early: bool) -> None:
        with deferred():
            for item in interruptible(items):
                if early:
                    press()
                used.append(item)

    for items, early in ((make(), False), (iter([3, 4]), True)):
        with pytest.raises(KeyboardInterrupt):
            use(items, early=early)
    assert used == [1, 3]
    assert list(interruptible([1, 2])) == [1, 2]


def test_ctrl_c_is_too_late_once_the_work_is_done() -> None:
    """After the point of no return Ctrl-C is ignored; before, it is raised there."""
    with deferred():
        ignore()
        press()
    with deferred():
        with suppress(FileExistsError), ignored():
            press()
            raise FileExistsError
        with pytest.raises(KeyboardInterrupt), allowed():
            press()

    def work() -> None:
        with deferred():
            press()
            ignore()

    with pytest.raises(KeyboardInterrupt):
        work()


def test_where_sigint_is_handled_nothing_is_deferred() -> None:
    """A program that ignores or handles SIGINT, and any thread but the main one, keep their handling."""
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    with deferred():
        press()
        assert heard == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred():
        press()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = []

    def work() -> None:
        with deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_ends_is_a_process_that_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, and its status says which."""
    monkeypatch.setattr(interrupts, "_state", None)
    monkeypatch.setattr(entry, "_explain", lambda: signal.raise_signal(number))
    assert entry.main() == 128 + number
    assert signal.getsignal(number) == signal.SIG_IGN


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command under nohup goes on when its terminal closes."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def work() -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0

    monkeypatch.setattr(interrupts, "_state", None)
    monkeypatch.setattr(entry, "_explain", work)
    assert entry.main() == 0
