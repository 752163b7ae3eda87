"""Transactions on the database file: all of a message is committed, or none of it.

Opening, disk space, damage and retention are handled here; the tables themselves are in `tables`.
"""
