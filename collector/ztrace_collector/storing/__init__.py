"""Transactions on the database file: all of a message is committed, or none of it.

This room opens the file and handles disk space, damage, internal errors and retention; `tables` has the
tables.
"""
