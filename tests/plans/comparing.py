"""Comparison of stored trees with the logs, both as nested documents that must be equal.

An exception is described by how it came about and the token of its origin, and, where the logs have it, by
its type and message.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.trees.tree import walk

Document = dict[str, Any]


class Logged:
    """Trees that follow from the events of all processes."""

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self._events: dict[tuple[str, str], dict[str, Any]] = {}
        self._calls: dict[str, list[str]] = defaultdict(list)
        for event in events:
            key = event["event"], event["token"]
            assert key not in self._events, f"{key} is logged twice"
            self._events[key] = event
            if event["event"] == "call":
                self._calls[event["by"]].append(event["token"])

    def predict(self, token: str, kind: str = "internal") -> Document:
        """Return the document of a work's span and all below it."""
        begin, end = self._events["begin", token], self._events["end", token]
        error = None
        if end["how"] == "passed":
            error = [self._origin(token), "passed"]
        elif end["how"] is not None:
            error = [self._origin(token), end["how"], end["type"], end["message"]]
        below = [self._predict_call(call) for call in self._calls[token]]
        return _document(kind, begin["service"], begin["name"], token, error, below)

    def _predict_call(self, token: str) -> Document:
        call, end = self._events["call", token], self._events["return", token]
        error = [self._origin(token), "passed"] if end["failed"] else None
        served = self.predict(token, "server")
        return _document("client", call["service"], call["name"], None, error, [served])

    def _origin(self, token: str) -> str:
        source: str | None = self._events["end", token]["source"]
        return token if source is None else self._origin(source)


def describe(tree: TreeDocument) -> Document:
    """Return the document of a stored tree.

    Raises:
        AssertionError: the tree is not whole.
    """
    assert (tree["complete"], len(tree["roots"])) == (True, 1), tree["missing"]
    spans = [span for span, _ in walk(tree["roots"])]
    tokens = {span["span_id"]: span["attributes"].get("work") for span in spans}
    return _describe(tree["roots"][0], tokens)


def _describe(span: SpanDocument, tokens: dict[str, Any]) -> Document:
    exception, error = span["exception"], None
    if exception is not None:
        error = [tokens.get(exception["origin_span_id"], "elsewhere"), exception["how"]]
        if exception["how"] != "passed":
            error += [exception["type"].rpartition(".")[2], exception["message"]]
    assert span["status"] == ("error" if error else "ok")
    below = [_describe(child, tokens) for child in span["children"]]
    return _document(span["kind"], span["service"], span["name"], tokens[span["span_id"]], error, below)


def _document(
    kind: str, service: str, name: str, token: str | None, error: list[Any] | None, below: list[Document]
) -> Document:
    span = f"{kind} {service}.{name} {token or ''}".strip()
    return {"span": span, "error": error, "below": sorted(below, key=json.dumps)}
