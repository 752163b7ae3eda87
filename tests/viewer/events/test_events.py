"""Events: what is found in a file, at which rate it is delivered, and receivers that fail."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.viewer.events.conftest import Hook
from tests.viewer.queries.test_comparison import MIDDLE, usual, write_minutes
from tests.viewer.stored import MINUTE, NOON, raised, span, store, trace_id
from tests.ztrace.waiting import wait_for
from ztrace.errors import SettingsError
from ztrace_collector.refusals import EVENT_FAILED, EVENT_LEFT_OUT
from ztrace_collector.storing.resolving import resolve
from ztrace_collector.storing.store import Store
from ztrace_viewer.documents.events import EventDocument
from ztrace_viewer.events import receivers, sources, watching
from ztrace_viewer.events.describing import describe_group, describe_slower
from ztrace_viewer.events.receivers import Command, Moment, NotDelivered, Receiver, Webhook, read_receivers
from ztrace_viewer.events.sources import FileSource
from ztrace_viewer.events.watching import Watcher
from ztrace_viewer.queries.events import AFTER, BEFORE, GroupWatch, find_slower
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.terminal.moments import parse_stretch

#: Address of a page, in documents only.
PAGE = "http://127.0.0.1:4711"


def fail(path: Path, number: int, kind: str = "ValueError", at_ns: int = NOON) -> str:
    """Store a failed call, and return the id of its group."""
    failed = span(trace_id(number, at_ns), number, at_ns=at_ns, exception=raised(kind, "no\nmore \x1b[2J"))
    store(path, {"shop": [failed]}, at_ns=at_ns)
    with open_file(path) as opened:
        return next(each["group"] for each in list_groups(opened)["groups"] if each["type"] == kind)


def look(watch: GroupWatch, path: Path, limit: int = 10) -> tuple[list[tuple[str, str]], int]:
    """Return the event and the id of each group found, and the number of the others."""
    with open_file(path) as opened:
        found, beyond = watch.look(opened, limit)
    return [(event.event, event.group["group"]) for event in found], beyond


class Ready:
    """Deadline that is never reached, and whose waits are noted."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def left_s(self) -> float:
        """Return more than any request takes."""
        return 20.0

    def wait(self, seconds: float) -> None:
        """Note a wait."""
        self.waits.append(seconds)


def begin(seconds: float) -> Moment:
    """Return a deadline that is never reached."""
    return Ready()


def make_event(path: Path) -> EventDocument:
    """Return the event of a new group."""
    with Store(path):
        pass
    with open_file(path) as opened:
        watch = GroupWatch(opened)
    fail(path, 1)
    with open_file(path) as opened:
        return describe_group(watch.look(opened, 1)[0][0], PAGE, NOON)


class Taker:
    """Receiver that keeps what it gets, or fails."""

    def __init__(self) -> None:
        self.got: list[EventDocument] = []
        self.problem = ""

    def deliver(self, event: EventDocument, begin: Callable[[float], Moment]) -> None:
        """Take an event."""
        if self.problem:
            raise NotDelivered(self.problem)
        self.got.append(dict(event))  # type: ignore[arg-type]  # A copy of all of its fields.


@contextmanager
def watching_file(
    path: Path, takers: Sequence[Receiver]
) -> Iterator[tuple[Watcher, list[tuple[str, str, int, bool]]]]:
    """Run a watcher in a thread, with what it reports; it is stopped at the end."""
    reports: list[tuple[str, str, int, bool]] = []
    watcher = Watcher(FileSource(path, PAGE), takers, lambda *report: reports.append(report))
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        yield watcher, reports
    finally:
        watcher.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_groups_are_found_once(path: Path) -> None:
    """A group is found when it is new, and each time it regresses after it was resolved."""
    known = fail(path, 1)
    with open_file(path) as opened:
        watch = GroupWatch(opened)
    assert look(watch, path) == ([], 0)
    fail(path, 2)
    new = fail(path, 3, "KeyError")
    assert look(watch, path) == ([("new_group", new)], 0)
    assert look(watch, path) == ([], 0)
    for again in range(2):
        resolve(path, known, NOON + 2 * again)
        fail(path, 4 + again, at_ns=NOON + 2 * again + 1_000_000)
        assert look(watch, path) == ([("regressed_group", known)], 0)
        assert look(watch, path) == ([], 0)


def test_groups_beyond_the_limit_are_counted(path: Path) -> None:
    """Of many groups that are new, those found first are read, and the others are counted."""
    with Store(path):
        pass
    with open_file(path) as opened:
        watch = GroupWatch(opened)
    kinds = ["A", "B", "C", "D"]
    groups = [fail(path, number, kind) for number, kind in enumerate(kinds, 1)]
    assert look(watch, path, limit=3) == ([("new_group", group) for group in groups[:3]], 1)
    assert look(watch, path) == ([], 0)


def test_methods_are_slower_if_their_calls_surely_are(path: Path) -> None:
    """A method whose calls take longer is found; more calls, faster calls and small changes are not."""
    loads = {MIDDLE + AFTER + 1 - minute: usual() for minute in range(1, BEFORE + AFTER + 1)}
    for minute, load in loads.items():
        if minute > MIDDLE:
            load.each_ms.update(charge=8.0, ship=4.3, log=2.0)
            load.calls.update(mail=5.0)
    write_minutes(path, loads, random.Random(1))
    end_ns = NOON + (AFTER + 1) * MINUTE
    with open_file(path) as opened:
        [method] = find_slower(opened, end_ns + MINUTE)
        assert (method["service"], method["name"], method["root"]) == ("shop", "charge", "shop.buy")
        assert method["after_ns"] == (end_ns - AFTER * MINUTE, end_ns)
        assert method["before_ns"][1] == method["after_ns"][0]
        event = describe_slower(method, PAGE, end_ns)
        assert "charge became slower: 7.87ms" in event["text"]
        selected = parse_qs(urlsplit(event["link"] or "").query)
        assert selected["root"] == ["shop.buy"]
        assert parse_stretch(selected["before"][0], end_ns) == method["before_ns"]
        assert parse_stretch(selected["after"][0], end_ns) == method["after_ns"]
        assert find_slower(opened, end_ns - BEFORE * MINUTE) == []


def test_texts_are_one_line_without_controls(path: Path) -> None:
    """The text of an event is on one line, and shows what a terminal would interpret."""
    event = make_event(path)
    assert event["text"] == "new error in shop.work: ValueError: no more [2J"
    assert event["group"] is not None
    assert event["link"] == f"{PAGE}/error/{event['group']['group']}"


def test_events_are_delivered_at_a_rate(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries in a minute and pending events are bounded, and the others are counted."""
    monkeypatch.setattr(watching, "LOOK_S", 0.01)
    monkeypatch.setattr(watching, "A_MINUTE", 3)
    monkeypatch.setattr(watching, "PENDING", 5)
    with Store(path):
        pass
    taker = Taker()
    with watching_file(path, [taker]) as (_, reports):
        kinds = [chr(65 + number) for number in range(20)]
        spans = [
            span(trace_id(number), number, exception=raised(kind, "no"))
            for number, kind in enumerate(kinds, 1)
        ]
        store(path, {"shop": spans})
        wait_for(lambda: len(taker.got) == 3)
    assert len(taker.got) == 3
    assert {reason for reason, *_ in reports} == {EVENT_LEFT_OUT}
    assert sum(count for _, _, count, _ in reports) == 17
    assert reports[0][3]
    # Those beyond the bound were left out before the first delivery.
    assert [event["left_out"] for event in taker.got] == [15, 0, 0]


def test_a_receiver_that_fails_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failed delivery is counted, and the same problem is printed once; others get the event."""
    monkeypatch.setattr(watching, "LOOK_S", 0.01)
    with Store(path):
        pass
    failing, taker = Taker(), Taker()
    failing.problem = "it is closed"
    with watching_file(path, [failing, taker]) as (_, reports):
        for number, kind in enumerate("ABC", 1):
            fail(path, number, kind)
            wait_for(lambda number=number: len(reports) == number)  # type: ignore[misc]
        failing.problem = ""
        fail(path, 4, "D")
        wait_for(lambda: failing.got)
        failing.problem = "it is closed"
        fail(path, 5, "E")
        wait_for(lambda: len(reports) == 4)
    said = [(EVENT_FAILED, "it is closed", 1, is_said) for is_said in (True, False, False, True)]
    assert reports == said
    wait_for(lambda: len(taker.got) == 5)


def test_a_slower_method_is_reported_once_an_hour(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are compared every few minutes, and a method that stays slow is reported once."""
    monkeypatch.setattr(watching, "LOOK_S", 0.01)
    monkeypatch.setattr(sources, "COMPARE_S", 0.0)
    now_ns = NOON + (AFTER + 2) * MINUTE
    monkeypatch.setattr("ztrace_viewer.events.watching.time.time_ns", lambda: now_ns)
    loads = {MIDDLE + AFTER + 1 - minute: usual() for minute in range(1, BEFORE + AFTER + 1)}
    for minute, load in loads.items():
        if minute > MIDDLE:
            load.each_ms["charge"] = 8.0
    write_minutes(path, loads, random.Random(1))
    taker = Taker()
    with watching_file(path, [taker]) as (_, reports):
        wait_for(lambda: taker.got)
        new = fail(path, 1)
        wait_for(lambda: len(taker.got) == 2)
    assert [event["event"] for event in taker.got] == ["slower_method", "new_group"]
    assert taker.got[1]["group"] is not None
    assert taker.got[1]["group"]["group"] == new
    assert reports == []


def test_the_last_events_are_delivered_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored before the end is delivered, also if the next look was not due."""
    monkeypatch.setattr(watching, "LOOK_S", 600.0)
    monkeypatch.setattr(watching, "END_S", 20.0)
    with Store(path):
        pass
    taker = Taker()
    with watching_file(path, [taker]):
        fail(path, 1)
    assert [event["event"] for event in taker.got] == ["new_group"]


SCRIPT = """
import json, os, sys
kept = {name: os.environ.get(name) for name in ("ZTRACE_DISABLED", "ZTRACE_WEBHOOK", "OWN")}
open(sys.argv[1], "w").write(json.dumps([json.load(sys.stdin), kept, sys.argv]))
"""


@pytest.mark.process
def test_a_command_gets_the_document(path: Path, tmp_path: Path) -> None:
    """A command reads the event on standard input, is not traced, and does not get the webhook's URL."""
    event = make_event(path)
    given = {"OWN": "1", "ZTRACE_WEBHOOK": "http://secret"}
    command = f"{sys.executable} -c '{SCRIPT.replace(chr(39), chr(34))}' {tmp_path}/told"
    [receiver] = read_receivers(command, None, given)
    receiver.deliver(event, begin)
    told, kept, arguments = json.loads((tmp_path / "told").read_text())
    assert told == event
    assert kept == {"ZTRACE_DISABLED": "1", "ZTRACE_WEBHOOK": None, "OWN": "1"}
    assert arguments == ["-c", f"{tmp_path}/told"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("sh", "-c", "echo not \033[1m today >&2; exit 3"), "sh ended with status 3: not [1m today"),
        (("sh", "-c", "yes | head -c 500000 >&2; exit 1"), "sh ended with status 1: y y y"),
        (("sh", "-c", "kill -9 $$"), "sh ended with status -9"),
        (("/nowhere/program",), "cannot run /nowhere/program: No such file"),
    ],
)
def test_a_command_that_fails_is_explained(path: Path, arguments: tuple[str, ...], problem: str) -> None:
    """The status of a command, and the end of what it wrote, are one line."""
    with pytest.raises(NotDelivered) as caught:
        Command(arguments, {"PATH": "/usr/bin:/bin"}).deliver(make_event(path), begin)
    assert str(caught.value).startswith(problem)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.process
def test_a_command_that_does_not_end_is_killed(path: Path, tmp_path: Path) -> None:
    """At the deadline a command is killed with its children; it need not read its input."""
    event = make_event(path)
    event["text"] = "x" * 1_000_000
    reading, writing = os.pipe()
    started = tmp_path / "started"
    script = f"sleep 600 & touch {started}; wait"

    class UntilStarted(Ready):
        """Deadline that is over once the command has a child."""

        def left_s(self) -> float:
            return 0.0 if started.exists() else 1.0

    os.set_inheritable(writing, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", partial(subprocess.Popen, pass_fds=[writing]))
        with pytest.raises(NotDelivered, match="sh did not end in time"):
            Command(("sh", "-c", script), {"PATH": "/usr/bin:/bin"}).deliver(
                event, lambda seconds: UntilStarted()
            )
    os.close(writing)
    # No process has the other end any more.
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize(
    ("answers", "waits", "problem"),
    [
        ([200], [0.0], ""),
        ([503, 429, 204], [0.0, *receivers.PAUSES_S], ""),
        ([500, 500, 500], [0.0, *receivers.PAUSES_S], "127.0.0.1 answered with HTTP 500"),
        ([404], [0.0], "127.0.0.1 answered with HTTP 404"),
        ([302], [0.0], "127.0.0.1 answered with HTTP 302"),
    ],
)
def test_a_webhook_is_asked_three_times_at_most(
    path: Path, hook: str, answers: list[int], waits: list[float], problem: str
) -> None:
    """A busy server is asked again, with a pause; no redirection is followed, and no secret is shown."""
    Hook.answers[:] = answers
    event, moment = make_event(path), Ready()
    if problem:
        with pytest.raises(NotDelivered) as caught:
            Webhook(hook).deliver(event, lambda seconds: moment)
        assert str(caught.value) == problem
    else:
        Webhook(hook).deliver(event, lambda seconds: moment)
    assert moment.waits == waits
    assert [body for _, _, body in Hook.asked] == [event] * len(waits)
    where, headers, _ = Hook.asked[0]
    assert where == "/hook?key=secret"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].startswith("Basic ")


def test_a_webhook_that_nobody_serves(path: Path, hook: str) -> None:
    """A host that cannot be reached is named without the rest of the URL."""
    place = hook.split("@")[1].partition("/")[0].replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(NotDelivered) as caught:
        Webhook(f"http://u:p@{place}/secret").deliver(make_event(path), begin)
    assert str(caught.value) == "127.0.0.2 cannot be reached"


@pytest.mark.parametrize(
    ("command", "url", "message"),
    [
        ("'", None, "--on-event cannot be read"),
        ("", None, "--on-event names no program"),
        ("/nowhere/program x", None, "--on-event names no program"),
        (None, "ftp://host/secret", "--webhook is no URL"),
        (None, "http:///secret", "--webhook is no URL"),
        (None, "http://host:99999/secret", "--webhook is no URL"),
        (None, "secret", "--webhook is no URL"),
    ],
)
def test_receivers_that_cannot_be(command: str | None, url: str | None, message: str) -> None:
    """A command or a URL that cannot be used is rejected at the start, without the secret in it."""
    with pytest.raises(SettingsError, match=message) as caught:
        read_receivers(command, url, {})
    assert "secret" not in str(caught.value)
