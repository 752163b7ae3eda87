"""A ClickHouse database as a store: the questions in its own SQL over the tables that collectors fill."""
