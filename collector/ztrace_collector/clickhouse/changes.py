"""Changes of the journal's rows that are copied to ClickHouse: the table ``changes`` and its triggers.

One idea: triggers note the key of each changed row, so no code that writes the tables knows of ClickHouse,
and the triggers exist only while a collector sends there. A row that changes again before it was sent is
noted once, at its last change. Ids are never reused, so they number the states of a row.
"""

import sqlite3

from ztrace_collector.clickhouse.mirrored import MIRRORED, SPAN_ID, TRACE_ID, Mirrored

#: Start of the triggers' names.
_PREFIX = "send_"
_TRIGGERS = f"SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB '{_PREFIX}*'"


def follow_changes(db: sqlite3.Connection) -> None:
    """Create the missing triggers, and note every row if there were none."""
    if db.execute(_TRIGGERS).fetchone():
        return
    for table in MIRRORED:
        for number, event in enumerate(table.events):
            _create_trigger(db, table, str(number), event, "NEW", "TRUE")
        if table.deleted_when is not None:
            _create_trigger(db, table, "deleted", "DELETE", "OLD", table.deleted_when)
    note_all(db)


def note_all(db: sqlite3.Connection) -> None:
    """Note every row, for an engine that has none of them."""
    db.execute("DELETE FROM changes")
    for table in MIRRORED:
        if "INSERT" in table.events:
            db.execute(
                "INSERT INTO changes (source, key, deleted)"
                f" SELECT '{table.name}', {_key(table, 't')}, 0 FROM {table.source} AS t"
            )


def ignore_changes(db: sqlite3.Connection) -> None:
    """Drop the triggers and what they have noted."""
    for (name,) in db.execute(_TRIGGERS).fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute("DELETE FROM changes")


def _create_trigger(
    db: sqlite3.Connection, table: Mirrored, suffix: str, event: str, row: str, condition: str
) -> None:
    # Two statements, since the conflict clause of the statement that fires it overrides a trigger's own.
    key = _key(table, row)
    if row == "OLD" and table.deleted_key:
        key = f"json_array({', '.join(expression for _, expression in table.deleted_key)})"
    db.execute(
        f"CREATE TRIGGER {_PREFIX}{table.name}_{suffix} AFTER {event} ON {table.source}"
        f" WHEN {condition} BEGIN"
        f" DELETE FROM changes WHERE source = '{table.name}' AND key = {key};"
        f" INSERT INTO changes (source, key, deleted) VALUES ('{table.name}', {key}, {int(row == 'OLD')});"
        " END"
    )


def _key(table: Mirrored, row: str) -> str:
    """Return the SQL expression of a row's key: a number, or the values of several columns as JSON."""
    if len(table.key) == 1:
        return f"{row}.{table.key[0]}"
    kinds = dict(table.columns)
    parts = [
        f"hex({row}.{name})" if kinds[name] in (TRACE_ID, SPAN_ID) else f"{row}.{name}" for name in table.key
    ]
    return f"json_array({', '.join(parts)})"
