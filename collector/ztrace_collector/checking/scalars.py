"""Checks of single values that a peer has sent."""

from typing import Any

from ztrace.records import INT64_MAX


def is_id(value: Any, length: int) -> bool:
    """Return whether a value is an id: bytes of a length that are not all zero."""
    return type(value) is bytes and len(value) == length and any(value)


def is_count(value: Any) -> bool:
    """Return whether a value is a count or a time: an integer from 0 that SQLite and OTLP can hold."""
    return type(value) is int and 0 <= value <= INT64_MAX
