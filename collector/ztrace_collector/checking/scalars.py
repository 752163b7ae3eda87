"""Checks of single values from peers."""

from typing import Any

from ztrace.records import INT64_MAX


def is_id(value: Any, length: int) -> bool:
    """Return whether a value is an id: bytes of the given length that are not all zero."""
    return type(value) is bytes and len(value) == length and any(value)


def is_count(value: Any) -> bool:
    """Return whether a value is a count or a time: an integer from 0 to the limit of SQLite and OTLP."""
    return type(value) is int and 0 <= value <= INT64_MAX
