"""Sampled code in the file: its tables, the account of samples, and the bounds."""

import tempfile
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.collector.messages import (
    EPOCH_NS,
    MS,
    Sender,
    is_balanced,
    make_profile,
    make_span,
    refusals,
    request_profile,
    row,
    rows,
    span_id,
    trace_id,
)
from ztrace.records import FINISHED, RUN, STARTED, WAIT, WAIT_BUSY
from ztrace_collector.layout import MINUTE_NS
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import code, stack_sums

SUMS = "SELECT minute, service, name, sums FROM stack_minutes JOIN methods ON methods.id = method"
#: Stacks as text, from the outermost frame.
STACKS = """
WITH RECURSIVE named (id, text) AS (
    SELECT stacks.id, function || ':' || line FROM stacks JOIN frames ON frames.id = frame WHERE parent = 0
    UNION ALL
    SELECT stacks.id, text || ' ' || function || ':' || line
        FROM named JOIN stacks ON parent = named.id JOIN frames ON frames.id = frame
)
SELECT id, text FROM named ORDER BY id
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database."""
    return tmp_path / "ztrace.db"


def open_store(path: Path) -> Store:
    """Return a store by whose clock the tests' profiles have just been taken."""
    return Store(path, clock_ns=lambda: EPOCH_NS)


def read_sums(path: Path) -> list[dict[str, Any]]:
    """Return the sums of all minutes, one of each stack and state."""
    sums = []
    for each in rows(path, SUMS):
        flat = msgpack.unpackb(each["sums"])
        for stack, state, us in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            sums.append({**each, "stack": stack, "state": state, "ns": 1_000 * us})
    return sums


def total_ns(path: Path) -> int:
    """Return all sampled time, which minutes and hours have alike, by stack and by state."""
    minutes: int = sum(each["ns"] for each in read_sums(path))
    for table in ("stack_minutes", "stack_hours"):
        states = "coalesce(sum(run_ns + wait_ns + busy_ns), 0)"
        assert row(path, f"SELECT {states} AS ns FROM {table}") == {"ns": minutes}
    hours = [msgpack.unpackb(each["sums"])[2::3] for each in rows(path, "SELECT sums FROM stack_hours")]
    assert sum(1_000 * us for each in hours for us in each) == minutes
    return minutes


def texts(path: Path) -> dict[int, str]:
    """Return the stacks of a file by id."""
    return {each["id"]: each["text"] for each in rows(path, STACKS)}


def test_a_profile_becomes_rows(path: Path) -> None:
    """Sums have their minute, method, code and state; a line or stack is one row, however often sent."""
    sender = Sender()
    with open_store(path) as store:
        written = store.store([sender.profile(), sender.profile()])
    assert written.acknowledgements == {sender.incarnation: 2}
    stacks = texts(path)
    assert list(stacks.values()) == ["main:3", "main:3 load:7", "main:3 render:9"]
    minute = (EPOCH_NS + 10_000 * MS) // MINUTE_NS
    assert [
        (each["minute"], each["name"], stacks[each["stack"]], each["state"], each["ns"])
        for each in read_sums(path)
    ] == [
        (minute, "charge", "main:3 load:7", WAIT, 40 * MS),
        (minute, "charge", "main:3 render:9", RUN, 40 * MS),
    ]
    assert row(path, "SELECT hour, run_ns, wait_ns, busy_ns FROM stack_hours") == {
        "hour": minute // 60,
        "run_ns": 40 * MS,
        "wait_ns": 40 * MS,
        "busy_ns": 0,
    }
    assert total_ns(path) == 80 * MS
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["samples_created"], publisher["samples_stored"]) == (4, 4)


def test_runs_of_spans_keep_their_order_and_what_ran_meanwhile(path: Path) -> None:
    """The runs of a span name stacks of the file, and the spans that ran while it waited."""
    spans = [
        [trace_id(1), span_id(1), 0, [2, WAIT_BUSY, 30_000, 2, 3, RUN, 5_000, 0]],
        [trace_id(1), span_id(2), 0, []],
    ]
    with open_store(path) as store:
        store.store([Sender().profile(make_profile(spans=spans))])
    kept = row(path, "SELECT * FROM span_stacks")
    (load, render), method = (
        [number for number, text in texts(path).items() if " " in text],
        row(path, "SELECT id FROM methods")["id"],
    )
    assert (kept["trace_id"], kept["span_id"], kept["at_ns"]) == (trace_id(1), span_id(1), EPOCH_NS)
    assert msgpack.unpackb(kept["runs"]) == [
        [load, WAIT_BUSY, 30_000, 1, render, RUN, 5_000, 0],
        [[trace_id(1), span_id(2), method]],
    ]


def test_a_message_that_comes_again_is_stored_once(path: Path) -> None:
    """A profile that is delivered again, to the same collector or the next one, adds nothing."""
    sender = Sender()
    message = sender.profile()
    for _ in range(2):
        with open_store(path) as store:
            store.store([message, message])
    assert total_ns(path) == 40 * MS
    assert is_balanced(row(path, "SELECT * FROM publishers"))


def test_what_is_rolled_back_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that fails leaves no time behind, in the file or in memory."""
    sender = Sender()
    message = sender.profile()
    with open_store(path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(store._age, "write", fail)
            with pytest.raises(RuntimeError):
                store.store([message])
        assert rows(path, "SELECT id FROM stacks UNION SELECT id FROM stack_minutes") == []
        store.store([message])
    assert total_ns(path) == 40 * MS


def fail(*_: Any) -> None:
    """Fail as a disk may."""
    raise RuntimeError("no room")


@pytest.mark.parametrize(
    ("body", "reason"), [(b"\xc1", "undecodable"), (msgpack.packb([1]), "profile")], ids=["bytes", "fields"]
)
def test_samples_of_a_refused_profile_are_lost(path: Path, body: bytes, reason: str) -> None:
    """A refused profile uses up its number and is counted; the next one shows its samples as lost."""
    sender = Sender()
    with open_store(path) as store:
        store.store([sender.profile(), sender.profile(body=body), sender.profile()])
    publisher = row(path, "SELECT * FROM publishers")
    assert refusals(path) == {reason: 1}
    assert (publisher["samples_stored"], publisher["samples_lost"]) == (4, 2)
    assert publisher["next_sequence"] == 3
    assert is_balanced(publisher)


def test_the_end_counts_what_has_not_arrived(path: Path) -> None:
    """Samples that the publisher reports and that never arrived are lost with its end."""
    sender = Sender()
    with open_store(path) as store:
        store.store([sender.profile()])
        sender.sampled += 3
        store.store([sender.bye()])
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["samples_created"], publisher["samples_lost"]) == (5, 3)
    assert is_balanced(publisher)


def test_samples_before_the_first_message_are_elsewhere(path: Path) -> None:
    """A publisher that sent to another file first has samples there, and lost those it took since."""
    sender = Sender()
    sender.sequence = sender.floor = 7
    sender.sampled = 10
    with open_store(path) as store:
        store.store([sender.beat()])
        sender.sampled = 12
        store.store([sender.profile()])
    publisher = row(path, "SELECT * FROM publishers")
    assert [publisher[f"samples_{name}"] for name in ("created", "stored", "lost", "elsewhere")] == [
        14,
        2,
        2,
        10,
    ]


STEPS = st.lists(
    st.sampled_from(["profile", "span", "again", "refused", "lost", "tombstone", "beat", "restart"]),
    max_size=20,
)


@given(steps=STEPS, begun=st.booleans())
def test_every_sample_is_accounted_for(steps: list[str], begun: bool) -> None:
    """Whatever is lost, repeated or refused, created = stored + lost + elsewhere after the end."""
    sender, stored_us = Sender(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ztrace.db"
        store = open_store(path)
        if begun:
            sender.sequence = sender.floor = 3
            sender.sampled = 5
        messages: list[list[bytes]] = []
        for step in steps:
            if step == "profile":
                messages.append(sender.profile())
                stored_us += 40_000
            elif step == "span":
                messages.append(sender.data(make_span(sender.sequence)))
            elif step == "again" and messages:
                store.store([messages[-1]])
                continue
            elif step == "refused":
                messages.append(sender.profile(body=b"\xc1"))
            elif step == "lost":
                sender.sampled += 4
                continue
            elif step == "tombstone":
                sender.profile()
                sender.sequence -= 1
                messages.append(sender.tombstone(1, 0))
            elif step == "restart":
                store.close()
                store = open_store(path)
                continue
            else:
                messages.append(sender.beat())
            store.store([messages[-1]])
        store.store([sender.bye()])
        store.close()
        publisher = row(path, "SELECT * FROM publishers")
        total = total_ns(path)
    assert is_balanced(publisher)
    assert publisher["samples_created"] == sender.sampled
    assert total == 1_000 * stored_us
    assert publisher["samples_stored"] == stored_us // 20_000


def test_answers_are_kept_of_requests_alone(path: Path) -> None:
    """The last answer of each publisher to a request is kept; one to no request is ignored."""
    sender = Sender()
    with open_store(path) as store:
        nonce = request_profile(path, "", 50, 5, EPOCH_NS).nonce
        for answers in ([[nonce, STARTED], [b"unknown!", STARTED]], [[nonce, FINISHED]], [[nonce, STARTED]]):
            store.store([sender.profile(make_profile(answers=answers))])
    answer = row(path, "SELECT nonce, state FROM profile_answers")
    assert answer == {"nonce": nonce, "state": FINISHED}


def test_stacks_beyond_the_bounds_are_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time of a new stack beyond a service's bound counts for the callers that are known, and is counted."""
    monkeypatch.setattr(code, "MAX_NEW_STACKS", 2)
    with open_store(path) as store:
        store.store([Sender().profile(), Sender(1, "other").profile()])
    stacks = texts(path)
    kept = {(each["service"], stacks[each["stack"]]) for each in read_sums(path)}
    assert kept == {
        ("billing", "main:3 load:7"),
        ("billing", "main:3"),
        ("other", "main:3 load:7"),
        ("other", "main:3 render:9"),
    }
    assert total_ns(path) == 80 * MS
    assert refusals(path) == {"too_many_stacks": 1}


def test_deep_stacks_are_cut(path: Path) -> None:
    """A stack of too many frames counts for the part that is kept."""
    deep = code.MAX_DEPTH + 10
    chain = [each for place in range(deep) for each in (place, 1)]
    with open_store(path) as store:
        store.store([Sender().profile(make_profile(stacks=chain, sums=[0, deep, RUN, 1_000]))])
    (only,) = read_sums(path)
    assert len(texts(path)) == code.MAX_DEPTH
    assert texts(path)[only["stack"]].count("load:7") == code.MAX_DEPTH
    assert refusals(path) == {"too_many_stacks": 10}


def test_rows_beyond_the_bound_lose_their_code(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time beyond a service's rows of a minute counts for the method without code; none is lost."""
    monkeypatch.setattr(stack_sums, "MAX_MINUTE_SUMS", 0)
    with open_store(path) as store:
        store.store([Sender().profile()])
    assert {each["stack"] for each in read_sums(path)} == {code.NO_STACK}
    assert total_ns(path) == 40 * MS


def test_names_with_bad_characters_are_stored(path: Path) -> None:
    """Names that are not UTF-8, and long ones, are stored replaced and cut."""
    bad = make_profile(texts=["f" * 1_000, "\udcff", "load", "render", "\udcffcharge"])
    body = msgpack.packb(bad, unicode_errors="surrogateescape")
    with open_store(path) as store:
        store.store([Sender().profile(bad, body=body)])
    first = row(path, "SELECT file, function FROM frames WHERE line = 3")
    assert (len(first["file"]), first["function"]) == (code.MAX_FILE, "\N{REPLACEMENT CHARACTER}")
    assert row(path, "SELECT name FROM methods") == {"name": "\N{REPLACEMENT CHARACTER}charge"}
