"""Migrations that create the tables and views of a database file, and bring an older file up to date.

A new version of the schema is a new function at the end of this module, and a new `layout.SCHEMA_VERSION`:
`sqlite_utils.Migrations` records which functions have run, and ``PRAGMA user_version`` counts them, for a
quick check by readers.
"""

from ztrace_collector.tables.schema import TABLES
from ztrace_collector.tables.sqlite_utils import Database, Migrations
from ztrace_collector.tables.views import VIEWS

migrations = Migrations("ztrace")


@migrations()
def create_tables(db: Database) -> None:
    """Create the tables and views of version 1."""
    for statement in (TABLES + VIEWS).split(";\n"):
        if statement.strip():
            db.execute(statement)
