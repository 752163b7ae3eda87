"""Queries of the database: the only SQL of the viewer, from rows to documents."""
