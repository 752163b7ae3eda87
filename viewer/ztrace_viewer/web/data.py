"""Documents of the commands over HTTP, for the page: ``/data/slow?since=1h`` is ``ztrace slow --json``.

One idea: parameters have the names and the forms of the commands' options, and one route answers as one
command does.
"""

import os
import time
from collections.abc import Callable, Mapping

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace.errors import SettingsError, quote
from ztrace_collector.layout import OPEN, RESOLVED
from ztrace_viewer.documents.comparison import DiffDocument
from ztrace_viewer.documents.figures import StatsTrendsDocument
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.queries.comparison import compare
from ztrace_viewer.queries.contrasts import compare_slow, compare_values
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.explaining import explain
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.finding import Conditions, find_calls, parse_words
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.histogram import count_trees
from ztrace_viewer.queries.identifiers import find_group, find_trace
from ztrace_viewer.queries.names import list_services
from ztrace_viewer.queries.profile import read_profile
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.service_map import read_map
from ztrace_viewer.queries.stacks import read_span_stacks
from ztrace_viewer.queries.status import DEFAULT_LIMIT, read_status
from ztrace_viewer.queries.stores.conditions import FREQUENT, NEWEST, Filter
from ztrace_viewer.queries.stores.requesting import resolve
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.queries.traces import list_slowest, read_arrangement, read_tree
from ztrace_viewer.queries.trends import read_trends
from ztrace_viewer.queries.versions import VERSION_KEY, compare_versions
from ztrace_viewer.queries.way import LATEST, read_error
from ztrace_viewer.terminal.durations import parse_duration
from ztrace_viewer.terminal.links import EDITOR_VARIABLE
from ztrace_viewer.terminal.moments import parse_moment, parse_stretch
from ztrace_viewer.trees.clocks import MEASURED, RAW
from ztrace_viewer.trees.finding import find_span
from ztrace_viewer.web.answers import answer
from ztrace_viewer.web.asking import SEARCH_S, Asker
from ztrace_viewer.web.columns import TreeColumns, make_columns
from ztrace_viewer.web.paths import make_profile_columns

#: Most rows of a list, without ``limit`` and with it.
_LIMIT, _MOST = 50, 1000
#: Most methods of a profile whose code is answered, and stacks of each.
_MOST_CODE = (50, 100)
_TRUE = ("1", "true", "yes", "")


def make_routes(asker: Asker, database: Source) -> list[Route]:
    """Return the routes of documents.

    Args:
        asker: source of answers from the database.
        database: the database, for what is written to it.
    """

    def slow(request: Request) -> Response:
        query = _Query(request.query_params)
        return answer(
            request,
            asker.ask(
                lambda store: list_slowest(
                    store, query.selection(), query.limit(), query.now_ns, errors=query.is_set("errors")
                )
            ),
        )

    def find(request: Request) -> Response:
        query = _Query(request.query_params)
        texts, attributes = parse_words((query.text("text") or "").split())
        conditions = Conditions(
            texts, attributes, query.duration("min"), query.duration("max"), query.is_set("errors")
        )
        return answer(
            request,
            asker.ask(
                lambda store: find_calls(
                    store, conditions, query.selection(), query.limit(), query.now_ns, Deadline(SEARCH_S)
                )
            ),
        )

    def histogram(request: Request) -> Response:
        query = _Query(request.query_params)
        return answer(request, asker.ask(lambda store: count_trees(store, query.selection(), query.now_ns)))

    def errors(request: Request) -> Response:
        query = _Query(request.query_params)
        wanted = Filter(query.text("type"), query.text("text"), query.is_set("all"))
        order = query.text("sort") or NEWEST
        if order not in (NEWEST, FREQUENT):
            raise SettingsError(f"sort is {quote(order)}", hint=f"use {NEWEST} or {FREQUENT}")
        return answer(
            request,
            asker.ask(
                lambda store: list_groups(
                    store, query.selection(), query.limit(), wanted, order, query.now_ns
                )
            ),
        )

    def error(request: Request) -> Response:
        sample = request.query_params.get("sample") or LATEST
        return answer(
            request,
            asker.ask(
                lambda store: read_error(store, find_group(store, request.path_params["group"]), sample)
            ),
        )

    def change(request: Request) -> Response:
        if request.path_params["state"] not in (RESOLVED, OPEN):
            raise HTTPException(404)
        group = asker.ask(lambda store: find_group(store, request.path_params["group"]))
        resolve(database, group, time.time_ns(), reopen=request.path_params["state"] == OPEN)
        return answer(request, asker.ask(lambda store: read_error(store, group)))

    def stats(request: Request) -> Response:
        query = _Query(request.query_params)

        def read(store: Store) -> StatsTrendsDocument:
            document = list_methods(store, query.selection(), query.limit(_MOST))
            return {**document, "trends": read_trends(store, document["methods"], query.selection())}

        return answer(request, asker.ask(read))

    def profile(request: Request) -> Response:
        query = _Query(request.query_params)
        document = asker.ask(
            lambda store: read_profile(
                store, query.text("root"), query.selection(), None, query.now_ns, most_code=_MOST_CODE
            )
        )
        return answer(request, make_profile_columns(document) if query.is_set("columns") else document)

    def diff(request: Request) -> Response:
        query = _Query(request.query_params)
        return answer(request, asker.ask(lambda store: _compare(store, query)))

    def explanation(request: Request) -> Response:
        query = _Query(request.query_params)
        root = query.text("root")
        if root is None:
            raise SettingsError("root is missing", hint="give SERVICE.METHOD")
        return answer(
            request, asker.ask(lambda store: explain(store, root, query.selection(), query.limit()))
        )

    def service_map(request: Request) -> Response:
        query = _Query(request.query_params)
        return answer(request, asker.ask(lambda store: read_map(store, query.selection(), query.now_ns)))

    def status(request: Request) -> Response:
        query = _Query(request.query_params)
        return answer(
            request, asker.ask(lambda store: read_status(store, query.now_ns, query.limit(DEFAULT_LIMIT)))
        )

    def services(request: Request) -> Response:
        return answer(request, {"services": asker.ask(list_services)})

    def editor(request: Request) -> Response:
        return answer(request, {"template": os.environ.get(EDITOR_VARIABLE) or None})

    def trace(request: Request) -> Response:
        trace_id, is_measured = request.path_params["trace"], _Query(request.query_params).is_measured()

        def read(store: Store) -> TreeColumns:
            whole = find_trace(store, trace_id)
            tree = read_arrangement(store, whole, time.time_ns(), measured=is_measured)
            return make_columns(whole, *tree)

        return answer(request, asker.ask(read))

    def span(request: Request) -> Response:
        wanted, is_measured = str(request.path_params["span"]), _Query(request.query_params).is_measured()

        def read(store: Store) -> Mapping[str, object]:
            trace_id = find_trace(store, request.path_params["trace"])
            found: SpanDocument = find_span(read_tree(store, trace_id, measured=is_measured), wanted)
            stacks = read_span_stacks(store, trace_id, bytes.fromhex(found["span_id"]), found["service"])
            return {**found, "children": [], "stacks": stacks}

        return answer(request, asker.ask(read))

    documents: dict[str, Callable[[Request], Response]] = {
        "slow": slow,
        "find": find,
        "histogram": histogram,
        "errors": errors,
        "error/{group}": error,
        "stats": stats,
        "profile": profile,
        "diff": diff,
        "explain": explanation,
        "map": service_map,
        "status": status,
        "services": services,
        "editor": editor,
        "trace/{trace}": trace,
        "trace/{trace}/{span}": span,
    }
    return [
        *(Route(f"/data/{path}", answering) for path, answering in documents.items()),
        Route("/data/error/{group}/{state}", change, methods=["POST"]),
    ]


def _compare(store: Store, query: "_Query") -> DiffDocument:
    """Return the comparison that ``by``, ``slow`` or two stretches of time ask for."""
    root, by, limit = query.text("root"), query.text("by"), query.limit()
    before, after = query.text("before"), query.text("after")
    if by == VERSION_KEY:
        return compare_versions(store, root, before, after, query.selection(), limit, query.now_ns)
    if by is None and not query.is_set("slow"):
        times = query.stretch("before"), query.stretch("after")
        return compare(store, root, *times, limit, query.now_ns)
    if root is None:
        raise SettingsError("trees of one root are compared", hint="give SERVICE.METHOD as root")
    if by is None:
        return compare_slow(store, root, query.selection(), limit)
    if before is None and after is None:
        raise SettingsError(f"no value of {quote(by)} is given", hint="give before, after, or both")
    return compare_values(store, root, by, before, after, query.selection(), limit)


class _Query:
    """Parameters of a request, parsed as the commands' options are."""

    def __init__(self, parameters: QueryParams) -> None:
        self.now_ns = time.time_ns()
        self._parameters = parameters

    def text(self, name: str) -> str | None:
        """Return a parameter, None if it is missing or empty."""
        return self._parameters.get(name) or None

    def is_set(self, name: str) -> bool:
        """Return whether a flag is set."""
        value = self._parameters.get(name)
        return value is not None and value.lower() in _TRUE

    def is_measured(self) -> bool:
        """Return whether the measured offsets of clocks are taken out of times."""
        clocks = self.text("clocks") or MEASURED
        if clocks not in (MEASURED, RAW):
            raise SettingsError(f"clocks is {quote(clocks)}", hint=f"use {MEASURED} or {RAW}")
        return clocks == MEASURED

    def limit(self, default: int = _LIMIT) -> int:
        """Return the number of rows."""
        text = self.text("limit")
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MOST:
            raise SettingsError(f"limit is {quote(text)}", hint=f"give a number from 1 to {_MOST}")
        return int(text)

    def duration(self, name: str) -> int | None:
        """Return a duration in nanoseconds, None if it is not given."""
        text = self.text(name)
        return None if text is None else parse_duration(text)

    def selection(self) -> Selection:
        """Return the time and the names."""
        since, until = (
            None if (text := self.text(name)) is None else parse_moment(text, self.now_ns)
            for name in ("since", "until")
        )
        return Selection(since, until, self.text("service"), self.text("method"))

    def stretch(self, name: str) -> tuple[int, int]:
        """Return a stretch of time."""
        text = self.text(name)
        if text is None:
            raise SettingsError(f"{name} is missing", hint="give a stretch of time, like 2h..1h")
        return parse_stretch(text, self.now_ns)
