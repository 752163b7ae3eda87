"""Comparison of stored trees with journals, both as nested documents that must be equal.

One idea: the journals record the callers, the callees and the results, so the whole tree can be predicted: a
client span per call and a server span per served call, each once, below the right parent, with the right
error.
Then each span is compared in time with its journal entry.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.ztrace.middleware.zerorpc.journal import Entry
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.trees.tree import walk

#: Largest difference between the wall clock of journals and the clock of spans.
TOLERANCE_NS = 50_000_000

_CALLERS = ("client", "producer")


@dataclass
class Unlogged:
    """Facts of a scenario that the journals do not record.

    Attributes:
        errors: by kind and token, the error of a span if not the journalled one; None for no error.
        served: by token, the service and the error of a call that reached a server but none of its methods.
        unserved: tokens of calls whose server was killed, so that its span cannot be stored.
        inside: tokens of calls made within a span, with the span's name.
        untimed: tokens of calls that their caller gave up, so that their times are not compared.
        alone: by the token of a server's call, the name and the error of a span in it that makes no calls.
    """

    errors: Mapping[tuple[str, str], str | None] = field(default_factory=dict)
    served: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unserved: Collection[str] = ()
    inside: Mapping[str, str] = field(default_factory=dict)
    untimed: Collection[str] = ()
    alone: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)


@dataclass
class Node:
    """Predicted span, with the journal entry it follows from."""

    kind: str
    service: str
    name: str
    token: str | None = None
    pid: int | None = None
    error: str | None = None
    entry: Entry | None = None
    children: list["Node"] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return the document that the stored span is compared with."""
        return {
            "kind": self.kind,
            "service": self.service,
            "name": self.name,
            "token": self.token,
            "pid": self.pid,
            "status": "error" if self.error else "ok",
            "error": self.error,
            "children": [child.document() for child in self.children],
        }

    def count(self) -> int:
        """Return the predicted number of spans."""
        return 1 + sum(child.count() for child in self.children)


def predict_scenario(
    token: str, entries: Iterable[Entry], driver: tuple[str, int], unlogged: Unlogged, error: str | None
) -> Node:
    """Predict a scenario's tree: the root span in the driver, and the calls below it."""
    service, pid = driver
    calls = _Calls(entries, unlogged)
    root = Node("internal", service, "scenario", token, pid, error)
    root.children = _sorted(calls.below(token))
    return root


def predict_served(token: str, entries: Iterable[Entry], unlogged: Unlogged) -> Node:
    """Predict the tree of a call made by an untraced client, whose server span is the root."""
    (node,) = _Calls(entries, unlogged).served(token)
    return node


def predict_call(token: str, entries: Iterable[Entry], unlogged: Unlogged) -> Node:
    """Predict the tree of a call made without a context, whose client span is the root."""
    return _Calls(entries, unlogged).made(token)


class _Calls:
    def __init__(self, entries: Iterable[Entry], unlogged: Unlogged) -> None:
        self._entries = list(entries)
        self._unlogged = unlogged

    def below(self, token: str) -> Iterator[Node]:
        groups: dict[str, Node] = {}
        for entry in self._entries:
            if entry.kind not in _CALLERS or entry.token.rpartition(".")[0] != token:
                continue
            if not entry.traced:
                continue
            node = self.made(entry.token)
            group = self._unlogged.inside.get(entry.token)
            if group is None:
                yield node
            elif group in groups:
                groups[group].children.append(node)
            else:
                error = self._unlogged.errors.get(("internal", group))
                groups[group] = Node("internal", entry.service, group, None, entry.pid, error, None, [node])
        for node in groups.values():
            node.children = _sorted(node.children)
            yield node

    def made(self, token: str) -> Node:
        (entry,) = [e for e in self._entries if e.kind in _CALLERS and e.token == token]
        node = Node(entry.kind, entry.service, entry.name, None, entry.pid, self._error(entry), entry)
        served = list(self.served(token))
        if token in self._unlogged.served:
            service, error = self._unlogged.served[token]
            kind = "server" if entry.kind == "client" else "consumer"
            served.append(Node(kind, service, entry.name, error=error))
        node.children = _sorted(served)
        return node

    def served(self, token: str) -> Iterator[Node]:
        for entry in self._entries:
            if entry.kind in _CALLERS or entry.token != token or not entry.traced:
                continue
            if token in self._unlogged.unserved:
                continue
            error = self._error(entry)
            node = Node(entry.kind, entry.service, entry.name, token, entry.pid, error, entry)
            node.children = _sorted(self.below(token))
            if token in self._unlogged.alone:
                name, error = self._unlogged.alone[token]
                node.children.append(Node("internal", entry.service, name, None, entry.pid, error))
            yield node

    def _error(self, entry: Entry) -> str | None:
        return self._unlogged.errors.get((entry.kind, entry.token), entry.error)


def _sorted(nodes: Iterable[Node]) -> list[Node]:
    return sorted(
        nodes,
        key=lambda node: (json.dumps(_unknown(node.document())), node.entry.begin_ns if node.entry else 0),
    )


def _unknown(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without a `Node`'s optional fields, for a sort order shared by both sides."""
    return document | {"pid": None, "children": [_unknown(child) for child in document["children"]]}


def compare(
    tree: TreeDocument, expected: Node, unlogged: Unlogged, *, complete: bool = True
) -> list[tuple[SpanDocument, Node]]:
    """Assert that the tree equals the prediction, is complete, and agrees with the journals in time.

    Returns:
        Each span with its predicted node, the root first.
    """
    spans = [span for span, _ in walk(tree["roots"])]
    assert len({span["span_id"] for span in spans}) == len(spans), "a span ended twice"
    assert (tree["complete"], bool(tree["missing"])) == (complete, not complete), tree["missing"]
    assert len(tree["roots"]) == 1
    (root,) = tree["roots"]
    stored, pairs = _pair(root, expected)
    assert stored == expected.document()
    _check_origins(spans)
    for span, node in pairs:
        assert span["duration_ns"] is not None
        assert 0 <= (span["self_ns"] or 0) <= span["duration_ns"]
        assert span["cpu_ns"] is None
        if span["kind"] in ("client", "server"):
            assert span["attributes"]["rpc.system.name"] == "zerorpc"
        if node.entry is not None and span["kind"] in ("server", "consumer"):
            _check_context(tree["trace_id"], span, node.entry)
        if node.entry is not None and node.entry.token not in unlogged.untimed:
            _check_time(span, node.entry)
        for child in span["children"]:
            assert child["start_ns"] >= span["start_ns"] - TOLERANCE_NS
    return pairs


def _pair(span: SpanDocument, node: Node) -> tuple[dict[str, Any], list[tuple[SpanDocument, Node]]]:
    """Return the span as a node's document, and each span paired with its node as far as they match."""
    children = sorted(span["children"], key=lambda child: (_order(child), child["start_ns"]))
    pairs = [(span, node)]
    documents = []
    for position, child in enumerate(children):
        beside = node.children[position] if position < len(node.children) else Node("?", "?", "?")
        document, below = _pair(child, beside)
        documents.append(document)
        pairs += below
    return _document(span, documents, known_pid=node.pid is not None), pairs


def _document(span: SpanDocument, children: list[dict[str, Any]], *, known_pid: bool) -> dict[str, Any]:
    return {
        "kind": span["kind"],
        "service": span["service"],
        "name": span["name"],
        "token": span["attributes"].get("scenario"),
        "pid": span["instance"]["pid"] if known_pid else None,
        "status": span["status"],
        "error": span["exception"]["type"] if span["exception"] else None,
        "children": children,
    }


def _order(span: SpanDocument) -> str:
    def document(span: SpanDocument) -> dict[str, Any]:
        children = sorted(span["children"], key=lambda child: (_order(child), child["start_ns"]))
        return _document(span, [document(child) for child in children], known_pid=False)

    return json.dumps(document(span))


def _check_time(span: SpanDocument, entry: Entry) -> None:
    begin_ns, end_ns = span["start_ns"], span["start_ns"] + (span["duration_ns"] or 0)
    assert entry.end_ns is not None, f"{entry} did not end"
    if span["kind"] in _CALLERS:  # The caller's journal entry is around its span.
        assert entry.begin_ns - TOLERANCE_NS <= begin_ns
        assert end_ns <= entry.end_ns + TOLERANCE_NS
    else:  # A server's span is around its method's journal entry.
        assert begin_ns <= entry.begin_ns + TOLERANCE_NS
        assert end_ns >= entry.end_ns - TOLERANCE_NS
    if span["kind"] == "client":  # A client that gave up, or stopped reading, is the shorter one.
        for served in span["children"]:
            if (span["status"], served["status"]) == ("ok", "ok"):
                assert (span["duration_ns"] or 0) >= (served["duration_ns"] or 0) - TOLERANCE_NS


def _check_context(trace_id: str, span: SpanDocument, entry: Entry) -> None:
    """Assert that a received context names the parent span, and that otherwise the span is a root."""
    if span["parent_id"] is not None:
        assert str(entry.traceparent)[2:].startswith(f"-{trace_id}-{span['parent_id']}-")
    elif entry.traceparent is not None:
        assert trace_id not in str(entry.traceparent)


def _check_origins(spans: list[SpanDocument]) -> None:
    """Assert that a passed exception refers to its origin's span in the tree, and has the same group."""
    by_id = {span["span_id"]: span for span in spans}
    for span in spans:
        exception = span["exception"]
        if exception is None:
            continue
        origin = by_id[exception["origin_span_id"]]["exception"]
        assert origin is not None
        assert (origin["origin"], origin["group"]) == (True, exception["group"] or None)
        assert exception["origin"] == (span["span_id"] == exception["origin_span_id"])


def ways(tree: TreeDocument) -> list[tuple[str, str, str, str]]:
    """Return the kind, service, path and message of each span with an exception."""
    return [
        (span["kind"], span["service"], span["exception"]["how"], span["exception"]["message"])
        for span, _ in walk(tree["roots"])
        if span["exception"] is not None
    ]


def origins(tree: TreeDocument) -> set[tuple[str, str]]:
    """Return the kind and service of the spans in which exceptions were first raised."""
    return {
        (span["kind"], span["service"])
        for span, _ in walk(tree["roots"])
        if span["exception"] is not None and span["exception"]["origin"]
    }


def find(tree: TreeDocument, kind: str, service: str, name: str | None = None) -> SpanDocument:
    """Return the only span of a kind and service."""
    (span,) = [
        span
        for span, _ in walk(tree["roots"])
        if (span["kind"], span["service"]) == (kind, service) and name in (None, span["name"])
    ]
    return span
