"""Version 1 of the API, for Grafana's data source and for Jaeger's page up to 2.18."""

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace.errors import NotFoundError
from ztrace_viewer.export.jaeger import make_traces
from ztrace_viewer.queries.calls import count_calls
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.names import list_operations, list_services
from ztrace_viewer.web.answers import answer_data, answer_error
from ztrace_viewer.web.asking import SEARCH_S, Asker
from ztrace_viewer.web.jaeger.gaps import add_warnings
from ztrace_viewer.web.jaeger.loading import Loaded, load_traces
from ztrace_viewer.web.jaeger.parameters import (
    ParameterError,
    parse_boolean,
    parse_integer,
    parse_trace_id,
    parse_trace_ids,
    read_stretch,
    read_version_1,
)
from ztrace_viewer.web.jaeger.search import search

NOT_FOUND = "trace not found"
_NOT_IMPLEMENTED = 501


def make_routes(asker: Asker) -> list[Route]:
    """Return the routes of version 1."""

    def services(request: Request) -> Response:
        names = asker.ask(list_services)
        return answer_data(request, names, total=len(names))

    def operations_of(request: Request) -> Response:
        service = str(request.path_params["service"])
        operations = asker.ask(lambda store: list_operations(store, service))
        names = list(dict.fromkeys(operation.name for operation in operations))
        return answer_data(request, names, total=len(names))

    def operations(request: Request) -> Response:
        query = request.query_params
        service = query.get("service", "")
        if not service:
            raise ParameterError("service is required")
        found = asker.ask(lambda store: list_operations(store, service, query.get("spanKind", "")))
        data = [{"name": each.name, "spanKind": each.kind} for each in found]
        return answer_data(request, data, total=len(data))

    def traces(request: Request) -> Response:
        texts = request.query_params.getlist("traceID")
        question = read_version_1(request.query_params)
        if texts:
            return _answer_ids(request, parse_trace_ids(texts))
        deadline = Deadline(SEARCH_S)
        found, loaded = asker.ask(
            lambda store: (
                found := search(store, question, deadline),
                load_traces(store, [trace.trace_id for trace in found.traces]),
            )
        )
        return answer_data(
            request,
            add_warnings(make_traces(loaded.requests), loaded.opened),
            note="; ".join(filter(None, (found.note, loaded.note))),
        )

    def _answer_ids(request: Request, trace_ids: list[bytes]) -> Response:
        loaded = asker.ask(lambda store: load_traces(store, trace_ids))
        data = add_warnings(make_traces(loaded.requests), loaded.opened)
        there = {trace["traceID"] for trace in data}
        missing = [trace_id.hex() for trace_id in trace_ids if trace_id.hex() not in there]
        errors = [] if loaded.left_out else [{"msg": NOT_FOUND, "traceID": each} for each in missing]
        return answer_data(request, data, errors=errors, note=loaded.note)

    def trace(request: Request) -> Response:
        query = request.query_params
        trace_id = parse_trace_id(request.path_params["trace"])
        # Times are checked and ignored: Grafana gives them in another unit than Jaeger's page.
        for name in ("start", "end"):
            if query.get(name):
                parse_integer(query[name], name)
        parse_boolean(query.get("raw", ""), "raw")
        loaded: Loaded = asker.ask(lambda store: load_traces(store, [trace_id]))
        if not loaded.requests:
            raise NotFoundError(NOT_FOUND)
        return answer_data(
            request, add_warnings(make_traces(loaded.requests), loaded.opened), note=loaded.note
        )

    def dependencies(request: Request) -> Response:
        query = request.query_params
        start_ns, end_ns = read_stretch(query, time.time_ns())
        deadline = Deadline(SEARCH_S)
        calls = asker.ask(lambda store: count_calls(store, start_ns, end_ns, deadline))
        service = query.get("service", "")
        data = [
            {"parent": caller, "child": callee, "callCount": count}
            for (caller, callee), count in sorted(calls.counts.items())
            if service in ("", caller, callee)
        ]
        return answer_data(request, data, note=calls.note)

    def metrics(request: Request) -> Response:
        return answer_error(request, _NOT_IMPLEMENTED, "metrics are not supported; see 'ztrace stats'")

    return [
        Route("/api/services", services),
        # Grafana does not escape slashes of a service's name in the path.
        Route("/api/services/{service:path}/operations", operations_of),
        Route("/api/operations", operations),
        Route("/api/traces", traces),
        Route("/api/traces/{trace}", trace),
        Route("/api/dependencies", dependencies),
        Route("/api/metrics/{kind}", metrics),
    ]
