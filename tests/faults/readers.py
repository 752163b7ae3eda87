"""Attacks by reading: a snapshot that is held while the collector stores, and a trace of huge spans.

One idea: what a reader makes others hold is measured where it is held, as bytes of files and as memory.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.request import Request, urlopen

import zmq

from tests.collector.messages import Sender, make_span, span_id
from tests.faults.attacks import MAX_BUSY_S, MAX_GROWN_MB, MAX_STOP_S, measured, publishing, send, stop
from tests.faults.running import Length
from tests.faults.stage import COMMAND, DEADLINE_S, Collector, Stage, wait_for
from tests.faults.table import Row
from tests.ports import find_port

#: Size limit of the file and its log together, and what a moment may exceed it by.
MAX_SIZE_MB, BEYOND_MB = 100.0, 15.0
#: Most bytes of an answer of the page.
MAX_ANSWER_MB = 20.0

_TOKEN = "reader" * 4


def hold_log(length: Length) -> Row:
    """Hold a snapshot of a file of bounded size while it is written to as fast as possible."""
    held_s = length.of(15, 4)
    worst_mb = 0.0
    with Stage() as stage:
        collector = stage.collector("--max-size", "100MB")
        log = Path(f"{collector.database}-wal")

        def size() -> float:
            nonlocal worst_mb
            now_mb = (collector.database.stat().st_size + log.stat().st_size) / 1e6
            worst_mb = max(worst_mb, now_mb)
            return now_mb

        with publishing(collector.endpoint) as publisher:
            sender = Sender(0, "shop")
            _store(publisher, sender, 100, size)
            with closing(sqlite3.connect(collector.database, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM spans").fetchone()
                end_s = time.monotonic() + held_s
                held_from = sender.created
                while time.monotonic() < end_s:
                    if _stored(collector) > sender.created - 2_000:
                        _store(publisher, sender, 5, size)
                    size()
            meanwhile = _stored(collector) - held_from
            wait_for(lambda: _stored(collector) == sender.created, "everything is stored")
            wait_for(lambda: log.stat().st_size < 13e6, "the log shrinks once the reader ends")
            size()
        stopped_s = stop(collector)
    return Row(
        f"a program that reads for {held_s:.0f} s beside --max-size 100MB",
        f"file and log under {MAX_SIZE_MB + BEYOND_MB:.0f} MB, the log shrinks, nothing is lost",
        f"{worst_mb:.0f} MB at most, {meanwhile:,} spans stored meanwhile, stops in {stopped_s:.1f} s",
        0,
        worst_mb < MAX_SIZE_MB + BEYOND_MB and stopped_s < MAX_STOP_S,
    )


def ask_huge(length: Length) -> Row:
    """Ask the page for a trace of huge spans."""
    messages = int(length.of(200, 40))
    with Stage() as stage:
        port = find_port()
        collector = stage.collector()
        with publishing(collector.endpoint) as publisher:
            sender = Sender(0, "shop")
            for number in range(messages):
                spans = [
                    make_span(
                        0,
                        span_id=span_id(15 * number + each),
                        parent_id=span_id(0) if number + each else None,
                        start_ns=time.time_ns(),
                        attributes={"text": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 60_000},
                    )
                    for each in range(15)
                ]
                send(publisher, sender.data(*spans))
            wait_for(lambda: _stored(collector) == sender.created, "everything is stored")
        page = stage.start(
            "-c",
            COMMAND,
            *("web", "--db", str(collector.database), "--listen", f"127.0.0.1:{port}"),
            environment={"ZTRACE_WEB_TOKEN": _TOKEN},
        )
        wait_for(lambda: _ask(port, "/api/services"), "the page answers")
        largest, notes = 0, set()
        with measured(page.pid) as cost:
            trace = make_span(0).trace_id.hex()
            for path in (f"/api/traces/{trace}", f"/api/v3/traces/{trace}", "/api/traces?service=shop"):
                answer = _ask(port, path)
                assert answer is not None, path
                largest = max(largest, answer[0])
                notes.add(answer[1])
        stopped_s = stop(collector)
    return Row(
        f"a trace of {15 * messages:,} spans of 120 kB each, asked for in three ways",
        f"answers under {MAX_ANSWER_MB:.0f} MB that say what is left out, under {MAX_GROWN_MB:.0f} MB",
        f"{largest / 1e6:.1f} MB, grows {cost[0].grown_mb:.0f} MB, {cost[0].busy_s:.1f} s",
        0,
        largest < MAX_ANSWER_MB * 1e6
        and all(notes)
        and cost[0].grown_mb < MAX_GROWN_MB
        and cost[0].busy_s < MAX_BUSY_S
        and stopped_s < MAX_STOP_S,
    )


def _store(publisher: "zmq.Socket[bytes]", sender: Sender, messages: int, look: Callable[[], float]) -> None:
    for _ in range(messages):
        spans = [
            make_span(0, trace_id=os.urandom(16), start_ns=time.time_ns(), attributes={"note": "x" * 200})
            for _ in range(200)
        ]
        send(publisher, sender.data(*spans))
        look()


def _stored(collector: Collector) -> int:
    with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT total(spans_stored) FROM publishers").fetchone()[0])


def _ask(port: int, path: str) -> tuple[int, str] | None:
    """Return the size of an answer and its note, None without an answer."""
    request = Request(f"http://127.0.0.1:{port}{path}", headers={"X-Ztrace-Token": _TOKEN})
    with suppress(OSError), urlopen(request, timeout=DEADLINE_S) as answer:
        return len(answer.read()), answer.headers.get("X-Ztrace-Note", "")
    return None
