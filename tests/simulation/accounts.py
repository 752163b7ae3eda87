"""Verification of every account: the database's figures against the simulation's.

One idea: the simulation counts its own actions, so no figure rests on ztrace's word.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack

from tests.simulation.programs import CLOSED, KILLED, Program
from tests.simulation.world import World
from ztrace_collector.layout import LOSS_COLUMNS

_LIVE = "live"
_TERMS = ("spans_stored", "spans_elsewhere", *LOSS_COLUMNS.values())


def check_accounts(world: World) -> None:
    """Check all database files of a finished world.

    Raises:
        Wrong: an account or a table is inconsistent.
    """
    journals = [
        [File(path, world) for path in (*collector.set_aside, collector.path)]
        for collector in world.collectors
    ]
    files = [file for journal in journals for file in journal]
    for file in files:
        file.check()
    for incarnation, program in world.programs.items():
        rows = [row for journal in journals if (row := _find_last(journal, incarnation)) is not None]
        _check_program(world, program, rows)
    _check_acknowledged(world, set().union(*(file.span_ids for file in files)))
    if len(journals) > 1 and all(len(journal) == 1 for journal in journals):
        _check_batches(world, files)


def _find_last(journal: Sequence["File"], incarnation: bytes) -> dict[str, Any] | None:
    """Return the account of a publisher in the latest file of a collector that has one."""
    rows = [file.publishers[incarnation] for file in journal if incarnation in file.publishers]
    return rows[-1] if rows else None


def _check_batches(world: World, files: Sequence["File"]) -> None:
    """Check what each collector has of each batch, and that only those of moves are stored twice."""
    for (incarnation, sequence), body in world.batches.items():
        ids = {(fields[0], fields[1]) for fields in msgpack.unpackb(body)}
        having = [file for file in files if ids <= file.span_ids]
        name = f"batch {sequence} of {world.programs[incarnation].name}"
        if not world.unreadable:
            received = [file for file in files if file.has_received(incarnation, sequence)]
            is_buried = (incarnation, sequence) in world.buried
            world.check(received == having or is_buried, f"{name} is not where the accounts have it")
        moves = world.moves.get(incarnation, ())
        world.check(
            len(having) < 2 or any(sequence in move for move in moves),
            f"{name} is stored twice without a move",
        )


def _check_acknowledged(world: World, stored: set[tuple[bytes, bytes]]) -> None:
    """Check that every acknowledged span is in a table, unless it was given up on the way."""
    for (incarnation, sequence), body in world.batches.items():
        if sequence < max(each.acknowledged.get(incarnation, 0) for each in world.collectors):
            if (incarnation, sequence) in world.buried:
                continue
            for fields in msgpack.unpackb(body):
                if (fields[0], fields[1]) not in stored:
                    name = world.programs[incarnation].name
                    world.check(False, f"{name}: a span of batch {sequence} is acknowledged and not stored")


def _check_program(world: World, program: Program, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        heard = program.fate == CLOSED and not program.saw_healed
        silent = not program.created or not program.has_spool
        world.check(
            silent and (heard or program.fate == KILLED or not program.created),
            f"{program.name} was never heard of",
        )
        return
    for row in rows:
        _check_account(world, program, row)
    # Without a spool a BYE is sent with a short linger, and may be lost with its connection.
    has_to_end = program.saw_healed or program.has_spool
    has_ended = any(row["state"] != _LIVE for row in rows)
    world.check(has_ended or not has_to_end, f"{program.name} is still live: {rows}")


def _check_account(world: World, program: Program, row: dict[str, Any]) -> None:
    told = {name: value for name, value in row.items() if name.startswith(("spans_", "state"))}
    what = f"{program.name}, {program.fate}, {program.created} created: {told}"
    accounted = sum(row[term] for term in _TERMS)
    world.check(row["spans_created"] <= program.created, f"too many created: {what}")
    world.check(accounted <= row["spans_created"], f"more accounted for than created: {what}")
    world.check(row["spans_refused"] == 0, f"something was refused: {what}")
    is_sole = len(world.collectors) == 1
    if not any(collector.set_aside for collector in world.collectors):
        world.check(row["spans_missing"] == 0, f"missing: {what}")
        world.check(row["spans_elsewhere"] == 0 or not is_sole, f"elsewhere: {what}")
    # Without a BYE, acknowledgements of the previous file are known only up to the last message.
    if row["state"] != _LIVE or (program.has_spool and is_sole):
        world.check(accounted == row["spans_created"] == program.created, f"not exact: {what}")
    if row["state"] != _LIVE:
        # A program killed between its BYE and its exit may count as either: none of its spans is lost.
        as_known = (row["state"] == "crashed") == (program.fate == KILLED)
        world.check(as_known or program.said_bye, f"ended otherwise: {what}")
    if program.fate == CLOSED:
        world.check(row["spans_crashed"] == 0, f"crashed without a kill: {what}")
    elif not world.unreadable and not any(collector.set_aside for collector in world.collectors):
        most = program.most_crashed
        world.check(row["spans_crashed"] <= most, f"more than {most} spans lost by the kill: {what}")


class File:
    """Database file, read over its own connection.

    Attributes:
        publishers: the rows of the publishers, by incarnation.
        span_ids: the trace and span ids in ``spans``.
    """

    def __init__(self, path: Path, world: World) -> None:
        self._world = world
        self._name = path.name
        with closing(sqlite3.connect(path)) as db:
            db.row_factory = sqlite3.Row
            self.publishers: dict[bytes, dict[str, Any]] = {
                bytes.fromhex(row["instance_id"]): dict(row)
                for row in db.execute("SELECT * FROM publishers JOIN instances ON instances.id = instance")
            }
            self._ranges = [
                tuple(row)
                for row in db.execute(
                    "SELECT instance_id, first_sequence, next_sequence FROM instances"
                    " JOIN (SELECT instance, first_sequence, next_sequence FROM publishers"
                    " UNION ALL SELECT * FROM sequence_ranges) ON instance = id"
                )
            ]
            self._incarnations = {row["instance"]: name for name, row in self.publishers.items()}
            self._spans = db.execute("SELECT trace_id, span_id, instance FROM spans").fetchall()
            self._unfinished = db.execute(
                "SELECT trace_id, span_id, instance FROM unfinished_spans"
            ).fetchall()
            self._losses = db.execute(
                "SELECT instance, reason, sum(span_count) AS n FROM losses GROUP BY instance, reason"
            ).fetchall()
            self._sums = dict(
                db.execute(
                    "SELECT 'totals', value FROM totals WHERE name = 'spans'"
                    " UNION ALL SELECT 'figures', coalesce(sum(calls), 0) FROM method_figures"
                    " WHERE resolution_s = 60"
                    " UNION ALL SELECT 'traces', coalesce(sum(span_count), 0) FROM traces"
                    " UNION ALL SELECT 'refusals', coalesce(sum(count), 0) FROM refusals"
                ).fetchall()
            )
        self.span_ids: set[tuple[bytes, bytes]] = {(row[0], row[1]) for row in self._spans}

    def has_received(self, incarnation: bytes, sequence: int) -> bool:
        """Return whether a sequence number is in the ranges of the file."""
        return any(
            incarnation.hex() == instance and first <= sequence < end for instance, first, end in self._ranges
        )

    def check(self) -> None:
        """Check the consistency of the file's tables."""
        for problem in self._problems():
            self._world.check(False, f"{self._name}: {problem}")

    def _problems(self) -> Iterator[str]:
        if len(self.span_ids) != len(self._spans):
            yield f"{len(self._spans) - len(self.span_ids)} spans are there twice"
        count = len(self._spans)
        if {self._sums[table] for table in ("totals", "figures", "traces")} != {count}:
            yield f"{count} spans, and {self._sums}"
        if self._sums["refusals"]:
            yield "something was refused"
        stored: dict[int, int] = {}
        for trace_id, span_id, instance in self._spans:
            stored[instance] = stored.get(instance, 0) + 1
            if (trace_id, span_id) not in self._program(instance).ids:
                yield f"a span of {self._program(instance).name} that it never ended"
        for trace_id, span_id, instance in self._unfinished:
            if (trace_id, span_id) in self.span_ids:
                yield f"a span of {self._program(instance).name} is stored and unfinished"
            if (trace_id, span_id) not in self._program(instance).opened:
                yield f"an unfinished span of {self._program(instance).name} that it never began"
        losses = {(row["instance"], row["reason"]): row["n"] for row in self._losses}
        for instance, incarnation in self._incarnations.items():
            row, name = self.publishers[incarnation], self._program(instance).name
            if row["spans_stored"] != stored.get(instance, 0):
                yield f"{name}: {stored.get(instance, 0)} spans, and {row['spans_stored']} in its account"
            for reason, column in LOSS_COLUMNS.items():
                lost = losses.get((instance, reason), 0)
                if row[column] != lost:
                    yield f"{name}: losses have {lost} {reason}, its account {row[column]}"

    def _program(self, instance: int) -> Program:
        return self._world.programs[self._incarnations[instance]]
