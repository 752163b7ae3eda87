"""ClickHouse behind the collector: its tables, and the process that sends rows of the SQLite file there."""
