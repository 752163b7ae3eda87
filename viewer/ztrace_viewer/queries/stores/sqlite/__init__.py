"""One SQLite file as a store: the questions in SQL over the collector's own tables."""
