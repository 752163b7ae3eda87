"""Reasons of failed spans that have no exception, from their status and their attributes."""

import json
from typing import Any

#: Attributes with the status code of a protocol, by the protocol's name; the first one present counts.
_CODES = (
    ("http.response.status_code", "HTTP"),
    ("http.status_code", "HTTP"),
    ("rpc.response.status_code", "status"),
    ("rpc.grpc.status_code", "gRPC status"),
)
_ERROR_TYPE = "error.type"


def read_reason(details: str | None, attributes: str | None) -> str:
    """Return the reason of a failure: the status text, otherwise a status code or the type of the error.

    Args:
        details: the span's details as JSON.
        attributes: the span's attributes as JSON.
    """
    text = _load(details).get("status_message")
    if type(text) is str and text.strip():
        return text
    found = _load(attributes)
    for key, protocol in _CODES:
        code = found.get(key)
        if type(code) is int or (type(code) is str and code):
            return f"{protocol} {code}"
    kind = found.get(_ERROR_TYPE)
    return kind if type(kind) is str else ""


def _load(text: str | None) -> dict[str, Any]:
    value = json.loads(text) if text else None
    return value if type(value) is dict else {}
