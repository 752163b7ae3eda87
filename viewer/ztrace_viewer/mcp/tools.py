"""The tools: each a question, answered as text.

One idea: a tool is a plain function of a database and of texts, as the command's options have them; the
signature is what the agent is told.
"""

import time
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace_viewer.documents.errors import GroupSummary
from ztrace_viewer.mcp.texts import cut, find_own_frame, tell_attributes, tell_groups, tell_tree, write_text
from ztrace_viewer.queries.comparison import compare
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.explaining import explain as find_causes
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.finding import SEARCH_S, Conditions, find_calls, parse_words
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.identifiers import find_group, find_trace, shorten_traces
from ztrace_viewer.queries.profile import read_profile
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.conditions import FREQUENT, NEWEST, Filter
from ztrace_viewer.queries.stores.opening import Stores
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.queries.way import LATEST, read_error
from ztrace_viewer.render.code import MOST_CODE
from ztrace_viewer.render.comparison import draw_diff, draw_explanation
from ztrace_viewer.render.error import draw_error
from ztrace_viewer.render.found import draw_found
from ztrace_viewer.render.lists import draw_slow, draw_stats
from ztrace_viewer.render.profile import draw_profile
from ztrace_viewer.render.status import draw_status
from ztrace_viewer.terminal.durations import parse_duration
from ztrace_viewer.terminal.moments import (
    format_ago,
    format_moment,
    parse_moment,
    parse_stretch,
    write_moment,
)
from ztrace_viewer.trees.finding import find_span

Since = Annotated[
    str | None, Field(description="start of the time: 15m, 2h or 7d ago, or ISO 8601; none: everything")
]
Until = Annotated[str | None, Field(description="end of the time, written like since; none: now")]
Service = Annotated[str | None, Field(description="exact name of a service")]
Method = Annotated[str | None, Field(description="exact name of a method, without its service")]
Limit = Annotated[int, Field(ge=1, le=100, description="most rows")]
Root = Annotated[str | None, Field(description="SERVICE.METHOD of the roots; none: all roots")]
Stretch = Annotated[str, Field(description="stretch of time: 2h..1h, or 14:00..14:20")]

#: Rows of each part of the overview.
_FEW = 6
#: Columns by which methods are sorted.
_ORDERS = {"own": "self_ns", "total": "total_ns", "p95": "p95_ns", "errors": "errors", "calls": "calls"}

T = TypeVar("T")


class Tools:
    """Questions to one database."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def list_all(self) -> list[Callable[..., str]]:
        """Return the tools in the order in which they are listed."""
        return [
            self.overview,
            self.slow,
            self.find,
            self.trace,
            self.errors,
            self.error,
            self.stats,
            self.profile,
            self.diff,
            self.explain,
            self.status,
        ]

    def overview(self, since: Since = None) -> str:
        """Begin here: what is stored and lost, the slowest trees, the newest errors, methods by own time."""
        now_ns, selection = time.time_ns(), self._select(since)

        def read(store: Store) -> str:
            status = read_status(store, now_ns, 1)
            figures = list_methods(store, selection)
            figures["methods"].sort(key=lambda method: -method["self_ns"])
            del figures["methods"][_FEW:]
            slowest = list_slowest(store, selection, _FEW, now_ns)
            short_ids = shorten_traces(store, [trace["trace_id"] for trace in slowest["traces"]])
            groups = list_groups(store, selection, _FEW, Filter(), NEWEST, now_ns)["groups"]
            services = [each["service"] for each in status["services"]]
            first_ns = store.first_start()
            began = "" if first_ns is None else f", the first {format_ago(first_ns, now_ns)}"
            return "\n".join(
                [
                    f"{status['spans_stored']:,} spans in {status['traces_stored']:,} trees{began},"
                    f" {status['spans_lost']:,} lost, {status['unfinished']:,} unfinished;"
                    f" services: {', '.join(services)}",
                    "",
                    "Slowest call trees (go on with trace)",
                    write_text(draw_slow(slowest, short_ids, 120, now_ns)) if slowest["traces"] else "none",
                    "",
                    "Newest errors (go on with error)",
                    tell_groups(groups) or "none",
                    "",
                    "Methods with the most own time (go on with profile)",
                    write_text(draw_stats(figures, 120)) if figures["methods"] else "none",
                ]
            )

        return cut(self._ask(read))

    def slow(
        self,
        since: Since = None,
        until: Until = None,
        service: Service = None,
        method: Method = None,
        errors: Annotated[bool, Field(description="only trees with a failed call")] = False,
        limit: Limit = 15,
    ) -> str:
        """The slowest call trees; service and method are the root's. Go on with trace."""
        now_ns, selection = time.time_ns(), self._select(since, until, service, method)

        def read(store: Store) -> str:
            document = list_slowest(store, selection, limit, now_ns, errors=errors)
            if not document["traces"]:
                inner = "; calls within trees are found by find" if service or method else ""
                return f"no call trees{inner}; choose a longer time, or see overview for the services"
            short_ids = shorten_traces(store, [trace["trace_id"] for trace in document["traces"]])
            return write_text(draw_slow(document, short_ids, 120, now_ns))

        return self._ask(read)

    def find(
        self,
        text: Annotated[str, Field(description="words that all occur in a call: charge customer=Ada")] = "",
        since: Since = None,
        until: Until = None,
        service: Service = None,
        method: Method = None,
        min_time: Annotated[str | None, Field(description="shortest duration, as in 250ms")] = None,
        max_time: Annotated[str | None, Field(description="longest duration")] = None,
        errors: Annotated[bool, Field(description="only failed calls")] = False,
        limit: Limit = 15,
    ) -> str:
        """Calls anywhere in a tree, by name, attribute, exception, duration and outcome, the newest first."""
        now_ns, selection = time.time_ns(), self._select(since, until, service, method)
        texts, attributes = parse_words(text.split())
        least, most = (None if each is None else parse_duration(each) for each in (min_time, max_time))
        conditions = Conditions(texts, attributes, least, most, errors)

        def read(store: Store) -> str:
            document = find_calls(store, conditions, selection, limit, now_ns, Deadline(SEARCH_S))
            reached = document["searched_since_ns"]
            told = ""
            if reached is not None:
                told = (
                    f"\nsearched back to {format_moment(reached)} in {SEARCH_S:g} s;"
                    f" until={write_moment(reached)} goes on from there"
                )
            if not document["spans"]:
                words = "" if reached or not text else "; fewer words find more, and a value needs no key"
                return f"no calls{words}{told}"
            short_ids = shorten_traces(store, [span["trace_id"] for span in document["spans"]])
            sought = [*texts, *(key for key, _ in attributes)]
            return write_text(draw_found(document, sought, short_ids, 130, now_ns)) + told

        return self._ask(read)

    def trace(
        self,
        trace_id: Annotated[str, Field(description="beginning of a trace id")],
        span: Annotated[
            str | None, Field(description="id or name of a call: it in full, and what is below it")
        ] = None,
        min_time: Annotated[
            str, Field(description="count shorter calls only, as in 5ms; failed ones stay")
        ] = "0ms",
        depth: Annotated[int, Field(ge=1, le=200, description="levels of calls")] = 30,
    ) -> str:
        """One call tree, or one call of it with its attributes. Look at own time on the critical path."""
        least_ns = parse_duration(min_time)

        def read(store: Store) -> str:
            tree = read_tree(store, find_trace(store, trace_id), time.time_ns())
            if span is None:
                return tell_tree(tree, tree["roots"], least_ns, depth)
            found = find_span(tree, span)
            return cut("\n".join([tell_tree(tree, [found], least_ns, depth), "", *tell_attributes(found)]))

        return self._ask(read)

    def errors(
        self,
        since: Since = None,
        until: Until = None,
        service: Service = None,
        method: Method = None,
        text: Annotated[str | None, Field(description="occurs in the type or the message")] = None,
        file: Annotated[
            str | None, Field(description="end of a file's path in which the error began")
        ] = None,
        order: Literal["newest", "frequent"] = "newest",
        resolved: Annotated[bool, Field(description="include resolved ones")] = False,
        limit: Limit = 15,
    ) -> str:
        """Exceptions grouped by where they began, across processes. Go on with error."""
        selection = self._select(since, until, service, method)
        wanted = Filter(None, text, resolved)
        sort = FREQUENT if order == "frequent" else NEWEST
        # Files are compared here, so more groups are read than may be listed.
        most = limit if file is None else 1000

        def read(store: Store) -> str:
            groups = list_groups(store, selection, most, wanted, sort, time.time_ns())["groups"]
            if file is not None:
                groups = [group for group in groups if _began_in(group, file)][:limit]
            return cut(tell_groups(groups)) or "no errors; choose a longer time, or resolved ones too"

        return self._ask(read)

    def error(
        self,
        group: Annotated[str, Field(description="beginning of an error's id")],
        sample: Annotated[str, Field(description="first, latest, or a trace id of a sample")] = LATEST,
        all_frames: Annotated[bool, Field(description="include frames of libraries")] = False,
    ) -> str:
        """One error as one traceback, from the incoming call to the line that raised it."""
        now_ns = time.time_ns()
        document = self._ask(lambda store: read_error(store, find_group(store, group), sample, now_ns))
        return write_text(draw_error(document, 120, now_ns, libraries=all_frames))

    def stats(
        self,
        since: Since = None,
        until: Until = None,
        service: Service = None,
        method: Method = None,
        order: Literal["own", "total", "p95", "errors", "calls"] = "own",
        limit: Limit = 25,
    ) -> str:
        """Figures of every method: calls, errors, quantiles, total and own time."""
        selection = self._select(since, until, service, method)
        document = self._ask(lambda store: list_methods(store, selection))
        key = _ORDERS[order]
        document["methods"].sort(key=lambda row: -(row[key] or 0))  # type: ignore[literal-required]
        left = len(document["methods"]) - limit
        del document["methods"][limit:]
        if not document["methods"]:
            return "no calls; choose a longer time, or see overview for the services"
        more = f"\n… {left:,} more methods" if left > 0 else ""
        return write_text(draw_stats(document, 120)) + more

    def profile(
        self,
        root: Root = None,
        since: Since = None,
        until: Until = None,
        limit: Annotated[int, Field(ge=1, le=200, description="most paths")] = 40,
    ) -> str:
        """Where the time of many call trees goes, by call path, and in the code if that was sampled."""
        selection = self._select(since, until)
        document = self._ask(
            lambda store: read_profile(store, root, selection, limit, time.time_ns(), most_code=MOST_CODE)
        )
        if not document["paths"]:
            return "no call trees; a tree counts ten seconds after its last span"
        return write_text(draw_profile(document, 120, whole=False))

    def diff(self, before: Stretch, after: Stretch, root: Root = None) -> str:
        """Which call paths became slower or faster between two times, and whether that is sure."""
        now_ns = time.time_ns()
        old, new = parse_stretch(before, now_ns), parse_stretch(after, now_ns)
        document = self._ask(lambda store: compare(store, root, old, new, None, now_ns))
        for name, side in (("before", document["before"]), ("after", document["after"])):
            if not side["traces"]:
                raise NotFoundError(
                    f"no call trees {name}",
                    hint="choose other times; overview says since when there are trees",
                )
        return write_text(draw_diff(document, 120))

    def explain(
        self,
        root: Annotated[str, Field(description="SERVICE.METHOD of the roots")],
        since: Since = None,
        until: Until = None,
    ) -> str:
        """Which attributes and call paths set the slow trees of a root apart from the rest."""
        selection = self._select(since, until)
        document = self._ask(lambda store: find_causes(store, root, selection, None))
        return write_text(draw_explanation(document, 120))

    def status(self) -> str:
        """Who sends spans, and what is stored, unfinished, lost and refused, and why."""
        now_ns = time.time_ns()
        return write_text(draw_status(self._ask(lambda store: read_status(store, now_ns)), 120, now_ns))

    def _ask(self, question: Callable[[Store], T]) -> T:
        with self._stores.open() as store:
            return question(store)

    def _select(
        self,
        since: str | None = None,
        until: str | None = None,
        service: str | None = None,
        method: str | None = None,
    ) -> Selection:
        now_ns = time.time_ns()
        begin, end = (None if text is None else parse_moment(text, now_ns) for text in (since, until))
        if begin is not None and end is not None and begin >= end:
            raise SettingsError(
                f"since {quote(str(since))} is not before until", hint="5m is five minutes ago"
            )
        return Selection(begin, end, service, method)


def _began_in(group: GroupSummary, file: str) -> bool:
    frame = find_own_frame(group["frames"])
    return frame is not None and frame["file"].endswith(file)
