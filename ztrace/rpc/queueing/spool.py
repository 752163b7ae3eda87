"""Spool of a queue: jobs in a SQLite file, which outlives the process.

A job is in the file before `put` returns, and leaves it once its result is known. The file belongs to one
process at a time, and is readable only by its user. What the kernel has been given survives the end of the
process, however it ends; a crash of the machine can lose the last jobs.
"""

import json
import os
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import msgpack

from ztrace.errors import quote
from ztrace.rpc.errors import QueueError
from ztrace.rpc.queueing.tasks import Task

#: Marks of a file that is a spool, and of its layout.
APPLICATION_ID: Final = 0x7A74716A
VERSION: Final = 1

_LAYOUT: Final = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, body BLOB NOT NULL, key TEXT,
    timeout_s REAL, max_attempts INTEGER NOT NULL, backoff_s REAL NOT NULL, created_s REAL NOT NULL,
    due_s REAL NOT NULL, context TEXT NOT NULL, previous TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, serial INTEGER NOT NULL, failure BLOB, result BLOB, settled_s REAL NOT NULL
)
"""
_SAVE: Final = """
INSERT INTO jobs (id, name, body, key, timeout_s, max_attempts, backoff_s, created_s, due_s, context,
    previous, state, attempts, serial, failure, result, settled_s)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET due_s = excluded.due_s, previous = excluded.previous, state = excluded.state,
    attempts = excluded.attempts, serial = excluded.serial, failure = excluded.failure,
    result = excluded.result, settled_s = excluded.settled_s
"""
_LOAD: Final = """
SELECT id, name, body, key, timeout_s, max_attempts, backoff_s, created_s, due_s, context, previous, state,
    attempts, serial, failure, result, settled_s
FROM jobs ORDER BY number
"""


class Spool:
    """Open file of jobs; `close` releases it. Calls must not overlap, and may come from any thread.

    Raises:
        QueueError: the file cannot be opened, is in use, or is no spool.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._file = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from None
        try:
            # Exclusive before WAL: no shared memory is needed, and a second process is refused at once.
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute("BEGIN IMMEDIATE")
            self._prepare()
            self._file.execute("COMMIT")
        except BaseException as error:
            self._file.close()
            if isinstance(error, sqlite3.Error):
                raise _unusable(path, error) from None
            raise

    def load(self) -> list[Task]:
        """Return all jobs, in the order in which they were put."""
        tasks = []
        for row in self._file.execute(_LOAD):
            task = Task(*row)
            task.context, task.previous = json.loads(row[9]), json.loads(row[10])
            if row[14] is not None:
                args, details = _unpack(row[14])
                task.failure = (args, details)
            task.result = None if row[15] is None else _unpack(row[15])
            tasks.append(task)
        return tasks

    def save(self, kept: Iterable[Task], removed: Iterable[str]) -> None:
        """Write jobs as they are now, and delete others by their ids, all or nothing.

        Raises:
            QueueError: the disk is full, or cannot be written.
        """
        try:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany(_SAVE, [_row(task) for task in kept])
                self._file.executemany("DELETE FROM jobs WHERE id = ?", [(each,) for each in removed])
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from None

    def close(self) -> None:
        """Close the file, which the next process may open."""
        self._file.close()

    def _prepare(self) -> None:
        mark = self._file.execute("PRAGMA application_id").fetchone()[0]
        version = self._file.execute("PRAGMA user_version").fetchone()[0]
        if mark == APPLICATION_ID and version == VERSION:
            return
        if mark == APPLICATION_ID:
            raise QueueError(
                f"cannot use the spool {quote(self.path)}: another version of ztrace has written it"
            )
        if mark or version or self._file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise QueueError(f"cannot use {quote(self.path)}: it is not a spool", hint="give another file")
        self._file.execute(_LAYOUT)
        self._file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._file.execute(f"PRAGMA user_version = {VERSION}")


def _row(task: Task) -> tuple[Any, ...]:
    return (
        task.id,
        task.name,
        task.body,
        task.key,
        task.timeout_s,
        task.max_attempts,
        task.backoff_s,
        task.created_s,
        task.due_s,
        json.dumps(task.context),
        json.dumps(task.previous),
        task.state,
        task.attempts,
        task.serial,
        None if task.failure is None else _pack(task.failure),
        None if task.result is None else _pack(task.result),
        task.settled_s,
    )


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True, datetime=True)
    return packed


def _unpack(packed: bytes) -> Any:
    return msgpack.unpackb(packed, raw=False, strict_map_key=False, timestamp=3)


def _unusable(path: str, error: Exception) -> QueueError:
    if "locked" in str(error):
        return QueueError(f"cannot open the spool {quote(path)}: another queue has it open")
    if "not a database" in str(error):
        return QueueError(f"cannot use {quote(path)}: it is not a spool", hint="give another file")
    return QueueError(f"cannot use the spool {quote(path)}: {error}")
