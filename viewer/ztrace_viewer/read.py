"""Reading functions for Python programs: what the commands print with ``--json``, as plain dictionaries.

One idea: a reader holds no file open. Each call opens it, reads one state of it and closes it, so a notebook
may stay open for days while the collector writes. Connections to ClickHouse are kept.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias, TypeVar

from ztrace.errors import SettingsError
from ztrace_viewer.documents.comparison import DiffDocument, ExplainDocument
from ztrace_viewer.documents.errors import ErrorDocument, ErrorsDocument
from ztrace_viewer.documents.figures import StatsTrendsDocument
from ztrace_viewer.documents.found import FindDocument
from ztrace_viewer.documents.map import MapDocument
from ztrace_viewer.documents.profile import PathStep, ProfileDocument
from ztrace_viewer.documents.status import StatusDocument
from ztrace_viewer.documents.traces import SlowDocument
from ztrace_viewer.documents.trees import FlatTreeDocument, SpanDocument, TreeDocument
from ztrace_viewer.queries.comparison import compare
from ztrace_viewer.queries.database import add_lists
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.explaining import explain
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.finding import SEARCH_S, Conditions, find_calls, parse_words
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.identifiers import find_group, find_trace
from ztrace_viewer.queries.profile import read_profile
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.service_map import read_map
from ztrace_viewer.queries.status import DEFAULT_LIMIT, read_status
from ztrace_viewer.queries.stores.conditions import FREQUENT, NEWEST, Filter, TreeKind
from ztrace_viewer.queries.stores.opening import Stores
from ztrace_viewer.queries.stores.source import read_source
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.queries.trends import read_trends
from ztrace_viewer.queries.way import LATEST, read_error
from ztrace_viewer.terminal.durations import parse_duration
from ztrace_viewer.terminal.moments import parse_moment, parse_stretch
from ztrace_viewer.trees.finding import find_span
from ztrace_viewer.trees.tree import flatten

#: Point in time: a text as for ``--since``, Unix nanoseconds, or a datetime, local without a zone.
Moment: TypeAlias = str | int | datetime
#: Duration: a text like ``250ms``, nanoseconds, or a timedelta.
Duration: TypeAlias = str | int | timedelta
#: Stretch of time: a text like ``2h..1h``, or its begin and end.
Stretch: TypeAlias = str | tuple[Moment, Moment]

T = TypeVar("T")


class Reader:
    """Reader of one store; its methods are named after the commands.

    Every method returns the document that its command prints with ``--json``. Nothing found is an empty list
    in the document. Ids may be shortened to their first digits.

    Raises:
        DatabaseError: from every method: the store cannot be read.
        NotFoundError: from every method: no trace, group, root or span has this id or name.
        SettingsError: from every method: an argument cannot be read.
    """

    def __init__(self, source: str | Path) -> None:
        """Prepare a reader; a file need not exist yet.

        Args:
            source: the database file of a collector, which may be running, or
                ``clickhouse://HOST/DATABASE``.

        Raises:
            SettingsError: the address cannot be read.
        """
        self._stores = Stores(read_source(source))

    def slow(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        service: str | None = None,
        method: str | None = None,
        errors: bool = False,
        limit: int = 20,
    ) -> SlowDocument:
        """List the slowest call trees.

        Args:
            since: start of the time in which trees began.
            until: its end.
            service: name of the root's service.
            method: name of the root.
            errors: only trees with a failed span.
            limit: most trees.
        """
        selection = _select(since, until, service, method)
        return self._ask(lambda store: list_slowest(store, selection, limit, time.time_ns(), errors=errors))

    def find(
        self,
        *words: str,
        since: Moment | None = None,
        until: Moment | None = None,
        service: str | None = None,
        method: str | None = None,
        min: Duration | None = None,
        max: Duration | None = None,
        errors: bool = False,
        limit: int = 20,
        timeout_s: float = SEARCH_S,
    ) -> FindDocument:
        """Find calls anywhere in a tree, the newest first.

        Args:
            words: texts that occur in the call, and ``KEY=VALUE`` for attributes; all have to.
            since: start of the time in which trees began.
            until: its end.
            service: name of the call's service.
            method: name of the call.
            min: shortest duration.
            max: longest duration.
            errors: only failed calls.
            limit: most calls.
            timeout_s: time after which the search ends; ``searched_since_ns`` says how far it came.
        """
        texts, attributes = parse_words(words)
        least_ns, most_ns = _parse_duration(min), _parse_duration(max)
        if least_ns is not None and most_ns is not None and least_ns > most_ns:
            raise SettingsError("min is longer than max", hint="swap them")
        conditions = Conditions(texts, attributes, least_ns, most_ns, errors)
        selection = _select(since, until, service, method)
        return self._ask(
            lambda store: find_calls(store, conditions, selection, limit, time.time_ns(), Deadline(timeout_s))
        )

    def tree(self, trace_id: str) -> TreeDocument:
        """Return one call tree, whose spans have their children."""
        return self._ask(lambda store: read_tree(store, find_trace(store, trace_id), time.time_ns()))

    def spans(self, trace_id: str) -> FlatTreeDocument:
        """Return one call tree, whose spans are a list with their depth, in the order of the tree."""
        return flatten(self.tree(trace_id))

    def span(self, trace_id: str, span_id: str) -> SpanDocument:
        """Return one span of a tree by its id or its name."""
        return find_span(self.tree(trace_id), span_id)

    def errors(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        service: str | None = None,
        method: str | None = None,
        type: str | None = None,
        text: str | None = None,
        resolved: bool = False,
        frequent: bool = False,
        limit: int | None = None,
    ) -> ErrorsDocument:
        """List exception groups, the newest first.

        Args:
            since: start of the time in which they are counted.
            until: its end.
            service: name of the origin's service.
            method: name of the origin.
            type: name of the exception class, with or without its module.
            text: part of the type or the message, in any case.
            resolved: include resolved groups.
            frequent: list the most frequent first.
            limit: most groups.
        """
        selection, wanted = _select(since, until, service, method), Filter(type, text, resolved)
        order = FREQUENT if frequent else NEWEST
        return self._ask(lambda store: list_groups(store, selection, limit, wanted, order, time.time_ns()))

    def error(self, group: str, sample: str = LATEST) -> ErrorDocument:
        """Return one exception group, and the way of one occurrence from the root to its origin.

        Args:
            group: id of the group.
            sample: ``first``, ``latest``, or the trace id of a sample.
        """
        return self._ask(lambda store: read_error(store, find_group(store, group), sample))

    def stats(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        service: str | None = None,
        method: str | None = None,
        limit: int | None = None,
    ) -> StatsTrendsDocument:
        """Return the figures of every method, that with the largest total first, and their trends.

        Args:
            since: start of the time in which calls ended.
            until: its end.
            service: name of the method's service.
            method: name of the method.
            limit: most methods.
        """
        selection = _select(since, until, service, method)

        def read(store: Store) -> StatsTrendsDocument:
            document = list_methods(store, selection, limit)
            return {**document, "trends": read_trends(store, document["methods"], selection)}

        return self._ask(read)

    def profile(
        self,
        root: str | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        service: str | None = None,
        errors: bool = False,
        limit: int | None = None,
    ) -> ProfileDocument:
        """Return where the time of many trees goes, by call path and by code where it was sampled.

        Args:
            root: ``SERVICE.METHOD`` of the trees' roots; None for all.
            since: start of the time in which trees ended.
            until: its end.
            service: name of the paths' last service.
            errors: only trees with a failed span.
            limit: most paths.
        """
        selection = _select(since, until, service, None)
        return self._ask(
            lambda store: read_profile(store, root, selection, limit, time.time_ns(), trees=TreeKind(errors))
        )

    def diff(
        self, before: Stretch, after: Stretch, root: str | None = None, *, limit: int | None = None
    ) -> DiffDocument:
        """Compare two stretches of time: which call paths changed, and whether that is sure.

        Args:
            before: the earlier stretch.
            after: the later one.
            root: ``SERVICE.METHOD`` of the trees' roots; None for all.
            limit: most paths.
        """
        one, other = _parse_stretch(before), _parse_stretch(after)
        return self._ask(lambda store: compare(store, root, one, other, limit, time.time_ns()))

    def explain(
        self,
        root: str,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
    ) -> ExplainDocument:
        """Return the attributes and paths that set the slow trees of a root apart.

        Args:
            root: ``SERVICE.METHOD`` of the trees' roots.
            since: start of the time in which trees began.
            until: its end.
            limit: most attributes, and most paths.
        """
        selection = _select(since, until, None, None)
        return self._ask(lambda store: explain(store, root, selection, limit))

    def map(self, *, since: Moment | None = None, until: Moment | None = None) -> MapDocument:
        """Return which services call which.

        Args:
            since: start of the time in which trees ended.
            until: its end.
        """
        selection = _select(since, until, None, None)
        return self._ask(lambda store: read_map(store, selection, time.time_ns()))

    def status(self, *, limit: int = DEFAULT_LIMIT) -> StatusDocument:
        """Return publishers, and what is stored, lost and refused, and why.

        Args:
            limit: most publishers, and most losses.
        """
        return self._ask(lambda store: read_status(store, time.time_ns(), limit))

    def close(self) -> None:
        """Close the connections to ClickHouse; the next call opens a new one. Of a file none is open."""
        self._stores.close()

    def _ask(self, question: Callable[[Store], T]) -> T:
        with self._stores.open() as store:
            return question(store)


def add_all_spans(db: sqlite3.Connection) -> None:
    """Add the temporary views ``all_spans`` and ``all_span_list`` to a connection to a database file.

    They have the columns of ``spans`` and ``span_list``, and also the spans of sealed traces. A condition on
    ``trace_id`` of ``all_spans`` decodes the traces that meet it, any other condition all of them.

    Args:
        db: the connection, which may be read-only.
    """
    add_lists(db)


def name_path(path: Sequence[PathStep]) -> str:
    """Return a call path as one text: ``shop.checkout › billing.charge``."""
    return " › ".join(f"{step['service']}.{step['name']}" for step in path)


def _select(since: Moment | None, until: Moment | None, service: str | None, method: str | None) -> Selection:
    begin, end = (None if each is None else _parse_moment(each) for each in (since, until))
    return Selection(begin, end, service, method)


def _parse_moment(moment: Moment) -> int:
    if isinstance(moment, str):
        return parse_moment(moment, time.time_ns())
    if isinstance(moment, datetime):
        return round(moment.timestamp() * 1e6) * 1_000
    return moment


def _parse_duration(duration: Duration | None) -> int | None:
    if isinstance(duration, str):
        return parse_duration(duration)
    if isinstance(duration, timedelta):
        return duration // timedelta(microseconds=1) * 1_000
    return duration


def _parse_stretch(stretch: Stretch) -> tuple[int, int]:
    if isinstance(stretch, str):
        return parse_stretch(stretch, time.time_ns())
    begin_ns, end_ns = map(_parse_moment, stretch)
    if begin_ns >= end_ns:
        raise SettingsError("a stretch of time ends before it begins", hint="give the earlier moment first")
    return begin_ns, end_ns
