"""Comparison of documents with their types."""

from typing import Any, get_type_hints


def has_shape(document: Any, shape: Any) -> None:
    """Assert that a document has exactly the fields of a type."""
    hints = get_type_hints(shape)
    assert set(document) == set(hints), shape
